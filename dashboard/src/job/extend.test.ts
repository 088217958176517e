import { expect, it } from "vitest";
import type { Curve } from "../api/jobs";
import { extend } from "./extend";
import type { StreamRecord } from "./tail";

const curve: Curve = {
  metric: "loss",
  split: "train",
  total: 3,
  last_seq: 10,
  step: [1, 2, 3],
  time: [100, 101, 102],
  tokens: [8, 16, 24],
  value: [4, null, 2],
  smoothed: null,
};

function metrics(seq: number, step: number, loss: number | null): StreamRecord {
  return {
    type: "metrics",
    seq,
    step,
    time: 99 + step,
    attempt: 1,
    split: "train",
    values: { loss, tokens: step * 8 },
  };
}

it("appends after the end of the curve and takes nothing twice", () => {
  const longer = extend(curve, [metrics(10, 3, 2), metrics(11, 4, 1)], 0);
  expect(longer.step).toEqual([1, 2, 3, 4]);
  expect(longer.value).toEqual([4, null, 2, 1]);
  expect(longer.tokens[3]).toBe(32);
  expect(longer.total).toBe(4);
});

it("takes the later value of a step that was reported again after a resume", () => {
  const longer = extend(curve, [metrics(11, 2, 7), metrics(12, 3, 6)], 0);
  expect(longer.step).toEqual([1, 2, 3]);
  expect(longer.value).toEqual([4, 7, 6]);
});

it("takes the later values when a run resumes from an earlier step while the page is open", () => {
  const smooth = { ...curve, value: [4, 3, 2], smoothed: [4, (4 * 0.5 + 3) / 1.5, (4 * 0.25 + 3 * 0.5 + 2) / 1.75] };
  const records = [metrics(11, 4, 1), metrics(12, 5, 0), metrics(13, 3, 6), metrics(14, 4, 5)];
  const longer = extend(smooth, records, 0.5);
  expect(longer.step).toEqual([1, 2, 3, 4]);
  expect(longer.value).toEqual([4, 3, 6, 5]);
  expect(longer.time).toEqual([100, 101, 102, 103]);
  expect(longer.tokens).toEqual([8, 16, 24, 32]);
  expect(longer.total).toBe(4);
  expect(longer.smoothed![3]).toBeCloseTo((4 * 0.125 + 3 * 0.25 + 6 * 0.5 + 5) / 1.875, 12);
});

it("smooths streamed points exactly as the service smooths its own", () => {
  const whole = { ...curve, value: [4, null, 2], smoothed: [4, null, (4 * 0.5 + 2) / 1.5] };
  const longer = extend(whole, [metrics(11, 4, 8)], 0.5);
  expect(longer.smoothed![3]).toBeCloseTo((4 * 0.25 + 2 * 0.5 + 8) / 1.75, 12);
});

it("keeps a constant series constant at any smoothing", () => {
  const constant = { ...curve, step: [1], time: [1], tokens: [8], total: 1, value: [0.1], smoothed: [0.1] };
  const news = Array.from({ length: 500 }, (_, index) => metrics(11 + index, 2 + index, 0.1));
  expect(new Set(extend(constant, news, 0.99).smoothed)).toEqual(new Set([0.1]));
});

it("returns the same curve while no record belongs to it", () => {
  const event = { type: "log", seq: 11, time: 1, attempt: 1, level: "info", message: "", data: null } as StreamRecord;
  expect(extend(curve, [event], 0)).toBe(curve);
});
