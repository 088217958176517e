/** Series colours that can be distinguished with any colour vision. Beyond their number, series differ by their dashes. */
const LIGHT = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000"];
const DARK = ["#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00"];
const DASHES = [[], [8, 4], [2, 3], [8, 3, 2, 3]];

export interface SeriesLook {
  stroke: string;
  dash: number[];
}

export function lookOf(index: number, dark: boolean): SeriesLook {
  const colours = dark ? DARK : LIGHT;
  return {
    stroke: colours[index % colours.length]!,
    dash: DASHES[Math.floor(index / colours.length) % DASHES.length]!,
  };
}

export function inkOf(dark: boolean) {
  return dark
    ? { text: "#9aa5b1", grid: "#232b33", bad: "#f5a3a3" }
    : { text: "#5a6572", grid: "#e8ecf0", bad: "#9b1c1c" };
}
