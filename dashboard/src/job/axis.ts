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

/** What `reckoned` has come to, for whoever changes the axis back. */
const known = new WeakMap<Curve, Map<By, { train: Curve | undefined; x: number[] }>>();

/** Where the points of a curve stand. Evaluations count no tokens: theirs are those of the training step before. */
export function xOf(curve: Curve, by: By, train: Curve | undefined): number[] {
  if (by === "step") return curve.step;
  const kept = known.get(curve) ?? new Map();
  known.set(curve, kept);
  const before = kept.get(by);
  if (before && before.train === train) return before.x;
  const x = reckoned(curve, by, train);
  kept.set(by, { train, x });
  return x;
}

function reckoned(curve: Curve, by: By, train: Curve | undefined): number[] {
  if (by === "time") return curve.time.map((time) => time - (train?.time[0] ?? curve.time[0] ?? 0));
  return curve.tokens.map((tokens, index) => tokens ?? tokensAt(curve.step[index]!, train));
}

function tokensAt(step: number, train: Curve | undefined): number {
  const index = train?.step.findLastIndex((at) => at <= step) ?? -1;
  return (index >= 0 && train?.tokens[index]) || 0;
}
