import type { Curve } from "../api/jobs";
import type { StreamedMetrics, StreamRecord } from "./tail";

/**
 * The curve with what the stream has told since. A step told again, after a resume, takes the place of what it was.
 * Smoothing goes on as the service does it: the new mean is the old one and a share of the difference.
 */
export function extend(curve: Curve, records: readonly StreamRecord[], smoothing: number): Curve {
  const news = records.filter(
    (record): record is StreamedMetrics =>
      record.type === "metrics" &&
      record.seq > curve.last_seq &&
      (record as StreamedMetrics).split === curve.split &&
      curve.metric in (record as StreamedMetrics).values,
  );
  if (news.length === 0) return curve;
  const longer = cut(curve, curve.step.length);
  const counted = () => longer.value.filter((value) => value !== null).length + (curve.total - curve.step.length);
  const mean = () => longer.smoothed?.findLast((value) => value !== null) ?? null;
  let [count, smooth] = [counted(), mean()];
  for (const record of news) {
    if ((longer.step.at(-1) ?? -1) >= record.step) {
      const told = longer.step.findIndex((step) => step >= record.step);
      Object.assign(longer, cut(longer, told));
      [count, smooth] = [counted(), mean()];
    }
    const value = record.values[curve.metric] ?? null;
    longer.step.push(record.step);
    longer.time.push(record.time);
    longer.tokens.push(record.values.tokens ?? null);
    longer.value.push(value);
    if (value !== null) {
      count += 1;
      smooth = smooth === null ? value : smooth + ((value - smooth) * (1 - smoothing)) / (1 - smoothing ** count);
    }
    longer.smoothed?.push(value === null ? null : smooth);
  }
  return { ...longer, total: curve.total + longer.step.length - curve.step.length };
}

function cut(curve: Curve, length: number): Curve {
  return {
    ...curve,
    step: curve.step.slice(0, length),
    time: curve.time.slice(0, length),
    tokens: curve.tokens.slice(0, length),
    value: curve.value.slice(0, length),
    smoothed: curve.smoothed?.slice(0, length) ?? null,
  };
}
