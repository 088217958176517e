import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { curveQuery, ENDED, type Job, lossOf, modelOf, nameOf } from "../api/jobs";
import { count, duration, figure } from "../format";
import { Ago } from "../parts/Ago";
import { Bar } from "../parts/Bar";
import { Pill } from "../parts/Pill";
import { Sparkline } from "../parts/Sparkline";
import css from "./JobsPage.module.css";

const POINTS = 48;

export function JobRow({ job }: { job: Job }) {
  const loss = lossOf(job);
  const time = timeOf(job);
  return (
    <tr>
      <td>
        <div className={css.name}>
          <Link to="/jobs/$jobId" params={{ jobId: job.id }} title={nameOf(job)}>
            {nameOf(job)}
          </Link>
          <small>
            {job.kind} · {modelOf(job)}
            {nameOf(job) !== job.id && ` · ${job.id}`}
          </small>
        </div>
      </td>
      <td className={css.status}>
        <Pill status={job.status} />
      </td>
      <td data-empty={!job.total_steps}>
        <Progress job={job} />
      </td>
      <td className={css.curve}>{job.step ? <Loss job={job} /> : null}</td>
      <td className={css.number} data-empty={loss === null}>
        {loss === null ? <span className="muted">–</span> : figure(loss)}
      </td>
      <td className={css.number} data-empty={time === null}>
        {time ?? <span className="muted">–</span>}
      </td>
      <td className={css.number}>
        <span className="muted">
          <Ago at={job.created_at} />
        </span>
      </td>
    </tr>
  );
}

function Progress({ job }: { job: Job }) {
  if (job.queue_position) return <span className="muted">#{job.queue_position} in the queue</span>;
  if (!job.total_steps) return null;
  const step = job.step ?? 0;
  return (
    <div className={css.progress}>
      <span>
        {count(step)} <span className="muted">of {count(job.total_steps)} steps</span>
      </span>
      {!ENDED.has(job.status) && <Bar share={step / job.total_steps} />}
    </div>
  );
}

/** The loss so far; read again only when a running job has advanced by a point of the sparkline. */
function Loss({ job }: { job: Job }) {
  const grain = Math.max(1, Math.floor((job.total_steps ?? POINTS) / POINTS));
  const version = ENDED.has(job.status) ? job.status : Math.floor((job.step ?? 0) / grain);
  const { data } = useQuery(curveQuery(job.id, { metric: "loss", split: "train", points: POINTS }, version));
  return data ? <Sparkline values={data.value} label={`Loss of ${nameOf(job)}`} /> : null;
}

/** The remaining time of a running job, or the duration of a finished one. */
function timeOf(job: Job): string | null {
  if (job.status === "running" && job.eta_s !== null) return `${duration(job.eta_s)} left`;
  if (job.started_at && job.finished_at) return duration(job.finished_at - job.started_at);
  return null;
}
