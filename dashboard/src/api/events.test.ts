import { expect, it } from "vitest";
import { firstErrorOf, type JobEvent } from "./events";

const event = (seq: number, type: string, attempt: number | null, data: JobEvent["data"] = null): JobEvent => ({
  seq,
  type,
  attempt,
  data,
  time: seq,
  level: "error",
  message: "",
});
const failure = (seq: number, attempt: number) => event(seq, "state", attempt, { state: "failed" });

it("finds the first error of the current run, not of one before a retry", () => {
  const before = [failure(5, 1), event(4, "log", 1)];
  const retried = [event(9, "log", 3), event(8, "log", 2)];
  expect(firstErrorOf(before, "failed")?.seq).toBe(4);
  expect(firstErrorOf([failure(10, 3), ...retried, ...before], "failed")?.seq).toBe(8);
  expect(firstErrorOf([failure(7, 2), ...before], "failed")?.seq).toBe(7);
  expect(firstErrorOf([...retried, ...before], "running")?.seq).toBe(8);
  expect(firstErrorOf(before, "running")).toBeUndefined();
});
