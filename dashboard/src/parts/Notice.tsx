import type { ReactNode } from "react";
import { Refusal } from "../api/client";
import { Icon } from "./Icon";
import css from "./Notice.module.css";

/** What a person should know before reading on. */
export function Notice({ tone, children }: { tone?: "bad" | "warn"; children: ReactNode }) {
  return (
    <div className={`${css.notice} ${tone ? css[tone] : ""}`} role={tone === "bad" ? "alert" : undefined}>
      <Icon name={tone ? "warn" : "info"} />
      <div>{children}</div>
    </div>
  );
}

/** Nothing is here yet, and what to do about it. */
export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className={css.empty}>
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** What went wrong, in the service's own words. What a person asked for, the page does not ask for again by itself. */
export function Failure({ error, asked }: { error: Error; asked?: boolean }) {
  if (error instanceof Refusal) return <Notice tone="bad">{error.message}</Notice>;
  const next = asked ? "Try again when it is back." : "This page tries again by itself.";
  return <Notice tone="bad">The service does not answer. {next}</Notice>;
}
