import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import type { Only } from "../api/evals";
import { ENDED, type Job, jobQuery, modelOf, nameOf } from "../api/jobs";
import { count, figure } from "../format";
import { masked } from "../job/mask";
import { Head } from "../parts/Head";
import { List, numberClass } from "../parts/List";
import { Failure, Notice } from "../parts/Notice";
import { Pill } from "../parts/Pill";
import css from "./Evals.module.css";
import { Value, VerdictCell } from "./Figures";
import { ScoredRows } from "./ScoredRows";
import { scoresOf } from "./scores";

export interface EvalSearch {
  only?: Only;
  /** The number of the last row on the previous page. */
  after?: number;
}

const route = getRouteApi("/evals/$jobId");

/** One evaluation: every score, its subjects, and the outcome of each row. */
export function EvalPage() {
  const { jobId } = route.useParams();
  const { data: job, error } = useQuery(jobQuery(jobId));
  if (!job) return error && <Failure error={error} />;
  const rival = typeof job.spec.compare_to === "string" ? job.spec.compare_to : undefined;
  return (
    <>
      <p className={css.crumb}>
        <Link to="/evals">Evals</Link>
      </p>
      <Head title={nameOf(job)} />
      <p className={css.facts}>
        <Pill status={job.status} />
        <span>
          <b>{modelOf(job)}</b>
          {rival && (
            <>
              {" "}
              against <b>{rival}</b>
            </>
          )}
        </span>
        <span>
          on{" "}
          <Link to="/datasets/$fileId" params={{ fileId: String(job.spec.eval_file) }}>
            this dataset
          </Link>
        </span>
        <Link to="/jobs/$jobId" params={{ jobId }}>
          View job
        </Link>
      </p>
      {job.error && <Notice tone="bad">{masked([job.error.message, job.error.mend].filter(Boolean).join(" "))}</Notice>}
      {!job.result && !ENDED.has(job.status) && <Notice>The scores appear here when the job has succeeded.</Notice>}
      {job.result && (
        <div className={css.parts}>
          <Scores job={job} />
          <Subjects groups={job.result.groups} />
          {job.result_files.length > 0 && <ScoredRows jobId={jobId} model={modelOf(job)} rival={rival} />}
        </div>
      )}
    </>
  );
}

function Scores({ job }: { job: Job }) {
  const scores = scoresOf(job);
  return (
    <List label="Scores" columns={["Metric", "Score (95% CI)", { number: "Rows" }, "Difference (95% CI)", "Change"]}>
      {scores.map((score) => (
        <tr key={score.name}>
          <td>{score.name}</td>
          <td>
            <Value value={score.value} interval={score.interval} />
          </td>
          <td className={numberClass}>{count(score.rows)}</td>
          <td>{score.difference ? <Value {...score.difference} signed /> : "–"}</td>
          <td>
            <VerdictCell score={score} />
          </td>
        </tr>
      ))}
    </List>
  );
}

function Subjects({ groups }: { groups: NonNullable<Job["result"]>["groups"] }) {
  const names = Object.keys(groups);
  if (names.length === 0) return null;
  const metrics = Object.keys(groups[names[0]!]!).filter((name) => name !== "eval_rows");
  return (
    <section>
      <h2>By subject</h2>
      <List
        label="Subjects"
        columns={["Subject", { number: "Rows" }, ...metrics.map((name) => ({ number: name.replace(/^eval_/, "") }))]}
      >
        {names.map((name) => (
          <tr key={name}>
            <td>{name}</td>
            <td className={numberClass}>{count(groups[name]!.eval_rows ?? 0)}</td>
            {metrics.map((each) => (
              <td key={each} className={numberClass}>
                {figure(groups[name]![each])}
              </td>
            ))}
          </tr>
        ))}
      </List>
    </section>
  );
}
