import type { ReactNode } from "react";
import css from "./Head.module.css";
import { useTitle } from "./title";

/** A page's title, and what can be done from it. */
export function Head({ title, children }: { title: string; children?: ReactNode }) {
  useTitle(title);
  return (
    <div className={css.head}>
      <h1>{title}</h1>
      {children && <div>{children}</div>}
    </div>
  );
}
