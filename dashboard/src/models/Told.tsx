import { Link } from "@tanstack/react-router";
import type { Graph } from "./graph";
import css from "./Lineage.module.css";

/** The lineage as a list: the oldest first, each thing a link. */
export function Told({ graph: { nodes } }: { graph: Graph }) {
  const ordered = nodes.toSorted((a, b) => a.row - b.row || a.column - b.column);
  return (
    <ol className={css.told} aria-label="Lineage, listed">
      {ordered.map((node) => (
        <li key={node.id} data-own={node.own}>
          <span className={css.what}>{node.what}</span>
          <Link {...node.link}>
            <b>{node.name}</b>
          </Link>
          <code className="muted">{node.about}</code>
          {node.deleted && <span className="muted">deleted; its lineage stays</span>}
        </li>
      ))}
    </ol>
  );
}
