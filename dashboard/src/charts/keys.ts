import uPlot from "uplot";

const ZOOM = 2;
const PART = 10;

/**
 * Makes a chart usable by keyboard (the help lists the keys): its picture and the names in its legend can be focused and
 * pressed. The charts of a group move together, as they do under a mouse. Returns the picture.
 */
export function reachable(plot: uPlot, group: string | undefined): HTMLElement {
  const picture = plot.root.querySelector<HTMLElement>(".u-wrap")!;
  picture.role = "img";
  picture.tabIndex = 0;
  picture.setAttribute("aria-keyshortcuts", "ArrowLeft ArrowRight + - 0");
  picture.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (!press(plot, group ? uPlot.sync(group).plots : [plot], event)) return;
    event.preventDefault();
  });
  // Not when the focus moves to another chart: removing the shared cursor would count as a drag there.
  picture.addEventListener("blur", ({ relatedTarget }) => {
    if (!(relatedTarget instanceof Element && relatedTarget.matches(".u-wrap"))) move(plot, null);
  });
  const names = [...plot.root.querySelectorAll<HTMLElement>(".u-legend .u-label")];
  for (const [index, name] of names.entries()) if (index > 0) asSwitch(plot, name, index);
  return picture;
}

/** Handles a key of a chart; returns false for any other. */
function press(plot: uPlot, group: readonly uPlot[], { key, shiftKey }: KeyboardEvent): boolean {
  if (key === "ArrowLeft" || key === "ArrowRight") {
    const points = plot.data[0].length;
    const step = (key === "ArrowLeft" ? -1 : 1) * (shiftKey ? Math.ceil(points / PART) : 1);
    const [first, last] = plot.series[0]!.idxs!;
    const from = plot.cursor.idx ?? (step > 0 ? first - 1 : last + 1);
    move(plot, Math.min(last, Math.max(first, from + step)));
  } else if (key === "+" || key === "=") show(group, part(plot, 1 / ZOOM));
  else if (key === "-") show(group, part(plot, ZOOM));
  else if (key === "0") show(group, null);
  else return false;
  return true;
}

/** Moves the cursor to a point, or away, on all charts that share it. */
function move(plot: uPlot, index: number | null) {
  const left = index === null ? -10 : plot.valToPos(plot.data[0][index]!, "x");
  // The third argument, whether to move the cursors of the group, is missing in its types.
  const set: (at: { left: number; top: number }, fire: boolean, publish: boolean) => void = plot.setCursor;
  set({ left, top: index === null ? -10 : plot.over.clientHeight / 2 }, true, true);
}

/** Returns the range around the cursor, or else the middle, that is `times` as long as the visible one. */
function part(plot: uPlot, times: number): [number, number] {
  const width = plot.over.clientWidth;
  const { left = -1 } = plot.cursor;
  const middle = left >= 0 ? left : width / 2;
  return [plot.posToVal(middle - (width / 2) * times, "x"), plot.posToVal(middle + (width / 2) * times, "x")];
}

/** Shows a range of the x axis, or all of it, on each chart, as far as its data reaches. */
function show(plots: readonly uPlot[], range: [number, number] | null) {
  for (const plot of plots) {
    const xs = plot.data[0];
    const [first, last] = [xs[0], xs[xs.length - 1]];
    if (first === undefined || last === undefined) continue;
    const [min, max] = range ?? [first, last];
    plot.setScale("x", { min: Math.max(first, min), max: Math.min(last, max) });
  }
}

function asSwitch(plot: uPlot, name: HTMLElement, index: number) {
  const mirror = () => name.setAttribute("aria-pressed", String(plot.series[index]!.show));
  name.role = "button";
  name.tabIndex = 0;
  name.title = "Show or hide";
  mirror();
  name.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    name.click();
  });
  plot.hooks.setSeries = [...(plot.hooks.setSeries ?? []), mirror];
}
