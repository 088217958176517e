import { beforeEach, expect, it } from "vitest";
import { keepRuns, MOST, withRun } from "./runs";

beforeEach(() => sessionStorage.clear());

it("adds a job to the comparison of this tab, once", () => {
  expect(withRun("a")).toEqual(["a"]);
  keepRuns(["a", "b"]);
  expect(withRun("c")).toEqual(["a", "b", "c"]);
  expect(withRun("a")).toEqual(["a", "b"]);
});

it("begins another comparison when one is full", () => {
  keepRuns(Array.from({ length: MOST }, (_, index) => `run-${index}`));
  expect(withRun("c")).toEqual(["c"]);
});
