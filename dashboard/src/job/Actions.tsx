import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { ENDED, type Job, jobQuery, nameOf, orderJob, type Verb } from "../api/jobs";
import { useMay } from "../api/session";
import { Button, buttonClass } from "../parts/Button";
import { Dialog } from "../parts/Dialog";
import { Failure } from "../parts/Notice";
import css from "./JobPage.module.css";

/** What can be done with a job as it stands. */
export function Actions({ job }: { job: Job }) {
  const [cancelling, setCancelling] = useState(false);
  const { mutate, error, isPending } = useOrder(job);
  const may = useMay("write");
  const made = job.artifacts[0];
  const clone = (
    <>
      {made && (
        <Link
          to="/playground"
          search={{ tuned: made.name ? `${made.name}/${made.version}` : made.id }}
          className={buttonClass("primary")}
        >
          Talk with it
        </Link>
      )}
      <Link to="/jobs/new" search={{ from: job.id }} className={buttonClass()}>
        Clone
      </Link>
    </>
  );
  if (!may) return null;
  if (job.status === "failed") {
    return (
      <>
        {error && <Failure error={error} asked />}
        <Button disabled={isPending} onClick={() => mutate("retry")}>
          Retry
        </Button>
        {clone}
      </>
    );
  }
  if (ENDED.has(job.status) || job.cancel_requested) return clone;
  const paused = job.status === "paused" || job.status === "pausing";
  return (
    <>
      {error && <Failure error={error} asked />}
      <Button disabled={isPending} onClick={() => mutate(paused ? "resume" : "pause")}>
        {paused ? "Resume" : "Pause"}
      </Button>
      <Button onClick={() => setCancelling(true)}>Cancel</Button>
      {clone}
      {cancelling && <CancelDialog job={job} onClose={() => setCancelling(false)} />}
    </>
  );
}

function useOrder(job: Job, onDone?: () => void) {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (verb: Verb) => orderJob(job.id, verb),
    onSuccess: (changed) => {
      queries.setQueryData(jobQuery(job.id).queryKey, changed);
      onDone?.();
    },
  });
}

function CancelDialog({ job, onClose }: { job: Job; onClose: () => void }) {
  const { mutate, error, isPending } = useOrder(job, onClose);
  return (
    <Dialog title="Cancel this job?" onClose={onClose}>
      <div className={css.ask}>
        <p>
          <b>{nameOf(job).slice(0, 200)}</b> stops at the worker's next heartbeat and does not go on. Its checkpoints
          are kept. To go on later, pause it instead.
        </p>
        {error && <Failure error={error} asked />}
        <div className={css.actions}>
          <Button onClick={onClose}>Keep it</Button>
          <Button look="primary" disabled={isPending} onClick={() => mutate("cancel")}>
            Cancel the job
          </Button>
        </div>
      </div>
    </Dialog>
  );
}
