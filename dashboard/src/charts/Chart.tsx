import { useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { figure } from "../format";
import { useDark } from "../theme";
import css from "./Chart.module.css";
import { inkOf, lookOf } from "./colours";
import { reachable } from "./keys";

export interface Series {
  name: string;
  values: readonly (number | null)[];
  /** Which colour and dash: one number a run or a figure. */
  look: number;
  /** Behind another line: thin and pale. */
  faint?: boolean;
  /** Points far apart get marks, lines through them mean little. */
  marks?: boolean;
}

export interface ChartProps {
  label: string;
  x: readonly number[];
  series: readonly Series[];
  /** Where a figure was not finite. */
  gaps?: readonly number[];
  logX?: boolean;
  logY?: boolean;
  xName: string;
  xValue: (x: number) => string;
  yValue?: (y: number) => string;
  height?: number;
  /** Charts of one group share their cursor. */
  group?: string;
}

/** From so many points on a line is a pixel wide: wider it is a band, and takes a browser twenty times as long to draw. */
const DENSE = 500;

export function Chart(props: ChartProps) {
  const { label, x, series, gaps = [], logX = false, logY = false, xName, height = 260 } = props;
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const drawn = useRef<readonly Series[] | null>(null);
  const hadFocus = useRef(false);
  const dark = useDark();
  const latest = useRef({ gaps, props });
  latest.current = { gaps, props };
  const columns = [x, ...series.map(({ values }) => (logY ? values.map(positive) : values))];
  const left = logX ? x.filter((at) => at <= 0).length : 0; // a logarithm has no place for 0
  const data = (left ? columns.map((column) => column.slice(left)) : columns) as uPlot.AlignedData;
  const width = x.length < DENSE || series.some(({ faint }) => faint) ? 1.75 : 1;
  const lines = series.map(({ name, look, faint, marks }) => [name, look, faint, marks]);
  const shape = JSON.stringify([lines, width, logX, logY]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: what the drawing looks like; its data come below
  useEffect(() => {
    const element = box.current!;
    const made = new uPlot(options(element, latest, { width, height, dark }), data, element);
    const picture = reachable(made, props.group);
    // Whoever has come to it by keyboard stays there when it is made anew.
    if (hadFocus.current) picture.focus({ preventScroll: true });
    plot.current = made;
    drawn.current = series;
    // A first size is told at once: drawing anew for it would be for nothing.
    const watch = new ResizeObserver(() => {
      if (made.width !== element.clientWidth) made.setSize({ width: element.clientWidth, height });
    });
    watch.observe(element);
    return () => {
      watch.disconnect();
      hadFocus.current = element.contains(document.activeElement);
      made.destroy();
      plot.current = null;
    };
  }, [shape, dark, height]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: a new drawing has to be named too
  useEffect(
    () => plot.current?.root.querySelector(".u-wrap")?.setAttribute("aria-label", label),
    [label, shape, dark, height],
  );

  // biome-ignore lint/correctness/useExhaustiveDependencies: new figures, new data
  useEffect(() => {
    const label = box.current!.querySelector(".u-legend .u-label");
    if (label && label.textContent !== xName) label.textContent = xName;
    if (drawn.current !== series) plot.current?.setData(data);
    drawn.current = series;
  }, [x, series]);

  return <div ref={box} className={css.chart} data-points={x.length} />;
}

const positive = (value: number | null) => (value !== null && value > 0 ? value : null);

type Drawing = { width: number; height: number; dark: boolean };
type Latest = { gaps: readonly number[]; props: ChartProps };

/** What may change while the drawing stays is read from `latest` at each drawing. */
function options(element: HTMLElement, latest: { current: Latest }, { width, height, dark }: Drawing): uPlot.Options {
  const { series, logX, logY, xName, yValue = figure, group } = latest.current.props;
  const xValue = (at: number) => latest.current.props.xValue(at);
  const ink = inkOf(dark);
  const axis: uPlot.Axis = {
    stroke: ink.text,
    grid: { stroke: ink.grid, width: 1 },
    ticks: { stroke: ink.grid, width: 1, size: 4 },
    font: "12px system-ui, sans-serif",
  };
  return {
    width: element.clientWidth,
    height,
    padding: [12, 32, 0, 0], // on the right half of the last label
    cursor: { sync: group ? { key: group } : undefined, points: { size: 6 }, drag: { x: true, y: false } },
    legend: { live: true },
    scales: { x: { time: false, distr: logX ? 3 : 1 }, y: { distr: logY ? 3 : 1 } },
    axes: [
      { ...axis, size: 28, space: 72, values: (_, splits) => splits.map((at) => (at === null ? "" : xValue(at))) },
      { ...axis, size: 64, values: (_, splits) => splits.map((at) => (at === null ? "" : yValue(at))) },
    ],
    series: [
      { label: xName, value: (_, at) => (at === null ? "–" : xValue(at)) },
      ...series.map((one): uPlot.Series => looking(one, width, dark, yValue)),
    ],
    hooks: { draw: [(plot) => drawGaps(plot, latest.current, ink.bad)] },
  };
}

function looking(
  { name, look, faint, marks }: Series,
  width: number,
  dark: boolean,
  yValue: (y: number) => string,
): uPlot.Series {
  const { stroke, dash } = lookOf(look, dark);
  return {
    label: name,
    stroke: faint ? `${stroke}59` : stroke,
    dash,
    width: faint ? 1 : width,
    spanGaps: Boolean(marks),
    points: { show: marks ? true : undefined, size: 5, fill: stroke },
    value: (_, at) => (at === null ? "–" : yValue(at)),
  };
}

/** A cross at the top for every step whose figure was not finite: a line has no place for it. */
function drawGaps({ ctx, bbox, valToPos }: uPlot, { gaps }: Latest, colour: string) {
  if (!gaps.length) return;
  const size = 4 * devicePixelRatio;
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.beginPath();
  for (const gap of gaps) {
    const x = valToPos(gap, "x", true);
    const y = bbox.top + size + 1;
    ctx.moveTo(x - size, y - size);
    ctx.lineTo(x + size, y + size);
    ctx.moveTo(x + size, y - size);
    ctx.lineTo(x - size, y + size);
  }
  ctx.stroke();
  ctx.restore();
}
