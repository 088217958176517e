import type { Job } from "../api/jobs";
import { count, duration } from "../format";

/** What a job's state means for the one who looks: what to expect, or what to do. */
export function sentence(job: Job): string {
  if (job.cancel_requested && !job.finished_at)
    return "It has been asked to stop; the worker stops it at its next heartbeat.";
  switch (job.status) {
    case "queued":
      return `Waiting: ${job.waiting_reason ?? "a worker takes it as soon as one is free"}.${soon(job)}`;
    case "preparing":
      return "A worker lays out the data and the base model. This takes seconds, for large files minutes.";
    case "running":
      return running(job);
    case "pausing":
      return "It saves a checkpoint and then frees its worker.";
    case "paused":
      return "It rests on its checkpoint and holds no worker. Resume lets it go on from there.";
    case "succeeded":
      return made(job);
    case "failed":
      return `It failed${job.step ? ` at step ${count(job.step)}` : " before its first step"}. What went wrong and what mends it:`;
    case "cancelled":
      return `It was stopped on request${job.step ? ` at step ${count(job.step)}; its checkpoints are kept` : " before it began"}. A clone of it starts anew.`;
    default:
      return job.waiting_reason ?? `It is ${job.status}.`;
  }
}

function soon({ estimated_start_at }: Job): string {
  const left = (estimated_start_at ?? 0) - Date.now() / 1000;
  return left > 0 ? ` It should start in about ${duration(left)}.` : "";
}

function running(job: Job): string {
  if (job.kind === "eval" && job.step !== null) return "It scores the rows.";
  if (job.step === null || job.eta_s === null) return "The engine starts: it reads the data and measures the machine.";
  if (job.total_steps && job.step >= job.total_steps)
    return "The last step is done; the result is exported and checked.";
  return `Training: about ${duration(job.eta_s)} left.`;
}

function made(job: Job): string {
  const names = job.artifacts.map((artifact) => `${artifact.kind} ${artifact.name}/${artifact.version}`);
  const took = job.started_at && job.finished_at ? ` in ${duration(job.finished_at - job.started_at)}` : "";
  return names.length ? `Done${took}: it made ${names.join(" and ")}.` : `Done${took}.`;
}
