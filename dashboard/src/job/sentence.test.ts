import { expect, it } from "vitest";
import type { Job } from "../api/jobs";
import { sentence } from "./sentence";

const job = {
  status: "queued",
  waiting_reason: "3 jobs go first",
  cancel_requested: false,
  step: null,
  eta_s: null,
  artifacts: [],
} as unknown as Job;

it("tells why a queued job waits", () => {
  expect(sentence(job)).toBe("Waiting: 3 jobs go first.");
});

it("tells when a queued job should start", () => {
  const told = sentence({ ...job, estimated_start_at: Date.now() / 1000 + 119.9 });
  expect(told).toBe("Waiting: 3 jobs go first. It should start in about 2 min.");
});

it("tells how long a running job still takes", () => {
  expect(sentence({ ...job, status: "running", step: 10, total_steps: 100, eta_s: 65 })).toContain("1 min 5 s left");
});

it("tells of an evaluation, which has no steps, whether it scores already", () => {
  const scoring = { ...job, kind: "eval", status: "running", step: 0, total_steps: 0 } as const;
  expect(sentence(scoring)).toBe("It scores the rows.");
  expect(sentence({ ...scoring, step: null })).toContain("The engine starts");
});

it("tells what a job has made", () => {
  const adapter = { id: "a", kind: "adapter", name: "bot", version: 2, digest: "" } as const;
  const told = sentence({ ...job, status: "succeeded", started_at: 10, finished_at: 40, artifacts: [adapter] });
  expect(told).toBe("Done in 30 s: it made adapter bot/2.");
});

it("says of a job that was asked to stop that it stops, whatever it does", () => {
  expect(sentence({ ...job, status: "running", cancel_requested: true, finished_at: null })).toContain("asked to stop");
});
