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
import { useAhead } from "../parts/useAhead";
import { JobForm } from "./JobForm";
import css from "./NewJobPage.module.css";
import { PlanCard } from "./PlanCard";
import { type Part, type Schema, setIn, withoutUnknown, withValue } from "./schema";
import { useIntents } from "./useIntents";
import { YamlEditor } from "./YamlEditor";

export interface NewJobSearch {
  /** The draft itself, so that it survives a reload and can be linked. */
  spec?: Part;
  mode?: "yaml";
  /** The id of the job that is cloned. */
  from?: string;
}

const route = getRouteApi("/jobs/new");

export function NewJobPage() {
  const navigate = useNavigate();
  const [{ spec, mode, from }, change] = useAhead(route.useSearch(), (changes) =>
    navigate({
      to: "/jobs/new",
      search: (before) => ({ ...before, ...changes }),
      replace: true,
      resetScroll: false,
    }),
  );
  const kinds = useQuery(kindsQuery);
  const [original, unknown] = useOriginal(from);
  const draft = spec ?? original ?? { kind: "sft" };
  const kind = kinds.data?.data.find(({ id }) => id === draft.kind);
  const [broken, setBroken] = useState(false);
  const may = useMay("write");
  const intents = useIntents(draft);
  const submission = useMutation({
    mutationFn: (request: Part) => createJob(...intents.of(request)),
    onError: intents.refused,
  });
  const dryRun = useMutation({ mutationFn: planJob, onMutate: () => submission.reset() });
  const plan = JSON.stringify(dryRun.variables) === JSON.stringify(draft) ? dryRun.data : undefined;
  const error = submission.isIdle ? dryRun.error : submission.error;
  const faults = useMemo(() => faultsOf(error), [error]);
  useFocusOnFault(faults);

  const setDraft = (next: Part) => change({ spec: next });
  function setKind(id: string) {
    const schema = kinds.data?.data.find((one) => one.id === id)?.schema as Schema | undefined;
    setDraft(withValue(schema ? withoutUnknown(schema, draft) : draft, "kind", id));
  }
  const unread = kinds.error ?? unknown;
  if (!kinds.data || (from && !original)) return unread && <Failure error={unread} />;
  return (
    <>
      <Head title={from ? "Clone job" : "New job"} />
      <div className={css.bar}>
        {mode !== "yaml" && (
          <label>
            Kind{" "}
            <select
              className={inputClass}
              value={String(draft.kind ?? "")}
              onChange={({ target }) => setKind(target.value)}
            >
              {kinds.data.data.map(({ id }) => (
                <option key={id}>{id}</option>
              ))}
            </select>
          </label>
        )}
        <span className="muted">{kind?.description.split("\n")[0]}</span>
        <fieldset className={css.modes} style={{ border: 0, padding: 0 }}>
          <legend className="visually-hidden">Edit the job as</legend>
          {(["form", "yaml"] as const).map((name) => (
            <Button
              key={name}
              disabled={broken}
              title={broken ? "Fix the YAML first" : undefined}
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
          const request = plan ? { plan_id: plan.id } : draft; // a job of the plan that is shown
          // Here and not in useMutation, so that it does not happen once the user has left the page.
          submission.mutate(request, {
            onSuccess: (job) => navigate({ to: "/jobs/$jobId/metrics", params: { jobId: job.id } }),
          });
        }}
      >
        {mode === "yaml" ? (
          <YamlEditor draft={draft} change={setDraft} onBroken={setBroken} faults={faults} />
        ) : kind ? (
          <JobForm schema={kind.schema as Schema} draft={draft} original={original} faults={faults} change={setDraft} />
        ) : (
          <Notice tone="warn">There is no kind {JSON.stringify(draft.kind)}. Choose one above.</Notice>
        )}
        {!may && <Notice>Creating a job requires a key with the scope write; yours is read-only.</Notice>}
        {error && <Failure error={error} manual />}
        {plan && <PlanCard plan={plan} />}
        <div className={css.submit}>
          <Button look="primary" type="submit" disabled={submission.isPending || broken || !may}>
            Create job
          </Button>
          <Button
            disabled={dryRun.isPending || submission.isPending || broken || !may}
            onClick={() => dryRun.mutate(draft)}
          >
            {dryRun.isPending ? "Planning …" : "Dry run"}
          </Button>
        </div>
      </form>
    </>
  );
}

/** The spec that the cloned job was requested with: without defaults, and without the values that replaced `auto`. */
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

/** `model` for `model.hidden_size`, `mixture` for `mixture[0]`; empty at the top. */
function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("."), path.lastIndexOf("[")));
}

/** Focuses the field of the first fault, or of the object that the fault is in, each time there are new faults. */
function useFocusOnFault(faults: readonly Fault[]) {
  useEffect(() => {
    let field: HTMLElement | null = null;
    for (let path = faults[0]?.path ?? ""; path && !field; path = parentOf(path))
      field = document.querySelector(`[data-path="${CSS.escape(path)}"]`);
    field?.closest("details")?.setAttribute("open", "");
    field?.focus();
  }, [faults]);
}
