import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import type { ReactNode } from "react";
import type { DataFile } from "../api/files";
import { modelsQuery } from "../api/models";
import { type Sample, samplesQuery, takeSample } from "../api/samples";
import { useMay } from "../api/session";
import { errorOf } from "../api/state";
import { Button, buttonClass } from "../parts/Button";
import { Command } from "../parts/Command";
import { Icon } from "../parts/Icon";
import { Failure } from "../parts/Notice";
import css from "./Guide.module.css";

/** The steps from an empty project to a tuned model, each with the button that takes it. `isFirst`: there are no jobs yet. */
export function Guide({ isFirst }: { isFirst?: boolean }) {
  const samples = useQuery(samplesQuery);
  const models = useQuery({ ...modelsQuery, refetchInterval: LIVE_MS });
  const unread = errorOf(samples, models);
  if (!useMay("write"))
    return isFirst && <p className="muted">No jobs yet. Creating one requires a key with the scope write.</p>;
  if (unread) return <Failure error={unread} />;
  if (!samples.data || !models.data) return null;
  const base = models.data.find(({ layout }) => layout === "model");
  const tuned = models.data.find(({ layout }) => layout === "adapter");
  const [text, rows] = ["pretrain", "sft"].map((id) => samples.data.find((sample) => sample.id === id));
  return (
    <section className={css.guide} aria-label="Getting started">
      {isFirst && <p className="muted">No jobs yet. Start here:</p>}
      <h2>Getting started: your first tuned model</h2>
      <ol>
        <Step
          title="Train a base model"
          done={base?.reference}
          next={!base}
          about="A small model, trained from scratch on a text. It takes minutes on a laptop."
        >
          {text ? (
            <UseSample sample={text} word="Start with the sample text" />
          ) : (
            <Link to="/datasets" className={buttonClass("primary")}>
              Upload a text
            </Link>
          )}
        </Step>
        <Step
          title="Fine-tune it on questions and answers"
          done={tuned?.reference}
          next={Boolean(base) && !tuned}
          about="Check which tokens of the rows are trained on, then train an adapter on them."
        >
          {rows ? (
            <UseSample sample={rows} word="Use the sample rows" model={base?.reference} />
          ) : (
            <Link to="/datasets" className={buttonClass("primary")}>
              Upload rows
            </Link>
          )}
        </Step>
        <Step
          title="Compare it with its base and download it"
          next={Boolean(tuned)}
          about="Ask both the same in the playground. The adapter's page has a download link."
        >
          <Link to="/playground" search={{ tuned: tuned?.reference }} className={buttonClass("primary")}>
            Compare in playground
          </Link>
          {tuned && (
            <Link to="/models/$kind/$id" params={{ kind: tuned.kind, id: tuned.id }} className={buttonClass()}>
              Open {tuned.reference}
            </Link>
          )}
        </Step>
      </ol>
      {!base && (
        <div className={css.terminal}>
          <span className="muted">Or train the base model from a terminal; its job appears here by itself.</span>
          <Command text=".venv/bin/trainyard jobs create -f examples/pretrain.yaml" />
        </div>
      )}
    </section>
  );
}

const LIVE_MS = 5000;

interface StepProps {
  title: string;
  about: string;
  /** The result of the step, once it is done. */
  done?: string;
  /** It is the next step to take, so its buttons are shown. */
  next: boolean;
  children: ReactNode;
}

function Step({ title, about, done, next, children }: StepProps) {
  return (
    <li className={css.step} data-next={next} aria-current={next ? "step" : undefined}>
      <h3>
        {title}
        {done && (
          <span className={css.done}>
            <Icon name="succeeded" size={14} /> {done}
          </span>
        )}
      </h3>
      <p className="muted">{about}</p>
      {next && <div className={css.buttons}>{children}</div>}
    </li>
  );
}

/** Uploads a sample and opens what comes next: the page of a dataset, or the job of a text. */
function UseSample({ sample, word, model }: { sample: Sample; word: string; model?: string }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const { mutate, error, isPending } = useMutation({
    mutationFn: takeSample,
    onSuccess: () => void queries.invalidateQueries({ queryKey: ["files"] }),
  });
  function proceed(file: DataFile) {
    if (sample.purpose === "pretrain")
      return navigate({ to: "/jobs/new", search: { spec: { ...sample.spec, training_file: file.id } } });
    return navigate({ to: "/datasets/$fileId", params: { fileId: file.id }, search: { model } });
  }
  return (
    <>
      <Button look="primary" disabled={isPending} onClick={() => mutate(sample, { onSuccess: proceed })}>
        {isPending ? "Uploading …" : word}
      </Button>
      <span className="muted">{sample.about}</span>
      {error && <Failure error={error} manual />}
    </>
  );
}
