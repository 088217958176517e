import { useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { figure } from "../format";
import { useDark } from "../theme";
import css from "./Chart.module.css";
import { inkOf, lookOf, type SeriesLook } from "./colours";
import { reachable } from "./keys";
import { putSwatch } from "./Swatch";

export interface Series {
  name: string;
  values: readonly (number | null)[];
  /** The number of its colour and dashes. */
  look: number;
  /** Drawn thin and pale, behind another line. */
  faint?: boolean;
  /** Marks its points, for series whose points are far apart. */
  marks?: boolean;
}

export interface ChartProps {
  label: string;
  x: readonly number[];
  series: readonly Series[];
  /** The x values at which a value was not finite. */
  gaps?: readonly number[];
  logX?: boolean;
  logY?: boolean;
  xName: string;
  xValue: (x: number) => string;
  yValue?: (y: number) => string;
  height?: number;
  /** Charts of a group share their cursor. */
  group?: string;
}

/** From this many points on lines are a pixel wide: a wider one becomes a band and takes twenty times as long to draw. */
const DENSE = 500;

export function Chart(props: ChartProps) {
  const { label, x, series, gaps = [], logX = false, logY = false, xName, height = 260 } = props;
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const drawn = useRef<readonly Series[] | null>(null);
  const hadFocus = useRef(false);
  const part = useRef<Range | null>(null);
  const hidden = useRef<ReadonlySet<string>>(new Set());
  const dark = useDark();
  const latest = useRef({ gaps, props });
  latest.current = { gaps, props };
  const columns = [x, ...series.map(({ values }) => (logY ? values.map(positive) : values))];
  const skipped = logX ? x.filter((at) => at <= 0).length : 0; // not on a logarithmic axis
  const data = (skipped ? columns.map((column) => column.slice(skipped)) : columns) as uPlot.AlignedData;
  const width = x.length < DENSE || series.some(({ faint }) => faint) ? 1.75 : 1;
  const lines = series.map(({ name, look, faint, marks }) => [name, look, faint, marks]);
  const shape = JSON.stringify([lines, width, logX, logY]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: rebuilt when its looks change; new data is set below
  useEffect(() => {
    const element = box.current!;
    const made = new uPlot(options(element, latest, { width, height, dark }), data, element);
    const markers = [...element.querySelectorAll(".u-legend .u-marker")].slice(1); // the first is that of the x axis
    for (const [index, marker] of markers.entries()) putSwatch(marker, strokeOf(series[index]!, dark));
    // A logarithmic axis cannot begin at zero.
    if (part.current && (!logX || part.current.min > 0)) made.setScale("x", part.current);
    for (const [index, { name }] of series.entries())
      if (hidden.current.has(name)) made.setSeries(index + 1, { show: false }); // the first is the x axis
    const picture = reachable(made, props.group);
    // A keyboard user stays on a chart that is rebuilt.
    if (hadFocus.current) picture.focus({ preventScroll: true });
    plot.current = made;
    drawn.current = series;
    // The observer reports the initial size too, which needs no redraw.
    const watch = new ResizeObserver(() => {
      if (made.width !== element.clientWidth) made.setSize({ width: element.clientWidth, height });
    });
    watch.observe(element);
    return () => {
      watch.disconnect();
      hadFocus.current = element.contains(document.activeElement);
      part.current = partOf(made);
      hidden.current = new Set(made.series.flatMap(({ show, label }) => (show ? [] : String(label))));
      made.destroy();
      plot.current = null;
    };
  }, [shape, dark, height]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: a rebuilt chart needs its label too
  useEffect(
    () => plot.current?.root.querySelector(".u-wrap")?.setAttribute("aria-label", label),
    [label, shape, dark, height],
  );

  // biome-ignore lint/correctness/useExhaustiveDependencies: `data` is made of these
  useEffect(() => {
    const label = box.current!.querySelector(".u-legend .u-label");
    const otherAxis = label !== null && label.textContent !== xName;
    if (otherAxis) label.textContent = xName;
    if (drawn.current !== series && plot.current) update(plot.current, data, otherAxis);
    drawn.current = series;
  }, [x, series]);

  return <div ref={box} className={css.chart} data-points={x.length} />;
}

interface Range {
  min: number;
  max: number;
}

/** Returns the part of the x axis that the user has zoomed to, or null. */
function partOf({ data: [x], scales }: uPlot): Range | null {
  const { min = Number.NaN, max = Number.NaN } = scales.x!;
  const [first, last] = [x[0], x.at(-1)];
  if (!Number.isFinite(min) || !Number.isFinite(max) || first === undefined || last === undefined) return null;
  return min > first || max < last ? { min, max } : null;
}

/** Draws new data. The zoom stays, unless the data is over another axis. */
function update(plot: uPlot, data: uPlot.AlignedData, otherAxis: boolean) {
  const part = partOf(plot);
  if (!part || otherAxis) return plot.setData(data);
  plot.batch(() => {
    plot.setData(data, false);
    plot.setScale("x", part);
  });
}

const positive = (value: number | null) => (value !== null && value > 0 ? value : null);

type Drawing = { width: number; height: number; dark: boolean };
type Latest = { gaps: readonly number[]; props: ChartProps };

/** The options of a chart. What may change without a rebuild is read from `latest` at each drawing. */
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
    padding: [12, 32, 0, 0], // on the right: half of the last label
    cursor: { sync: group ? { key: group } : undefined, points: { size: 6 }, drag: { x: true, y: false } },
    legend: { live: true, markers: { width: 0 } }, // putSwatch draws the markers
    scales: { x: { time: false, distr: logX ? 3 : 1 }, y: { distr: logY ? 3 : 1 } },
    axes: [
      { ...axis, size: 28, space: 72, values: (_, splits) => splits.map((at) => (at === null ? "" : xValue(at))) },
      { ...axis, size: 64, values: (_, splits) => splits.map((at) => (at === null ? "" : yValue(at))) },
    ],
    series: [
      { label: xName, value: (_, at) => (at === null ? "–" : xValue(at)) },
      ...series.map((one): uPlot.Series => seriesOptions(one, width, dark, yValue)),
    ],
    hooks: { draw: [(plot) => drawGaps(plot, latest.current, ink.bad)] },
  };
}

function strokeOf({ look, faint }: Series, dark: boolean): SeriesLook {
  const { stroke, dash } = lookOf(look, dark);
  return { stroke: faint ? `${stroke}59` : stroke, dash };
}

function seriesOptions(one: Series, width: number, dark: boolean, yValue: (y: number) => string): uPlot.Series {
  const { name, look, faint, marks } = one;
  return {
    label: name,
    ...strokeOf(one, dark),
    width: faint ? 1 : width,
    spanGaps: Boolean(marks),
    points: { show: marks ? true : undefined, size: 5, fill: lookOf(look, dark).stroke },
    value: (_, at) => (at === null ? "–" : yValue(at)),
  };
}

/** Draws a cross at the top for each value that was not finite, which a line cannot show. */
function drawGaps({ ctx, bbox, valToPos }: uPlot, { gaps }: Latest, colour: string) {
  if (!gaps.length) return;
  const size = 4 * devicePixelRatio;
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.beginPath();
  for (const gap of gaps) {
    const x = valToPos(gap, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue; // outside the zoomed part
    const y = bbox.top + size + 1;
    ctx.moveTo(x - size, y - size);
    ctx.lineTo(x + size, y + size);
    ctx.moveTo(x + size, y - size);
    ctx.lineTo(x - size, y + size);
  }
  ctx.stroke();
  ctx.restore();
}
