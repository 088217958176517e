import type { Job } from "../api/jobs";
import { count, duration } from "../format";
import { masked } from "./mask";

/** Describes a job's state in a sentence: what happens next, or what to do. */
export function sentence(job: Job): string {
  if (job.cancel_requested && !job.finished_at)
    return "Cancellation requested; the worker stops the job at its next heartbeat.";
  const reason = job.waiting_reason && masked(job.waiting_reason);
  switch (job.status) {
    case "queued":
      return `Waiting: ${reason ?? "the next free worker takes it"}.${expectedStart(job)}`;
    case "preparing":
      return "A worker is preparing the data and the base model. This takes seconds, or minutes for large files.";
    case "running":
      return running(job);
    case "pausing":
      return "Saving a checkpoint before it releases its worker.";
    case "paused":
      return "Paused at its checkpoint; it holds no worker. Resume continues from there.";
    case "succeeded":
      return succeeded(job);
    case "failed":
      return `Failed ${job.step ? `at step ${count(job.step)}` : "before its first step"}. The cause and how to fix it:`;
    case "cancelled":
      return `Cancelled ${job.step ? `at step ${count(job.step)}; its checkpoints are kept` : "before it started"}. Clone it to start over.`;
    default:
      return reason ?? `The job is ${job.status}.`;
  }
}

function expectedStart({ estimated_start_at }: Job): string {
  const left = (estimated_start_at ?? 0) - Date.now() / 1000;
  return left > 0 ? ` It should start in about ${duration(left)}.` : "";
}

function running(job: Job): string {
  if (job.kind === "eval" && job.step !== null) return "Scoring the rows.";
  if (job.step === null || job.eta_s === null)
    return "The engine is starting: it reads the data and benchmarks the machine.";
  if (job.total_steps && job.step >= job.total_steps)
    return "The last step is done; the result is being exported and verified.";
  return `Training: about ${duration(job.eta_s)} left.`;
}

function succeeded(job: Job): string {
  const names = job.artifacts.map((artifact) => `${artifact.kind} ${artifact.name}/${artifact.version}`);
  const took = job.started_at && job.finished_at ? ` in ${duration(job.finished_at - job.started_at)}` : "";
  return names.length ? `Done${took}: created ${names.join(" and ")}.` : `Done${took}.`;
}
