import { useQueries, useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import { type Curve, ENDED, growingCurveQuery, type Job, jobsOfQuery, jobsQuery, nameOf } from "../api/jobs";
import { Chart, type Series } from "../charts/Chart";
import { lookOf } from "../charts/colours";
import { figure } from "../format";
import { AXES } from "../job/axis";
import { Button, inputClass } from "../parts/Button";
import { Head } from "../parts/Head";
import { List, numberClass } from "../parts/List";
import { Empty, Notice } from "../parts/Notice";
import { useDark } from "../theme";
import css from "./ComparePage.module.css";
import { differences } from "./differences";

export interface CompareSearch {
  /** Ids of jobs: the first is the baseline. */
  runs?: string[];
  hidden?: string[];
  metric?: string;
}

const route = getRouteApi("/compare");
const POINTS = 1000;
const MOST = 20;
/** What can be the id of a job: no other is asked for. */
const ID = /^[a-z0-9-]{1,100}$/;
/** Rows of differences until all are asked for: each has a cell for every run, and laying out thousands takes a second. */
const FIRST_ROWS = 40;

export function ComparePage() {
  const { runs = [], metric = "loss" } = route.useSearch();
  const chosen = runs.slice(0, MOST);
  const ids = chosen.filter((id) => ID.test(id));
  const { data: jobs, isPlaceholderData } = useQuery(jobsOfQuery(ids));
  // Asked for at the same time: what a run is called and what it told do not wait for each other.
  const wanted = { metric, split: "train" as const, points: POINTS };
  const isGrowing = (id: string) => Boolean(jobs?.some((job) => job.id === id && !ENDED.has(job.status)));
  const asked = useQueries({ queries: ids.map((id) => growingCurveQuery(id, wanted, isGrowing(id))) });
  const curves = useLastWhole(asked, () => new Map(ids.map((id, index) => [id, asked[index]?.data])));
  if (!jobs) return <Head title="Compare" />;
  const unread = isPlaceholderData ? [] : chosen.filter((id) => !jobs.some((job) => job.id === id));
  return (
    <>
      <Head title="Compare" />
      <Choice jobs={jobs} askForMore={curves !== undefined} />
      {runs.length > MOST && (
        <Notice tone="warn">
          These are the first {MOST} of {runs.length} runs.
        </Notice>
      )}
      {unread.length > 0 && (
        <Notice tone="warn">
          <span>
            Not here, since the service has no such job or did not tell of it: <code>{unread.join(", ")}</code>.
            {unread.includes(runs[0]!) && jobs.length > 0 && " The baseline was among them; it is now the first below."}
          </span>
        </Notice>
      )}
      {jobs.length === 0 ? (
        <Empty title="No runs chosen">
          <p className="muted">Add jobs above: the first one is the baseline that the others are held against.</p>
        </Empty>
      ) : (
        <div className={css.parts}>
          <Curves jobs={jobs} curves={curves} />
          <Outcome jobs={jobs} />
          <Differences jobs={jobs} />
        </div>
      )}
    </>
  );
}

/** What is made of all answers, as of when none was missing: one drawing of twenty curves instead of twenty. */
function useLastWhole<T>(
  asked: readonly { isPending: boolean; isPlaceholderData: boolean }[],
  make: () => T,
): T | undefined {
  const last = useRef<T>(undefined);
  if (!asked.some(({ isPending, isPlaceholderData }) => isPending || isPlaceholderData)) last.current = make();
  return last.current;
}

/** What a run is called beside others: names that two of them have get the end of their ids. */
function namesOf(jobs: readonly Job[]): string[] {
  const names = jobs.map((job) => nameOf(job).slice(0, 60));
  return names.map((name, index) =>
    names.indexOf(name) === names.lastIndexOf(name) ? name : `${name} …${jobs[index]!.id.slice(-6)}`,
  );
}

function Choice({ jobs, askForMore }: { jobs: readonly Job[]; askForMore: boolean }) {
  const { runs = [], hidden = [], metric = "loss" } = route.useSearch();
  const navigate = route.useNavigate();
  const dark = useDark();
  const known = useQuery({ ...jobsQuery({}), refetchInterval: false, enabled: askForMore }).data?.data ?? [];
  const set = (change: CompareSearch) => navigate({ search: (before) => ({ ...before, ...change }), replace: true });
  const names = namesOf(jobs);
  const metrics = [...new Set(jobs.flatMap(({ progress }) => Object.keys(progress)))].sort();
  return (
    <>
      <div className={css.add}>
        <label>
          Add{" "}
          <select className={inputClass} value="" onChange={({ target }) => set({ runs: [...runs, target.value] })}>
            <option value="">a job …</option>
            {known
              .filter(({ id }) => !runs.includes(id))
              .map((job) => (
                <option key={job.id} value={job.id}>
                  {nameOf(job).slice(0, 60)} ({job.kind}, {job.status})
                </option>
              ))}
          </select>
        </label>
        {metrics.length > 0 && (
          <label>
            Figure{" "}
            <select className={inputClass} value={metric} onChange={({ target }) => set({ metric: target.value })}>
              {metrics.map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </label>
        )}
      </div>
      <ul className={css.runs}>
        {jobs.map((job, index) => (
          <li key={job.id} className={css.run}>
            <span className={css.swatch} style={{ borderColor: lookOf(index, dark).stroke }} />
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
                Make baseline
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

/** Every run keeps its colour, whatever else is hidden. */
function Curves({ jobs, curves }: { jobs: readonly Job[]; curves: Map<string, Curve | undefined> | undefined }) {
  const { hidden = [], metric = "loss" } = route.useSearch();
  const names = namesOf(jobs);
  const shown = jobs.flatMap((job, look) =>
    hidden.includes(job.id) ? [] : [{ name: names[look]!, look, curve: curves?.get(job.id) }],
  );
  const key = shown.map(({ name, curve }) => `${name} ${curve?.metric} ${curve?.last_seq}`).join();
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key says whether anything shown has changed
  const drawing = useMemo(() => curves && draw(shown), [key, curves === undefined]);
  if (drawing === undefined) return <p className="muted">…</p>;
  if (drawing === null) return <p className="muted">None of these runs has told its {metric}.</p>;
  return (
    <section>
      <h2>{metric}</h2>
      <Chart
        label={`${metric} of ${drawing.series.map(({ name }) => name).join(", ")}`}
        {...drawing}
        xName={AXES.step.title}
        xValue={AXES.step.value}
        height={360}
      />
    </section>
  );
}

function draw(shown: readonly { name: string; look: number; curve: Curve | undefined }[]) {
  const told = shown.filter(({ curve }) => curve && curve.step.length > 0);
  if (told.length === 0) return null;
  const [x, ...values] = uPlot.join(
    told.map(({ curve }) => [curve!.step, curve!.value] as uPlot.AlignedData),
  ) as unknown as [number[], ...(number | null)[][]];
  return { x, series: told.map(({ name, look }, index): Series => ({ name, look, values: values[index]! })) };
}

function Outcome({ jobs }: { jobs: readonly Job[] }) {
  const base = finalOf(jobs[0]!);
  const names = namesOf(jobs);
  return (
    <section>
      <h2>Outcome</h2>
      <List
        label="Outcome"
        columns={[
          "Run",
          "Status",
          { number: "Last loss" },
          { number: "Held-out loss" },
          { number: "Against the baseline" },
        ]}
      >
        {jobs.map((job, index) => {
          const held = finalOf(job);
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

function finalOf(job: Job): number | null {
  return job.result?.metrics.eval_loss ?? null;
}

function Differences({ jobs }: { jobs: readonly Job[] }) {
  const [all, setAll] = useState(false);
  const rows = differences(jobs.map(({ spec }) => spec));
  return (
    <section>
      <h2>What they were asked to do differently</h2>
      {rows.length === 0 ? (
        <p className="muted">Nothing: their specs are equal.</p>
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
