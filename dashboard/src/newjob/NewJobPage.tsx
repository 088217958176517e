import { useMutation, useQuery } from "@tanstack/react-query";
import { getRouteApi, useNavigate } from "@tanstack/react-router";
import { useEffect, useMemo, useState } from "react";
import { type Fault, Refusal } from "../api/client";
import { configQuery } from "../api/jobs";
import { createJob, kindsQuery, planJob } from "../api/kinds";
import { useMay } from "../api/session";
import { Button, inputClass } from "../parts/Button";
import { Head } from "../parts/Head";
import { Failure, Notice } from "../parts/Notice";
import { JobForm } from "./JobForm";
import css from "./NewJobPage.module.css";
import { PlanCard } from "./PlanCard";
import { type Part, type Schema, setIn, withValue } from "./schema";
import { useIntents } from "./useIntents";
import { YamlEditor } from "./YamlEditor";

export interface NewJobSearch {
  /** The draft itself: a reload, or a link, brings it back. */
  spec?: Part;
  mode?: "yaml";
  /** The job that is cloned. */
  from?: string;
}

const route = getRouteApi("/jobs/new");

export function NewJobPage() {
  const { spec, mode, from } = route.useSearch();
  const navigate = useNavigate();
  const kinds = useQuery(kindsQuery);
  const [original, unknown] = useOriginal(from);
  const draft = spec ?? original ?? { kind: "sft" };
  const kind = kinds.data?.data.find(({ id }) => id === draft.kind);
  const [broken, setBroken] = useState(false);
  const may = useMay("write");
  const intents = useIntents(draft);
  const submission = useMutation({
    mutationFn: (asked: Part) => createJob(...intents.of(asked)),
    onError: intents.refused,
    onSuccess: (job) => navigate({ to: "/jobs/$jobId/metrics", params: { jobId: job.id } }),
  });
  const dryRun = useMutation({ mutationFn: planJob, onMutate: () => submission.reset() });
  const plan = JSON.stringify(dryRun.variables) === JSON.stringify(draft) ? dryRun.data : undefined;
  const error = submission.isIdle ? dryRun.error : submission.error;
  const faults = useMemo(() => faultsOf(error), [error]);
  useFocusOnFault(faults);

  function change(next: Part) {
    navigate({ to: "/jobs/new", search: { spec: next, mode, from }, replace: true, resetScroll: false });
  }
  const unread = kinds.error ?? unknown;
  if (!kinds.data || (from && !original)) return unread && <Failure error={unread} />;
  return (
    <>
      <Head title={from ? "Clone of a job" : "New job"} />
      <div className={css.bar}>
        {mode !== "yaml" && (
          <label>
            Kind{" "}
            <select
              className={inputClass}
              value={String(draft.kind ?? "")}
              onChange={({ target }) => change(withValue(draft, "kind", target.value))}
            >
              {kinds.data.data.map(({ id }) => (
                <option key={id}>{id}</option>
              ))}
            </select>
          </label>
        )}
        <span className="muted">{kind?.description.split("\n")[0]}</span>
        <fieldset className={css.modes} style={{ border: 0, padding: 0 }}>
          <legend className="visually-hidden">Write the job as</legend>
          {(["form", "yaml"] as const).map((name) => (
            <Button
              key={name}
              disabled={broken}
              title={broken ? "Mend the YAML first" : undefined}
              aria-pressed={name === (mode ?? "form")}
              look={name === (mode ?? "form") ? undefined : "plain"}
              onClick={() =>
                navigate({ to: "/jobs/new", search: { spec: draft, from, mode: name === "yaml" ? name : undefined } })
              }
            >
              {name === "yaml" ? "YAML" : "Form"}
            </Button>
          ))}
        </fieldset>
      </div>
      <form
        className={css.form}
        onSubmit={(event) => {
          event.preventDefault();
          submission.mutate(plan ? { plan_id: plan.id } : draft); // what is shown is what is made
        }}
      >
        {mode === "yaml" ? (
          <YamlEditor draft={draft} change={change} onBroken={setBroken} faults={faults} />
        ) : kind ? (
          <JobForm schema={kind.schema as Schema} draft={draft} original={original} faults={faults} change={change} />
        ) : (
          <Notice tone="warn">There is no kind {JSON.stringify(draft.kind)}; choose one above.</Notice>
        )}
        {!may && <Notice>This takes a key whose scope is write; the one that you are signed in with reads.</Notice>}
        {error && <Failure error={error} asked />}
        {plan && <PlanCard plan={plan} />}
        <div className={css.submit}>
          <Button look="primary" type="submit" disabled={submission.isPending || broken || !may}>
            Create the job
          </Button>
          <Button disabled={dryRun.isPending || broken || !may} onClick={() => dryRun.mutate(draft)}>
            {dryRun.isPending ? "Planning …" : "Dry run"}
          </Button>
        </div>
      </form>
    </>
  );
}

/** What was asked for in the job that is cloned: its set values, without defaults and what `auto` stood for. */
function useOriginal(from: string | undefined): [Part | undefined, Error | null] {
  const { data, error } = useQuery({ ...configQuery(from ?? ""), enabled: Boolean(from) });
  const original = useMemo(() => data && setIn(data.spec, data.origins), [data]);
  return [original, error];
}

function faultsOf(error: Error | null): readonly Fault[] {
  if (!(error instanceof Refusal)) return [];
  const { errors = [], param, code, message } = error.body;
  return errors.length || !param ? errors : [{ path: param, code, message }];
}

/** An error is shown where it can be mended: its field is opened and gets the focus, each time it is told. */
function useFocusOnFault(faults: readonly Fault[]) {
  useEffect(() => {
    const first = faults[0]?.path;
    if (!first) return;
    const field = document.querySelector<HTMLElement>(`[data-path="${CSS.escape(first)}"]`);
    field?.closest("details")?.setAttribute("open", "");
    field?.focus();
  }, [faults]);
}
