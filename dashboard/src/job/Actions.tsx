import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { cancelJob, ENDED, type Job, jobQuery, nameOf } from "../api/jobs";
import { Button } from "../parts/Button";
import { Dialog } from "../parts/Dialog";
import { Failure } from "../parts/Notice";
import css from "./JobPage.module.css";

/** What can be done with a job as it stands. */
export function Actions({ job }: { job: Job }) {
  const [asking, setAsking] = useState(false);
  if (ENDED.has(job.status) || job.cancel_requested) return null;
  return (
    <>
      <Button onClick={() => setAsking(true)}>Cancel</Button>
      {asking && <CancelDialog job={job} onClose={() => setAsking(false)} />}
    </>
  );
}

function CancelDialog({ job, onClose }: { job: Job; onClose: () => void }) {
  const queries = useQueryClient();
  const { mutate, error, isPending } = useMutation({
    mutationFn: () => cancelJob(job.id),
    onSuccess: (changed) => {
      queries.setQueryData(jobQuery(job.id).queryKey, changed);
      onClose();
    },
  });
  return (
    <Dialog title="Cancel this job?" onClose={onClose}>
      <p>
        <b>{nameOf(job).slice(0, 200)}</b> stops at the worker's next heartbeat and does not go on. Its checkpoints are
        kept.
      </p>
      {error && <Failure error={error} />}
      <div className={css.actions}>
        <Button look="primary" disabled={isPending} onClick={() => mutate()}>
          Cancel the job
        </Button>
        <Button onClick={onClose}>Keep it</Button>
      </div>
    </Dialog>
  );
}
