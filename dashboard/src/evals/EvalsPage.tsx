import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { evalJobsQuery } from "../api/evals";
import { filesQuery } from "../api/files";
import { type Job, modelOf, nameOf } from "../api/jobs";
import { MOST, modelsQuery } from "../api/models";
import { errorOf } from "../api/state";
import { count } from "../format";
import { Ago } from "../parts/Ago";
import { buttonClass, inputClass } from "../parts/Button";
import { Head } from "../parts/Head";
import { Icon } from "../parts/Icon";
import { List, numberClass } from "../parts/List";
import { Empty, Failure } from "../parts/Notice";
import { Pill } from "../parts/Pill";
import css from "./Evals.module.css";
import { Value, VerdictCell } from "./Figures";
import { gainOf, outcomeOf, type Score } from "./scores";

export interface EvalsSearch {
  /** The largest regression first; otherwise the newest first. */
  sort?: "regression";
  /** Only evaluations on this file. */
  file?: string;
  after?: string;
}

const route = getRouteApi("/evals");

/** All evaluations: their scores, how certain those are, and the differences to the base. */
export function EvalsPage() {
  const { sort, file, after } = route.useSearch();
  const { data, error } = useQuery(evalJobsQuery(after));
  const models = useQuery(modelsQuery);
  const unread = errorOf(models);
  const artifacts = models.data ?? [];
  const jobs = data?.data ?? [];
  const shown = jobs.filter(({ spec }) => !file || spec.eval_file === file);
  const rows = shown.map((job): Row => ({ job, score: outcomeOf(job, jobs, artifacts) }));
  const sorted = sort === "regression" ? rows.toSorted((a, b) => gain(a) - gain(b)) : rows;
  return (
    <>
      <Head title="Evals">
        <Link to="/jobs/new" search={{ spec: { kind: "eval" } }} className={buttonClass("primary")}>
          <Icon name="plus" /> New evaluation
        </Link>
      </Head>
      {error && !data && <Failure error={error} />}
      {unread && !error && <Failure error={unread} />}
      {data && jobs.length === 0 && !after && (
        <Empty title="No evaluations yet">
          <p className="muted">
            An eval job scores a model, an adapter or a checkpoint on the rows of a file. With compare_to it scores a
            second model too, and every difference has a confidence interval.
          </p>
          <Link to="/jobs/new" search={{ spec: { kind: "eval" } }} className={buttonClass()}>
            Evaluate a model
          </Link>
        </Empty>
      )}
      {jobs.length > 0 && (
        <>
          <Choices jobs={jobs} />
          {sorted.length > 0 ? (
            <Outcomes rows={sorted} />
          ) : (
            <p className="muted">No matching evaluations on this page.</p>
          )}
        </>
      )}
      {data?.has_more && (
        <p className={css.more}>
          <Link to="/evals" search={{ sort, file, after: data.last_id ?? undefined }}>
            Older evaluations
          </Link>
        </p>
      )}
    </>
  );
}

interface Row {
  job: Job;
  score: Score | undefined;
}

/** Evaluations without a difference come last. */
function gain({ score }: Row): number {
  return (score && gainOf(score)) ?? Number.POSITIVE_INFINITY;
}

function Choices({ jobs }: { jobs: readonly Job[] }) {
  const { sort, file } = route.useSearch();
  const navigate = route.useNavigate();
  const names = new Map(
    useQuery(filesQuery({ purpose: "evals" }, MOST)).data?.data.map(({ id, filename }) => [id, filename]),
  );
  const used = jobs.map(({ spec }) => String(spec.eval_file));
  const files = [...new Set(file ? [...used, file] : used)];
  return (
    <div className={css.choices}>
      <label>
        Dataset{" "}
        <select
          className={inputClass}
          value={file ?? ""}
          onChange={({ target }) => navigate({ search: { sort, file: target.value || undefined } })}
        >
          <option value="">all</option>
          {files.map((id) => (
            <option key={id} value={id}>
              {names.get(id) ?? id}
            </option>
          ))}
        </select>
      </label>
      <label>
        Sort by{" "}
        <select
          className={inputClass}
          value={sort ?? ""}
          onChange={({ target }) => navigate({ search: { file, sort: target.value ? "regression" : undefined } })}
        >
          <option value="">newest</option>
          <option value="regression">largest regression</option>
        </select>
      </label>
    </div>
  );
}

function Outcomes({ rows }: { rows: readonly Row[] }) {
  const bounds = rows.flatMap(({ score }) => Object.values(score?.difference?.interval ?? {}).map(Math.abs));
  const reach = Math.max(...bounds, 1e-9);
  return (
    <List
      label="Evaluations"
      columns={[
        "Evaluation",
        "Model",
        "Metric",
        "Score (95% CI)",
        { number: "Rows" },
        "Vs. base (95% CI)",
        "Change",
        "Created",
      ]}
    >
      {rows.map(({ job, score }) => (
        <tr key={job.id}>
          <td>
            <Link to="/evals/$jobId" params={{ jobId: job.id }}>
              <b>{nameOf(job).slice(0, 80)}</b>
            </Link>
          </td>
          <td>{modelOf(job)}</td>
          {score ? (
            <>
              <td>{score.name.replace(/^eval_/, "")}</td>
              <td>
                <Value value={score.value} interval={score.interval} />
              </td>
              <td className={numberClass}>{count(score.rows)}</td>
              <td>
                {score.difference ? (
                  <>
                    <Value value={score.difference.value} interval={score.difference.interval} signed />
                    <span className={css.against}>
                      {score.difference.against}
                      {!score.difference.paired && ", unpaired"}
                    </span>
                  </>
                ) : (
                  "–"
                )}
              </td>
              <td>
                <VerdictCell score={score} reach={reach} />
              </td>
            </>
          ) : (
            <td colSpan={5}>
              <Pill status={job.status} />
            </td>
          )}
          <td>
            <Ago at={job.created_at} />
          </td>
        </tr>
      ))}
    </List>
  );
}
