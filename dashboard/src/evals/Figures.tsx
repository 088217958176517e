import { figure } from "../format";
import { Icon } from "../parts/Icon";
import css from "./Evals.module.css";
import { type Interval, type Score, type Verdict, verdictOf } from "./scores";

/** What is less than this is nought, reckoned in floats. */
const ROUNDING = 1e-12;

/** A figure and its 95% interval. */
export function Value({ value, interval, signed }: { value: number; interval?: Interval; signed?: boolean }) {
  const told = (one: number) => {
    const exact = Math.abs(one) < ROUNDING ? 0 : one;
    return signed && exact > 0 ? `+${figure(exact)}` : figure(exact);
  };
  return (
    <>
      <b>{told(value)}</b>
      {interval && (
        <span className={css.interval}>
          {told(interval.low)} to {told(interval.high)}
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

/** In a word, with a picture of the interval around nought; `reach` is where the picture ends. */
export function Judged({ score, reach }: { score: Score; reach?: number }) {
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
      <path d={`M${WIDTH / 2} 0V${HEIGHT}`} className={css.nought} />
      <path d={`M${x(interval.low)} ${HEIGHT / 2}H${x(interval.high)}`} stroke="currentColor" strokeWidth="2" />
      <circle cx={x(value)} cy={HEIGHT / 2} r="3.5" fill="currentColor" />
    </svg>
  );
}
