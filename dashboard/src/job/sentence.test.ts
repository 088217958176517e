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

it("gives the reason for which a queued job waits", () => {
  expect(sentence(job)).toBe("Waiting: 3 jobs go first.");
});

it("masks secrets in the reason for waiting", () => {
  const waiting_reason = "retrying after 401 for hf_AAAABBBBCCCCDDDD";
  for (const status of ["queued", "unheard-of"] as unknown as Job["status"][])
    expect(sentence({ ...job, status, waiting_reason })).toContain("401 for hf_••••••••");
});

it("says when a queued job should start", () => {
  const text = sentence({ ...job, estimated_start_at: Date.now() / 1000 + 119.9 });
  expect(text).toBe("Waiting: 3 jobs go first. It should start in about 2 min.");
});

it("says how long a running job still takes", () => {
  expect(sentence({ ...job, status: "running", step: 10, total_steps: 100, eta_s: 65 })).toContain("1 min 5 s left");
});

it("says whether an evaluation, which has no steps, is scoring yet", () => {
  const scoring = { ...job, kind: "eval", status: "running", step: 0, total_steps: 0 } as const;
  expect(sentence(scoring)).toBe("Scoring the rows.");
  expect(sentence({ ...scoring, step: null })).toContain("The engine is starting");
});

it("names what a job has created", () => {
  const adapter = { id: "a", kind: "adapter", name: "bot", version: 2, digest: "" } as const;
  const text = sentence({ ...job, status: "succeeded", started_at: 10, finished_at: 40, artifacts: [adapter] });
  expect(text).toBe("Done in 30 s: created adapter bot/2.");
});

it("reports a requested cancellation whatever the job does", () => {
  expect(sentence({ ...job, status: "running", cancel_requested: true, finished_at: null })).toContain(
    "Cancellation requested",
  );
});
