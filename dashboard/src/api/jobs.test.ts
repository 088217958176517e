import { expect, it } from "vitest";
import { type Curve, lossOf, withoutLostTail } from "./jobs";

it("takes the training loss while a job trains, and the held-out loss at the end", () => {
  const result = { metrics: { eval_loss: 2.5 }, groups: {} };
  expect(lossOf({ progress: { loss: 2 }, result: null })).toBe(2);
  expect(lossOf({ progress: { loss: 2 }, result })).toBe(2.5);
  expect(lossOf({ progress: { loss: 2 }, result: { metrics: {}, groups: {} } })).toBe(2);
  expect(lossOf({ progress: {}, result: null })).toBeNull();
});

const curve = (time: number[]): Curve => ({
  metric: "loss",
  split: "train",
  total: time.length,
  last_seq: 10,
  step: time.map((_, index) => index + 1),
  time,
  tokens: time.map(() => null),
  value: time.map((at) => at / 10),
  smoothed: null,
});

it("cuts the tail of a lost attempt until the run gets there again", () => {
  const resumed = curve([100, 101, 110, 111, 104, 105]);
  expect(withoutLostTail(resumed)).toEqual({ ...curve([100, 101, 110, 111]), last_seq: 10 });
  expect(withoutLostTail(curve([100, 101, 110, 111, 112])).step).toHaveLength(5);
  expect(withoutLostTail(curve([])).step).toEqual([]);
});

it("keeps a run that went on under a slower clock", () => {
  const skewed = curve([100, 101, 99, 103]);
  expect(withoutLostTail(skewed)).toBe(skewed);
});
