import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { ENDED, type Job, jobQuery, nameOf, orderJob, type Verb } from "../api/jobs";
import { useMay } from "../api/session";
import { withRun } from "../compare/runs";
import { Button, buttonClass } from "../parts/Button";
import { Dialog } from "../parts/Dialog";
import { Failure } from "../parts/Notice";
import css from "./JobPage.module.css";

/** The actions that a job's state allows. */
export function Actions({ job }: { job: Job }) {
  const [cancelling, setCancelling] = useState(false);
  const { mutate, error, isPending } = useOrder(job);
  const may = useMay("write");
  const made = job.artifacts[0];
  const compare = (
    <Link to="/compare" search={{ runs: withRun(job.id) }} className={buttonClass()}>
      Compare
    </Link>
  );
  const more = (
    <>
      {made && (
        <Link
          to="/playground"
          search={{ tuned: made.name ? `${made.name}/${made.version}` : made.id }}
          className={buttonClass("primary")}
        >
          Open in playground
        </Link>
      )}
      <Link to="/jobs/new" search={{ from: job.id }} className={buttonClass()}>
        Clone
      </Link>
      {compare}
    </>
  );
  if (!may) return compare;
  if (job.status === "failed") {
    return (
      <>
        {error && <Failure error={error} manual />}
        <Button disabled={isPending} onClick={() => mutate("retry")}>
          Retry
        </Button>
        {more}
      </>
    );
  }
  if (ENDED.has(job.status) || job.cancel_requested) return more;
  const paused = job.status === "paused" || job.status === "pausing";
  return (
    <>
      {error && <Failure error={error} manual />}
      <Button disabled={isPending} onClick={() => mutate(paused ? "resume" : "pause")}>
        {paused ? "Resume" : "Pause"}
      </Button>
      <Button onClick={() => setCancelling(true)}>Cancel</Button>
      {more}
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
          <b>{nameOf(job).slice(0, 200)}</b> stops at the worker's next heartbeat for good. Its checkpoints are kept. To
          continue it later, pause it instead.
        </p>
        {error && <Failure error={error} manual />}
        <div className={css.actions}>
          <Button onClick={onClose}>Keep running</Button>
          <Button look="primary" disabled={isPending} onClick={() => mutate("cancel")}>
            Cancel the job
          </Button>
        </div>
      </div>
    </Dialog>
  );
}
