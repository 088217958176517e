import { Link } from "@tanstack/react-router";
import { COLUMNS, type Edge, type Graph, type Node } from "./graph";
import css from "./Lineage.module.css";

const WIDTH = 163;
const HEIGHT = 58;
const GAP_X = 44;
const GAP_Y = 14;
const HEAD = 28;

const left = ({ column }: Node) => column * (WIDTH + GAP_X);
const top = ({ row }: Node) => HEAD + row * (HEIGHT + GAP_Y);

/** The lineage drawn from left to right; LineageList has the same content. */
export function LineageDrawing({ graph: { nodes, edges, rows } }: { graph: Graph }) {
  const width = COLUMNS.length * (WIDTH + GAP_X) - GAP_X;
  const height = HEAD + rows * (HEIGHT + GAP_Y) - GAP_Y;
  const places = new Map(nodes.map((node) => [node.id, node]));
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling area must be reachable by keyboard
    <section className={css.scroll} tabIndex={0} aria-label="Lineage drawing">
      <div className={css.drawing} style={{ width, height }}>
        {COLUMNS.map((title, column) => (
          <span key={title} className={css.column} style={{ left: column * (WIDTH + GAP_X), width: WIDTH }}>
            {title}
          </span>
        ))}
        <svg aria-hidden="true" width={width} height={height}>
          {edges.map((edge) => (
            <path key={`${edge.from}>${edge.to}`} d={pathOf(edge, places)} className={css.edge} />
          ))}
        </svg>
        {nodes.map((node) => (
          <Link
            key={node.id}
            {...node.link}
            className={css.node}
            data-own={node.own}
            data-deleted={node.deleted}
            style={{ left: left(node), top: top(node), width: WIDTH, height: HEIGHT }}
            title={node.name}
          >
            <span className={css.what}>
              {node.what}
              {node.deleted && " · deleted"}
            </span>
            <b>{node.name}</b>
          </Link>
        ))}
      </div>
    </section>
  );
}

/** The path of an edge: forwards a curve from side to side; back to a job in the band below, from bottom to top. */
function pathOf({ from, to }: Edge, places: ReadonlyMap<string, Node>): string {
  const [a, b] = [places.get(from)!, places.get(to)!];
  if (b.column > a.column) {
    const [x1, y1, x2, y2] = [left(a) + WIDTH, top(a) + HEIGHT / 2, left(b), top(b) + HEIGHT / 2];
    const middle = x2 - GAP_X / 2;
    return `M${x1} ${y1}H${x2 - GAP_X}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`;
  }
  const [x1, y1, x2, y2] = [left(a) + WIDTH / 2, top(a) + HEIGHT, left(b) + WIDTH / 2, top(b)];
  const middle = y2 - GAP_Y / 2;
  return `M${x1} ${y1}V${middle - 4}q0 4 -4 4H${x2 + 4}q-4 0 -4 4V${y2}`;
}
