import type { ReactNode } from "react";
import css from "./Head.module.css";
import { useTitle } from "./title";

/** A page's heading with its actions. */
export function Head({ title, children }: { title: string; children?: ReactNode }) {
  useTitle(title);
  return (
    <div className={css.head}>
      <h1>{title}</h1>
      {children && <div>{children}</div>}
    </div>
  );
}
