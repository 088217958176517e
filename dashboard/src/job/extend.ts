import { type Curve, cutCurve } from "../api/jobs";
import type { StreamedMetrics, StreamRecord } from "./tail";

/**
 * Returns the curve with the points that the stream has added. A step that is reported again, after a resume, replaces
 * the earlier point and all after it. Smoothing continues as in the service: an exponential moving average that corrects
 * the bias of its start, so that the new mean is the old one plus a share of the difference.
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
  const longer = cutCurve(curve, curve.step.length);
  const finite = () => longer.value.filter((value) => value !== null).length + (curve.total - curve.step.length);
  const mean = () => longer.smoothed?.findLast((value) => value !== null) ?? null;
  let [count, smooth] = [finite(), mean()];
  for (const record of news) {
    if ((longer.step.at(-1) ?? -1) >= record.step) {
      const length = longer.step.findIndex((step) => step >= record.step);
      Object.assign(longer, cutCurve(longer, length));
      [count, smooth] = [finite(), mean()];
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
