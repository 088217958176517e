import type { Curve } from "../api/jobs";
import { count, duration } from "../format";
import type { JobSearch } from "./search";

export type By = NonNullable<JobSearch["x"]>;

export const AXES: Record<By, { title: string; value: (x: number) => string }> = {
  step: { title: "step", value: (x) => (Number.isInteger(x) ? count(x) : "") },
  tokens: { title: "tokens", value: compact },
  time: { title: "time since the first step", value: duration },
};

const COMPACT = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 });

function compact(value: number): string {
  return COMPACT.format(value);
}

/** Caches `computeX`, for switching back to an axis. */
const cache = new WeakMap<Curve, Map<By, { train: Curve | undefined; x: number[] }>>();

/** The x values of a curve. Evaluations count no tokens: each takes those of the training step before it. */
export function xOf(curve: Curve, by: By, train: Curve | undefined): number[] {
  if (by === "step") return curve.step;
  const axes = cache.get(curve) ?? new Map();
  cache.set(curve, axes);
  const cached = axes.get(by);
  if (cached && cached.train === train) return cached.x;
  const x = computeX(curve, by, train);
  axes.set(by, { train, x });
  return x;
}

function computeX(curve: Curve, by: By, train: Curve | undefined): number[] {
  if (by === "time") return curve.time.map((time) => time - (train?.time[0] ?? curve.time[0] ?? 0));
  return curve.tokens.map((tokens, index) => tokens ?? tokensAt(curve.step[index]!, train));
}

function tokensAt(step: number, train: Curve | undefined): number {
  const index = train?.step.findLastIndex((at) => at <= step) ?? -1;
  return (index >= 0 && train?.tokens[index]) || 0;
}
