import { expect, it } from "vitest";
import type { Artifact } from "../api/jobs";
import { bestOf, ruleOf } from "./best";

const saved = (losses: Record<number, number | undefined>) =>
  Object.entries(losses)
    .map(
      ([step, eval_loss]) => ({ id: step, step: Number(step), metrics: { loss: 1, eval_loss } }) as unknown as Artifact,
    )
    .reverse();
const exported = (step: number) => ({ metrics: { exported_step: step }, groups: {} });
const rule = ruleOf({ spec: {} });

it("marks the earliest among equals while the job trains, and at the end the exported one", () => {
  const equals = saved({ 10: 2, 20: 1.5, 30: 1.5, 40: 1.5 });
  expect(bestOf(equals, rule, null)?.step).toBe(20);
  expect(bestOf(equals, rule, exported(40))?.step).toBe(40);
  expect(bestOf(equals, rule, exported(20))?.step).toBe(20);
  expect(bestOf(equals, rule, exported(5))?.step).toBe(20);
});

it("takes the highest where greater is better", () => {
  const spec = { checkpoints: { metric_for_best_model: "eval_loss", greater_is_better: true } };
  expect(bestOf(saved({ 10: 1, 20: 3, 30: 2 }), ruleOf({ spec }), null)?.step).toBe(20);
});

it("marks none without evaluations", () => {
  expect(bestOf(saved({ 10: undefined, 20: undefined }), rule, exported(20))).toBeUndefined();
});
