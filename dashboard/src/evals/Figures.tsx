import { figure } from "../format";
import { Icon } from "../parts/Icon";
import css from "./Evals.module.css";
import { type Interval, type Score, type Verdict, verdictOf } from "./scores";

/** Smaller values are rounding errors of zero. */
const ROUNDING = 1e-12;

/** A value with its 95% confidence interval. */
export function Value({ value, interval, signed }: { value: number; interval?: Interval; signed?: boolean }) {
  const write = (one: number) => {
    const exact = Math.abs(one) < ROUNDING ? 0 : one;
    return signed && exact > 0 ? `+${figure(exact)}` : figure(exact);
  };
  return (
    <>
      <b>{write(value)}</b>
      {interval && (
        <span className={css.interval}>
          {write(interval.low)} to {write(interval.high)}
        </span>
      )}
    </>
  );
}

const ICONS = { better: "succeeded", worse: "warn", "no clear difference": "info" } as const;
const TONES: Record<Verdict, string> = {
  better: css.better!,
  worse: css.worse!,
  "no clear difference": css.same!,
};

/** The verdict on a difference, with its interval drawn around zero; `reach` is the end of the drawing's scale. */
export function VerdictCell({ score, reach }: { score: Score; reach?: number }) {
  const verdict = verdictOf(score);
  if (!verdict) return null;
  const interval = score.difference?.interval;
  return (
    <span className={`${css.verdict} ${TONES[verdict]}`}>
      {interval && reach ? <Whisker interval={interval} value={score.difference!.value} reach={reach} /> : null}
      <Icon name={ICONS[verdict]} size={14} /> {verdict}
    </span>
  );
}

const WIDTH = 96;
const HEIGHT = 14;

function Whisker({ interval, value, reach }: { interval: Interval; value: number; reach: number }) {
  const x = (one: number) => WIDTH / 2 + (Math.max(-1, Math.min(1, one / reach)) * (WIDTH - 8)) / 2;
  return (
    <svg aria-hidden="true" className={css.whisker} width={WIDTH} height={HEIGHT} viewBox={`0 0 ${WIDTH} ${HEIGHT}`}>
      <path d={`M${WIDTH / 2} 0V${HEIGHT}`} className={css.zero} />
      <path d={`M${x(interval.low)} ${HEIGHT / 2}H${x(interval.high)}`} stroke="currentColor" strokeWidth="2" />
      <circle cx={x(value)} cy={HEIGHT / 2} r="3.5" fill="currentColor" />
    </svg>
  );
}
