import { useContext, useMemo } from "react";
import uPlot from "uplot";
import type { Curve, Job } from "../api/jobs";
import { Chart, type Series } from "../charts/Chart";
import { count, duration, figure } from "../format";
import { Failure, Notice } from "../parts/Notice";
import { AXES, xOf } from "./axis";
import css from "./CurveCard.module.css";
import { HowDrawn, Smoothing } from "./Drawing";
import { useCurve } from "./live";

/** Enough for every pixel of a wide screen; the service's downsampling keeps the extremes. */
const POINTS = 2000;

interface Look {
  title: string;
  /** A training metric, and the evaluation metric that is drawn into the same chart. */
  train?: string;
  held?: string;
  group: string;
  value?: (y: number) => string;
  height?: number;
}

/** Loads the curves of a chart. The settings that only affect drawing reach `Curves` through a context, past this. */
export function CurveCard({ job, ...look }: Look & { job: Job }) {
  const { title, train = "", held = "" } = look;
  const smoothing = useContext(Smoothing);
  const trained = useCurve(job.id, { metric: train, split: "train", points: POINTS, smoothing });
  const evaluated = useCurve(job.id, { metric: held, split: "eval", points: POINTS });
  const clock = useCurve(job.id, { metric: "loss", split: "train", points: POINTS, smoothing });
  const error = trained.error ?? evaluated.error;
  return (
    <section className={css.card} aria-label={title}>
      <h2>{title}</h2>
      {error && <Failure error={error} />}
      <Curves
        {...look}
        trained={trained.curve}
        evaluated={evaluated.curve}
        clock={clock.curve}
        failed={error !== null}
      />
    </section>
  );
}

interface Data {
  trained: Curve | undefined;
  evaluated: Curve | undefined;
  /** The training loss, whose points have the time and the tokens of every step. */
  clock: Curve | undefined;
}

function Curves({ trained, evaluated, clock, failed, ...look }: Data & Look & { failed: boolean }) {
  const { title, train = "", held = "", group, value = figure, height } = look;
  const { x: by = "step", logx, logy, table } = useContext(HowDrawn);
  const drawing = useMemo(
    () => draw({ trained, evaluated, clock }, by, { train, held }),
    [trained, evaluated, clock, by, train, held],
  );
  // Memoized apart, since a change of the axes does not affect them.
  const gaps = useMemo(() => gapsOf(trained), [trained]);
  const label = useMemo(() => summary(title, trained ?? evaluated), [title, trained, evaluated]);
  return (
    <>
      {drawing && drawing.x.length > 0 ? (
        <Chart
          label={label}
          {...drawing}
          gaps={gaps.map((index) => xOf(trained!, by, clock)[index]!)}
          logX={logx}
          logY={logy}
          xName={AXES[by].title}
          xValue={AXES[by].value}
          yValue={value}
          group={group}
          height={height}
        />
      ) : (
        !failed && <p className={`${css.none} muted`}>{drawing ? "No data yet." : "Loading …"}</p>
      )}
      {gaps.length > 0 && (
        <Notice tone="warn">
          {trained!.step.length < trained!.total && "At least "}
          {count(gaps.length)} {gaps.length === 1 ? "value was" : "values were"} not finite (NaN or infinite), the first
          at step {count(trained!.step[gaps[0]!]!)}: marked × above.
        </Notice>
      )}
      {table && <PointsTable trained={trained} evaluated={evaluated} train={train} held={held} />}
    </>
  );
}

function draw(
  { trained, evaluated, clock }: Data,
  by: keyof typeof AXES,
  names: { train: string; held: string },
): { x: number[]; series: Series[] } | null {
  const series: Series[] = [];
  const tables: uPlot.AlignedData[] = [];
  if (trained) {
    const x = xOf(trained, by, clock);
    if (trained.smoothed) {
      tables.push([x, trained.value, trained.smoothed] as uPlot.AlignedData);
      series.push({ name: names.train, values: [], look: 0, faint: true });
      series.push({ name: `${names.train}, smoothed`, values: [], look: 0 });
    } else {
      tables.push([x, trained.value] as uPlot.AlignedData);
      series.push({ name: names.train, values: [], look: 0 });
    }
  }
  if (evaluated && evaluated.step.length > 0) {
    tables.push([xOf(evaluated, by, clock), evaluated.value] as uPlot.AlignedData);
    series.push({ name: names.held, values: [], look: 1, marks: true });
  }
  if (tables.length === 0) return null;
  const [x, ...values] = (tables.length > 1 ? uPlot.join(tables) : tables[0]!) as [number[], ...(number | null)[][]];
  return { x, series: series.map((one, index) => ({ ...one, values: values[index]! })) };
}

/** The indices of values that were not finite. */
function gapsOf(curve: Curve | undefined): number[] {
  return curve?.value.flatMap((figure, index) => (figure === null ? [index] : [])) ?? [];
}

/** Describes the chart in a sentence, for screen readers. */
function summary(title: string, curve: Curve | undefined): string {
  const finite = curve?.value.filter((value): value is number => value !== null) ?? [];
  if (!curve || finite.length === 0) return `${title}: no points`;
  const [first, last] = [finite[0]!, finite.at(-1)!];
  return (
    `${title} over ${count(curve.total)} points: from ${figure(first)} to ${figure(last)}, ` +
    `lowest ${figure(Math.min(...finite))}, highest ${figure(Math.max(...finite))}`
  );
}

interface TableProps {
  trained: Curve | undefined;
  evaluated: Curve | undefined;
  train: string;
  held: string;
}

/** The points of the chart as a table: the same ones, no others. */
function PointsTable({ trained, evaluated, train, held }: TableProps) {
  const curves = [
    { name: train, curve: trained, values: trained?.value },
    { name: `${train}, smoothed`, curve: trained, values: trained?.smoothed ?? undefined },
    { name: held, curve: evaluated, values: evaluated?.value },
  ].filter(({ curve, values }) => values && curve && curve.step.length > 0);
  const rows = new Map<number, (number | null | undefined)[]>();
  const about = new Map<number, { time: number; tokens: number | null }>();
  curves.forEach(({ curve, values }, column) => {
    curve!.step.forEach((step, index) => {
      const row = rows.get(step) ?? [];
      row[column] = values![index];
      rows.set(step, row);
      about.set(step, { time: curve!.time[index]!, tokens: curve!.tokens[index] ?? about.get(step)?.tokens ?? null });
    });
  });
  const steps = [...rows.keys()].sort((a, b) => a - b);
  const start = steps[0] === undefined ? 0 : about.get(steps[0])!.time;
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling area must be reachable by keyboard
    <section className={css.scroll} tabIndex={0} aria-label="Chart data">
      <table className={css.table}>
        <thead>
          <tr>
            <th scope="col">step</th>
            <th scope="col">tokens</th>
            <th scope="col">time</th>
            {curves.map(({ name }) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {steps.map((step) => (
            <tr key={step}>
              <td>{count(step)}</td>
              <td>{about.get(step)!.tokens === null ? "" : count(about.get(step)!.tokens!)}</td>
              <td>{duration(about.get(step)!.time - start)}</td>
              {curves.map(({ name }, column) => (
                <td key={name}>{rows.get(step)![column] === undefined ? "" : figure(rows.get(step)![column])}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
