import { useQueries, useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { useEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import { type Curve, ENDED, growingCurveQuery, type Job, jobsOfQuery, jobsQuery, nameOf } from "../api/jobs";
import { errorOf } from "../api/state";
import { Chart, type Series } from "../charts/Chart";
import { Swatch } from "../charts/Swatch";
import { figure } from "../format";
import { AXES } from "../job/axis";
import { Button, inputClass } from "../parts/Button";
import { Head } from "../parts/Head";
import { List, numberClass } from "../parts/List";
import { Empty, Failure, Notice } from "../parts/Notice";
import { useDark } from "../theme";
import css from "./ComparePage.module.css";
import { differences } from "./differences";
import { keepRuns, MOST } from "./runs";

export interface CompareSearch {
  /** The ids of the jobs; the first is the baseline. */
  runs?: string[];
  hidden?: string[];
  metric?: string;
}

const route = getRouteApi("/compare");
const POINTS = 1000;
/** The newest jobs to choose from. */
const CHOICES = 100;
/** The form of a job's id; nothing else is requested. */
const ID = /^[a-z0-9-]{1,100}$/;
/** The rows of differences that are shown at first: each has a cell for every run, and thousands take a second to lay out. */
const FIRST_ROWS = 40;

export function ComparePage() {
  const { runs, metric = "loss" } = route.useSearch();
  const navigate = route.useNavigate();
  const chosen = runs?.slice(0, MOST) ?? [];
  const ids = chosen.filter((id) => ID.test(id));
  const loaded = useQuery(jobsOfQuery(ids));
  const jobs = loaded.data;
  useEffect(() => {
    if (runs) keepRuns(runs);
  }, [runs]);
  // Requested together: the jobs and their curves do not wait for each other.
  const wanted = { metric, split: "train" as const, points: POINTS };
  const isGrowing = (id: string) => Boolean(jobs?.some((job) => job.id === id && !ENDED.has(job.status)));
  const queries = useQueries({ queries: ids.map((id) => growingCurveQuery(id, wanted, isGrowing(id))) });
  const curves = useLastWhole(queries, () => new Map(ids.map((id, index) => [id, queries[index]?.data])));
  const error = errorOf(loaded);
  if (!jobs)
    return (
      <>
        <Head title="Compare" />
        {error && <Failure error={error} />}
      </>
    );
  const missing = loaded.isPlaceholderData ? [] : chosen.filter((id) => !jobs.some((job) => job.id === id));
  const curveError = errorOf(...queries.filter((_, index) => !missing.includes(ids[index]!)));
  return (
    <>
      <Head title="Compare" />
      <Choice jobs={jobs} loadMore={curves !== undefined} />
      {runs && runs.length > MOST && (
        <Notice tone="warn">
          Only the first {MOST} of {runs.length} runs are shown.
        </Notice>
      )}
      {missing.length > 0 && (
        <Notice tone="warn">
          <span>
            The service has no such jobs: <code>{missing.join(", ")}</code>.
            {missing.includes(chosen[0]!) &&
              jobs.length > 0 &&
              " The baseline was among them; it is now the first below."}
          </span>
          <Button
            onClick={() =>
              navigate({
                search: (now) => ({ ...now, runs: runs?.filter((id) => !missing.includes(id)) }),
                replace: true,
              })
            }
          >
            Remove them
          </Button>
        </Notice>
      )}
      {jobs.length === 0 ? (
        <Empty title="No runs chosen">
          <p className="muted">Add jobs above. The first one is the baseline that the others are compared with.</p>
        </Empty>
      ) : (
        <div className={css.parts}>
          {curveError && <Failure error={curveError} />}
          <Curves jobs={jobs} curves={curves} failed={curveError !== undefined} />
          <Outcome jobs={jobs} />
          <Differences jobs={jobs} />
        </div>
      )}
    </>
  );
}

/** Returns what `make` makes of the queries, as of when all had answered: twenty curves are drawn once, not twenty times. */
function useLastWhole<T>(
  queries: readonly { isPending: boolean; isPlaceholderData: boolean }[],
  make: () => T,
): T | undefined {
  const last = useRef<T>(undefined);
  if (!queries.some(({ isPending, isPlaceholderData }) => isPending || isPlaceholderData)) last.current = make();
  return last.current;
}

/** The names of runs; equal ones are told apart by the ends of their ids. */
function namesOf(jobs: readonly Job[]): string[] {
  const names = jobs.map((job) => nameOf(job).slice(0, 60));
  return names.map((name, index) =>
    names.indexOf(name) === names.lastIndexOf(name) ? name : `${name} …${jobs[index]!.id.slice(-6)}`,
  );
}

function Choice({ jobs, loadMore }: { jobs: readonly Job[]; loadMore: boolean }) {
  const { runs = [], hidden = [], metric = "loss" } = route.useSearch();
  const navigate = route.useNavigate();
  const dark = useDark();
  const newest = useQuery({ ...jobsQuery({}, CHOICES), refetchInterval: false, enabled: loadMore }).data;
  const set = (change: CompareSearch) => navigate({ search: (before) => ({ ...before, ...change }), replace: true });
  const names = namesOf(jobs);
  const metrics = [...new Set([metric, ...jobs.flatMap(({ progress }) => Object.keys(progress))])].sort();
  return (
    <>
      <div className={css.add}>
        <label>
          Add{" "}
          <select className={inputClass} value="" onChange={({ target }) => set({ runs: [...runs, target.value] })}>
            <option value="">a job …</option>
            {newest?.data
              .filter(({ id }) => !runs.includes(id))
              .map((job) => (
                <option key={job.id} value={job.id}>
                  {nameOf(job).slice(0, 60)} ({job.kind}, {job.status})
                </option>
              ))}
          </select>
        </label>
        {jobs.length > 0 && (
          <label>
            Metric{" "}
            <select className={inputClass} value={metric} onChange={({ target }) => set({ metric: target.value })}>
              {metrics.map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </label>
        )}
        {newest?.has_more && <span className="muted">Add an older job with Compare on its own page.</span>}
      </div>
      <ul className={css.runs}>
        {jobs.map((job, index) => (
          <li key={job.id} className={css.run}>
            <Swatch look={index} dark={dark} />
            <label>
              <input
                type="checkbox"
                checked={!hidden.includes(job.id)}
                onChange={({ target }) =>
                  set({ hidden: target.checked ? hidden.filter((id) => id !== job.id) : [...hidden, job.id] })
                }
              />{" "}
              {names[index]}
            </label>
            {index === 0 ? (
              <b>baseline</b>
            ) : (
              <Button look="plain" onClick={() => set({ runs: [job.id, ...runs.filter((id) => id !== job.id)] })}>
                Make baseline<span className="visually-hidden">: {names[index]}</span>
              </Button>
            )}
            <Button look="plain" onClick={() => set({ runs: runs.filter((id) => id !== job.id) })}>
              Remove<span className="visually-hidden"> {names[index]}</span>
            </Button>
          </li>
        ))}
      </ul>
    </>
  );
}

interface CurvesProps {
  jobs: readonly Job[];
  curves: Map<string, Curve | undefined> | undefined;
  /** Some curves could not be read. */
  failed: boolean;
}

/** The curves of the runs. Hiding one does not change the colours of the others. */
function Curves({ jobs, curves, failed }: CurvesProps) {
  const { hidden = [], metric = "loss" } = route.useSearch();
  const names = namesOf(jobs);
  const shown = jobs.flatMap((job, look) =>
    hidden.includes(job.id) ? [] : [{ name: names[look]!, look, curve: curves?.get(job.id) }],
  );
  const key = shown.map(({ name, curve }) => `${name} ${curve?.metric} ${curve?.last_seq}`).join();
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key changes with everything that is shown
  const drawing = useMemo(() => curves && draw(shown), [key, curves === undefined]);
  if (drawing === undefined) return failed ? null : <p className="muted">Loading …</p>;
  // While another metric is loading, the curves of the previous one are still shown.
  const title = shown.find(({ curve }) => curve)?.curve?.metric ?? metric;
  if (drawing === null) return failed ? null : <p className="muted">None of the visible runs has values of {title}.</p>;
  return (
    <section>
      <h2>{title}</h2>
      <Chart
        label={`${title} of ${drawing.series.map(({ name }) => name).join(", ")}`}
        {...drawing}
        xName={AXES.step.title}
        xValue={AXES.step.value}
        height={360}
      />
    </section>
  );
}

function draw(shown: readonly { name: string; look: number; curve: Curve | undefined }[]) {
  const drawn = shown.filter(({ curve }) => curve && curve.step.length > 0);
  if (drawn.length === 0) return null;
  const [x, ...values] = uPlot.join(
    drawn.map(({ curve }) => [curve!.step, curve!.value] as uPlot.AlignedData),
  ) as unknown as [number[], ...(number | null)[][]];
  return { x, series: drawn.map(({ name, look }, index): Series => ({ name, look, values: values[index]! })) };
}

function Outcome({ jobs }: { jobs: readonly Job[] }) {
  const base = heldOutLossOf(jobs[0]!);
  const names = namesOf(jobs);
  return (
    <section>
      <h2>Outcome</h2>
      <List
        label="Outcome"
        columns={["Run", "Status", { number: "Last loss" }, { number: "Held-out loss" }, { number: "Vs. baseline" }]}
      >
        {jobs.map((job, index) => {
          const held = heldOutLossOf(job);
          return (
            <tr key={job.id}>
              <td>{names[index]}</td>
              <td>{job.status}</td>
              <td className={numberClass}>{job.progress.loss === undefined ? "–" : figure(job.progress.loss)}</td>
              <td className={numberClass}>{held === null ? "–" : figure(held)}</td>
              <td className={numberClass}>
                {held === null || base === null || job === jobs[0]
                  ? "–"
                  : `${held > base ? "+" : ""}${figure(held - base)}`}
              </td>
            </tr>
          );
        })}
      </List>
    </section>
  );
}

function heldOutLossOf(job: Job): number | null {
  return job.result?.metrics.eval_loss ?? null;
}

function Differences({ jobs }: { jobs: readonly Job[] }) {
  const [all, setAll] = useState(false);
  const rows = differences(jobs.map(({ spec }) => spec));
  return (
    <section>
      <h2>Differences between their specs</h2>
      {rows.length === 0 ? (
        <p className="muted">None: their specs are equal.</p>
      ) : (
        <List label="Differences" columns={["Value", ...namesOf(jobs)]}>
          {rows.slice(0, all ? undefined : FIRST_ROWS).map(({ path, values }) => (
            <tr key={path}>
              <td>{path}</td>
              {values.map((value, index) => (
                <td key={jobs[index]!.id} className={value === values[0] ? undefined : css.differs}>
                  <code>{value.slice(0, 80)}</code>
                </td>
              ))}
            </tr>
          ))}
        </List>
      )}
      {!all && rows.length > FIRST_ROWS && <Button onClick={() => setAll(true)}>Show all {rows.length}</Button>}
    </section>
  );
}
