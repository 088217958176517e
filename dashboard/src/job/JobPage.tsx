import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link, Outlet } from "@tanstack/react-router";
import { firstErrorQuery } from "../api/events";
import { ENDED, type Job, jobQuery, modelOf, nameOf } from "../api/jobs";
import { count } from "../format";
import { Ago } from "../parts/Ago";
import { Bar } from "../parts/Bar";
import { Copy } from "../parts/Command";
import { Failure, Notice } from "../parts/Notice";
import { Pill } from "../parts/Pill";
import tabs from "../parts/Tabs.module.css";
import { useTitle } from "../parts/title";
import { Actions } from "./Actions";
import css from "./JobPage.module.css";
import { Following } from "./live";
import { masked } from "./mask";
import type { JobSearch } from "./search";
import { sentence } from "./sentence";

const route = getRouteApi("/jobs/$jobId");

export function JobPage() {
  const { jobId } = route.useParams();
  const { data: job, error } = useQuery(jobQuery(jobId));
  useTitle(job ? nameOf(job) : jobId);
  if (!job) return error && <Failure error={error} />;
  return (
    <Following key={job.id} job={job}>
      <Header job={job} />
      <nav aria-label="Job" className={tabs.tabs}>
        {TABS.map(({ to, title }) => (
          <Link key={to} to={to} params={{ jobId }} search={keepAxes} activeOptions={{ includeSearch: false }}>
            {title}
          </Link>
        ))}
      </nav>
      <Outlet />
    </Following>
  );
}

const TABS = [
  { to: "/jobs/$jobId/metrics", title: "Metrics" },
  { to: "/jobs/$jobId/events", title: "Events" },
  { to: "/jobs/$jobId/system", title: "System" },
  { to: "/jobs/$jobId/config", title: "Config" },
  { to: "/jobs/$jobId/artifacts", title: "Checkpoints and results" },
] as const;

/** The axes of the charts stay the same from tab to tab. */
function keepAxes({ x, logx, logy }: JobSearch): JobSearch {
  return { x, logx, logy };
}

function Header({ job }: { job: Job }) {
  return (
    <header className={css.head}>
      <p className={css.crumb}>
        <Link to="/jobs">Jobs</Link>
      </p>
      <div className={css.title}>
        <h1>{nameOf(job)}</h1>
        <Pill status={job.status} />
        <div className={css.actions}>
          <Actions job={job} />
        </div>
      </div>
      <p className={css.facts}>
        <span>
          {job.kind} · {modelOf(job)}
        </span>
        <span className={css.id}>
          <code>{job.id}</code>
          <Copy text={job.id} label="Copy the id" />
        </span>
        <span>
          created <Ago at={job.created_at} />
        </span>
        {job.attempt > 1 && <span>attempt {job.attempt}</span>}
      </p>
      <p className={css.sentence}>{sentence(job)}</p>
      {job.error && <JobError job={job} error={job.error} />}
      {!ENDED.has(job.status) && <Steps job={job} />}
    </header>
  );
}

function Steps({ job }: { job: Job }) {
  if (!job.total_steps) return null;
  const step = job.step ?? 0;
  return (
    <div className={css.bar}>
      <span>
        {count(step)} <span className="muted">of {count(job.total_steps)} steps</span>
      </span>
      <Bar share={step / job.total_steps} />
    </div>
  );
}

function JobError({ job, error }: { job: Job; error: NonNullable<Job["error"]> }) {
  const first = useQuery(firstErrorQuery(job)).data;
  return (
    <Notice tone="bad">
      <b>{error.code ?? error.class}</b>
      <span>{masked(error.message ?? "")}</span>
      {error.mend && <span>{masked(error.mend)}</span>}
      {first && (
        <Link to="/jobs/$jobId/events" params={{ jobId: job.id }} search={{ line: first.seq }}>
          Show in events
        </Link>
      )}
    </Notice>
  );
}
