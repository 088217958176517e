import { expect, it } from "vitest";
import { picturesOf } from "./figures";

it("puts the loss first and beside it what was held out", () => {
  const [first] = picturesOf(["grad_norm", "loss", "tokens_per_s", "eta_s"], ["eval_loss", "eval_perplexity"]);
  expect(first).toEqual({ title: "Loss", train: "loss", held: "eval_loss" });
});

it("leaves the machine's figures and counters to others", () => {
  const names = picturesOf(["loss", "mfu", "tokens", "tokens/a.jsonl"], ["eval_tokens"]).map(({ train }) => train);
  expect(names).toEqual(["loss"]);
});

it("shows what only evaluations tell by itself", () => {
  expect(picturesOf([], ["eval_acc/all"])).toEqual([{ title: "eval acc/all", held: "eval_acc/all" }]);
});
