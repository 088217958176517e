import type { ReactNode } from "react";
import css from "./List.module.css";

interface Props {
  label: string;
  columns: readonly (string | { number: string })[];
  children: ReactNode;
}

/** A table that scrolls sideways when it is wider than the window. */
export function List({ label, columns, children }: Props) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling area must be reachable by keyboard
    <section className={css.scroll} tabIndex={0} aria-label={label}>
      <table className={css.table}>
        <thead>
          <tr>
            {columns.map((column) =>
              typeof column === "string" ? (
                <th key={column} scope="col">
                  {column}
                </th>
              ) : (
                <th key={column.number} scope="col" className={css.number}>
                  {column.number}
                </th>
              ),
            )}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </section>
  );
}

export const numberClass = css.number!;
