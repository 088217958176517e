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
  const first = news[0];
  if (!first) return curve;
  const kept = curve.step.findIndex((step) => step >= first.step);
  const length = kept < 0 ? curve.step.length : kept;
  const longer = cut(curve, length);
  let count = longer.value.filter((value) => value !== null).length + (curve.total - curve.step.length);
  let mean = longer.smoothed?.findLast((value) => value !== null) ?? null;
  for (const record of news) {
    const value = record.values[curve.metric] ?? null;
    longer.step.push(record.step);
    longer.time.push(record.time);
    longer.tokens.push(record.values.tokens ?? null);
    longer.value.push(value);
    if (value !== null) {
      count += 1;
      mean = mean === null ? value : mean + ((value - mean) * (1 - smoothing)) / (1 - smoothing ** count);
    }
    longer.smoothed?.push(value === null ? null : mean);
  }
  return { ...longer, total: curve.total - (curve.step.length - length) + news.length };
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
