import type { ReactNode } from "react";
import { Refusal } from "../api/client";
import { Icon } from "./Icon";
import css from "./Notice.module.css";

/** A highlighted message; `bad` ones are alerts. */
export function Notice({ tone, children }: { tone?: "bad" | "warn"; children: ReactNode }) {
  return (
    <div className={`${css.notice} ${tone ? css[tone] : ""}`} role={tone === "bad" ? "alert" : undefined}>
      <Icon name={tone ? "warn" : "info"} />
      <div>{children}</div>
    </div>
  );
}

/** Shown instead of an empty list: that there is nothing yet, and what to do about it. */
export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className={css.empty}>
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** An error in the service's own words. Set `manual` for the user's own action, which is not retried by itself. */
export function Failure({ error, manual }: { error: Error; manual?: boolean }) {
  if (error instanceof Refusal) return <Notice tone="bad">{error.message}</Notice>;
  const next = manual ? "Try again when it is back." : "Retrying …";
  return <Notice tone="bad">The service does not respond. {next}</Notice>;
}
