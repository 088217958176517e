import { Link } from "@tanstack/react-router";
import type { Graph } from "./graph";
import css from "./Lineage.module.css";

/** The lineage as a list of links, oldest first. */
export function LineageList({ graph: { nodes } }: { graph: Graph }) {
  const ordered = nodes.toSorted((a, b) => a.row - b.row || a.column - b.column);
  return (
    <ol className={css.list} aria-label="Lineage list">
      {ordered.map((node) => (
        <li key={node.id} data-own={node.own}>
          <span className={css.what}>{node.what}</span>
          <Link {...node.link}>
            <b>{node.name}</b>
          </Link>
          <code className="muted">{node.about}</code>
          {node.deleted && <span className="muted">deleted; its lineage is kept</span>}
        </li>
      ))}
    </ol>
  );
}
