import { expect, test } from "vitest";
import type { Artifact, Job } from "../api/jobs";
import { gainOf, headlineOf, outcomeOf, scoresOf, verdictOf } from "./scores";

const job = (metrics: Record<string, number>, more: object = {}) =>
  ({
    spec: { model: "m/1", eval_file: "file-1", evaluation: {} },
    result: { metrics, groups: {} },
    ...more,
  }) as unknown as Job;

const compared = (value: number, low: number, high: number, name = "eval_loss") =>
  job({
    [name]: 2,
    eval_rows: 9,
    [`difference/${name}`]: value,
    [`difference/${name}_low`]: low,
    [`difference/${name}_high`]: high,
  });

test("a lower loss is better, a lower accuracy is worse", () => {
  const loss = headlineOf(compared(-0.5, -0.7, -0.3))!;
  const share = headlineOf(compared(-0.5, -0.7, -0.3, "eval_exact_match"))!;
  expect([verdictOf(loss), gainOf(loss)]).toEqual(["better", 0.5]);
  expect([verdictOf(share), gainOf(share)]).toEqual(["worse", -0.5]);
});

test("an interval that contains zero shows no clear difference", () => {
  expect(verdictOf(headlineOf(compared(0.1, -0.1, 0.3))!)).toBe("no clear difference");
});

test("bounds and counts are not scores of their own", () => {
  const metrics = { eval_loss: 2, eval_loss_low: 1.9, eval_loss_high: 2.1, eval_perplexity: 7, eval_rows: 5 };
  const scores = scoresOf(job(metrics));
  expect(scores.map(({ name, rows, interval }) => [name, rows, interval])).toEqual([
    ["eval_loss", 5, { low: 1.9, high: 2.1 }],
  ]);
});

test("an evaluation that compared with nothing is compared with its base's on the same rows, if there is one", () => {
  const share = (value: number) => ({
    eval_exact_match: value,
    eval_exact_match_low: value - 0.1,
    eval_exact_match_high: value + 0.1,
    eval_rows: 50,
  });
  const tuned = job(share(0.6), { id: "a", base: { id: "adapter-1" } });
  const base = job(share(0.3), { id: "b", base: { id: "model-1" } });
  const shelf = [{ id: "adapter-1", base_artifact_id: "model-1" } as Artifact];
  const { difference } = outcomeOf(tuned, [tuned, base], shelf)!;
  expect(difference?.value).toBeCloseTo(0.3);
  expect(difference?.interval?.low).toBeCloseTo(0.3 - Math.hypot(0.1, 0.1));
  expect(difference?.paired).toBe(false);
  const unfinished = { ...base, id: "c", result: null };
  expect(outcomeOf(tuned, [unfinished, tuned, base], shelf)?.difference?.value).toBeCloseTo(0.3);
  const elsewhere = { ...base, spec: { ...base.spec, eval_file: "file-2" } };
  expect(outcomeOf(tuned, [tuned, elsewhere], shelf)?.difference).toBeUndefined();
});
