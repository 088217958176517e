import { expect, it } from "vitest";
import { picturesOf } from "./figures";

it("puts the loss first, together with the held-out loss", () => {
  const [first] = picturesOf(["grad_norm", "loss", "tokens_per_s", "eta_s"], ["eval_loss", "eval_perplexity"]);
  expect(first).toEqual({ title: "Loss", train: "loss", held: "eval_loss" });
});

it("leaves out the machine's metrics and counters", () => {
  const names = picturesOf(["loss", "mfu", "tokens", "tokens/a.jsonl"], ["eval_tokens"]).map(({ train }) => train);
  expect(names).toEqual(["loss"]);
});

it("charts a metric that only evaluations have by itself", () => {
  expect(picturesOf([], ["eval_acc/all"])).toEqual([{ title: "eval acc/all", held: "eval_acc/all" }]);
});
