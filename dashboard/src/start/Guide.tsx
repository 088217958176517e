import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { modelsQuery } from "../api/models";
import { type Sample, samplesQuery, takeSample } from "../api/samples";
import { useMay } from "../api/session";
import { Button, buttonClass } from "../parts/Button";
import { Command } from "../parts/Command";
import { Icon } from "../parts/Icon";
import { Failure } from "../parts/Notice";
import css from "./Guide.module.css";

/** From nothing to a tuned model: each step says what it is for and has the button that does it. */
export function Guide() {
  const samples = useQuery(samplesQuery).data;
  const { data: models } = useQuery({ ...modelsQuery, refetchInterval: LIVE_MS });
  const may = useMay("write");
  if (!samples || !models || !may) return null;
  const base = models.find(({ layout }) => layout === "model");
  const tuned = models.find(({ layout }) => layout === "adapter");
  const [text, rows] = ["pretrain", "sft"].map((id) => samples.find((sample) => sample.id === id));
  return (
    <section className={css.guide} aria-label="From nothing to a tuned model">
      <h2>From nothing to a tuned model</h2>
      <ol>
        <Step
          title="Make a base model"
          done={base?.reference}
          next={!base}
          about="A small one, trained from scratch on a text. It takes minutes on a laptop."
        >
          {text ? (
            <Take sample={text} word="Start with the sample text" />
          ) : (
            <Link to="/datasets" className={buttonClass("primary")}>
              Upload a text
            </Link>
          )}
        </Step>
        <Step
          title="Tune it on questions and answers"
          done={tuned?.reference}
          next={Boolean(base) && !tuned}
          about="You see first which tokens of the rows are learnt; then train an adapter on them."
        >
          {rows ? (
            <Take sample={rows} word="Take the sample rows" model={base?.reference} />
          ) : (
            <Link to="/datasets" className={buttonClass("primary")}>
              Upload rows
            </Link>
          )}
        </Step>
        <Step
          title="Compare it with its base, and take it along"
          next={Boolean(tuned)}
          about="Ask both the same in the playground. The adapter's own page has its download."
        >
          <Link to="/playground" search={{ tuned: tuned?.reference }} className={buttonClass("primary")}>
            Compare them
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
          <span className="muted">
            Or from a terminal: this makes the base model, and its row appears here by itself.
          </span>
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
  /** What has come of it, once it is done. */
  done?: string;
  /** It is the step to take now: the buttons are there. */
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

/** Uploads a sample, and goes on: with rows to what is learnt of them, with a text to its job. */
function Take({ sample, word, model }: { sample: Sample; word: string; model?: string }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const { mutate, error, isPending } = useMutation({
    mutationFn: takeSample,
    onSuccess: (file) => {
      queries.invalidateQueries({ queryKey: ["files"] });
      if (sample.purpose === "pretrain")
        return navigate({ to: "/jobs/new", search: { spec: { ...sample.spec, training_file: file.id } } });
      return navigate({ to: "/datasets/$fileId", params: { fileId: file.id }, search: { model } });
    },
  });
  return (
    <>
      <Button look="primary" disabled={isPending} onClick={() => mutate(sample)}>
        {isPending ? "Uploading …" : word}
      </Button>
      <span className="muted">{sample.about}</span>
      {error && <Failure error={error} asked />}
    </>
  );
}
