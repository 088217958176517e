/** The search parameters of a job's page. */
export interface JobSearch {
  x?: "step" | "tokens" | "time";
  logx?: boolean;
  logy?: boolean;
  /** 0 to 0.99; undefined: no smoothing. */
  smooth?: number;
  table?: boolean;
  level?: "info" | "warn" | "error";
  line?: number;
  follow?: boolean;
}

export function jobSearch(given: Record<string, unknown>): JobSearch {
  return {
    x: one(given.x, ["step", "tokens", "time"]),
    logx: given.logx === true || undefined,
    logy: given.logy === true || undefined,
    smooth: typeof given.smooth === "number" && given.smooth > 0 && given.smooth < 1 ? given.smooth : undefined,
    table: given.table === true || undefined,
    level: one(given.level, ["info", "warn", "error"]),
    line: typeof given.line === "number" ? given.line : undefined,
    follow: given.follow === true || undefined,
  };
}

function one<T extends string>(value: unknown, known: readonly T[]): T | undefined {
  return known.find((name) => name === value);
}
