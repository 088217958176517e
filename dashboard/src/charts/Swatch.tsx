import { lookOf, type SeriesLook } from "./colours";

const WIDTH = 28;
const HEIGHT = 3;

/** A sample of a series' line, in its colour and with its dashes. */
export function Swatch({ look, dark }: { look: number; dark: boolean }) {
  const { stroke, dash } = lookOf(look, dark);
  return (
    <svg aria-hidden="true" width={WIDTH} height={HEIGHT} data-swatch>
      <path d={PATH} stroke={stroke} strokeWidth={HEIGHT} strokeDasharray={dash.join(" ") || undefined} />
    </svg>
  );
}

const PATH = `M0 ${HEIGHT / 2}H${WIDTH}`;

/** Puts the same sample into an element that React does not render. */
export function putSwatch(element: Element, { stroke, dash }: SeriesLook) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  for (const [name, value] of [
    ["width", WIDTH],
    ["height", HEIGHT],
    ["aria-hidden", true],
  ] as const)
    svg.setAttribute(name, String(value));
  path.setAttribute("d", PATH);
  path.setAttribute("stroke", stroke);
  path.setAttribute("stroke-width", String(HEIGHT));
  if (dash.length) path.setAttribute("stroke-dasharray", dash.join(" "));
  svg.append(path);
  element.replaceChildren(svg);
}

const SVG = "http://www.w3.org/2000/svg";
