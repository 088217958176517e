import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link, useRouter } from "@tanstack/react-router";
import { type Job, jobsQuery, type Status } from "../api/jobs";
import { kindsQuery } from "../api/kinds";
import { useMay } from "../api/session";
import { Button, buttonClass, inputClass } from "../parts/Button";
import { Head } from "../parts/Head";
import { Icon } from "../parts/Icon";
import { Empty, Failure } from "../parts/Notice";
import { Guide } from "../start/Guide";
import { JobRow } from "./JobRow";
import css from "./JobsPage.module.css";

const STATUSES: readonly Status[] = [
  "queued",
  "preparing",
  "running",
  "pausing",
  "paused",
  "succeeded",
  "failed",
  "cancelled",
];
/** Up to this number of jobs the guide is still shown above them. */
const FEW = 3;
const route = getRouteApi("/jobs");

export function JobsPage() {
  const search = route.useSearch();
  const { data, error } = useQuery(jobsQuery(search));
  const filtered = Boolean(search.status || search.kind || search.after);
  return (
    <>
      <Head title="Jobs">
        {useMay("write") && (
          <Link to="/jobs/new" className={buttonClass("primary")}>
            <Icon name="plus" /> New job
          </Link>
        )}
      </Head>
      <Filters />
      {error && !data && <Failure error={error} />}
      {data && data.data.length > 0 && data.data.length <= FEW && !filtered && <Guide />}
      {data && data.data.length > 0 && <JobsTable jobs={data.data} />}
      {data && data.data.length === 0 && (filtered ? <NoneOfThese /> : <Guide isFirst />)}
      {data && <Pages older={data.has_more ? (data.last_id ?? null) : null} />}
    </>
  );
}

function Filters() {
  const { status, kind } = route.useSearch();
  const kinds = useQuery(kindsQuery).data?.data ?? [];
  const navigate = route.useNavigate();
  return (
    <div className={css.filters}>
      <nav aria-label="Status" className={css.states}>
        {[undefined, ...STATUSES].map((value) => (
          <Link
            key={value ?? "all"}
            to="/jobs"
            search={{ status: value, kind }}
            activeOptions={{ exact: true, includeSearch: true, explicitUndefined: true }}
          >
            {value ?? "all"}
          </Link>
        ))}
      </nav>
      <label className={css.kind}>
        <span className="muted">Kind</span>
        <select
          className={inputClass}
          value={kind ?? ""}
          onChange={(event) => navigate({ search: { status, kind: event.target.value || undefined } })}
        >
          <option value="">all</option>
          {kinds.map(({ id }) => (
            <option key={id}>{id}</option>
          ))}
        </select>
      </label>
    </div>
  );
}

function JobsTable({ jobs }: { jobs: readonly Job[] }) {
  return (
    <table className={css.table}>
      <thead>
        <tr>
          <th scope="col">Job</th>
          <th scope="col">Status</th>
          <th scope="col">Progress</th>
          <th scope="col" className={css.curve}>
            Loss
          </th>
          <th scope="col" className={css.number}>
            Last loss
          </th>
          <th scope="col" className={css.number}>
            Time
          </th>
          <th scope="col" className={css.number}>
            Created
          </th>
        </tr>
      </thead>
      <tbody>
        {jobs.map((job) => (
          <JobRow key={job.id} job={job} />
        ))}
      </tbody>
    </table>
  );
}

function Pages({ older }: { older: string | null }) {
  const { after, ...rest } = route.useSearch();
  const { history } = useRouter();
  if (!after && !older) return null;
  return (
    <nav aria-label="More jobs" className={css.pages}>
      {after && (
        <>
          <Link to="/jobs" search={rest}>
            Newest
          </Link>
          <Button look="plain" onClick={() => history.back()}>
            Back
          </Button>
        </>
      )}
      {older && (
        <Link to="/jobs" search={{ ...rest, after: older }}>
          Older jobs
        </Link>
      )}
    </nav>
  );
}

function NoneOfThese() {
  return (
    <Empty title="No matching jobs">
      <Link to="/jobs">Show all jobs</Link>
    </Empty>
  );
}
