import { expect, it } from "vitest";
import { lossOf } from "./jobs";

it("tells the loss of training while a job trains, and of what was held out in the end", () => {
  const result = { metrics: { eval_loss: 2.5 }, groups: {} };
  expect(lossOf({ progress: { loss: 2 }, result: null })).toBe(2);
  expect(lossOf({ progress: { loss: 2 }, result })).toBe(2.5);
  expect(lossOf({ progress: { loss: 2 }, result: { metrics: {}, groups: {} } })).toBe(2);
  expect(lossOf({ progress: {}, result: null })).toBeNull();
});
