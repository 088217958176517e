import type { ReactNode } from "react";
import type { Artifact } from "../api/jobs";
import { bytes, count, figure, moment } from "../format";
import { Copy } from "../parts/Command";
import css from "./Lineage.module.css";

/** What it is, how much it takes, and what it may be used for. */
export function Facts({ artifact }: { artifact: Artifact }) {
  const loss = artifact.metrics.eval_loss;
  return (
    <dl className={css.facts}>
      <Fact name="Kind">
        {artifact.kind}
        {artifact.job_id && `, saved at step ${count(artifact.step)}`}
      </Fact>
      <Fact name="Digest">
        <code>{artifact.digest.slice(0, 24)}…</code> <Copy text={artifact.digest} label="Copy the digest" />
      </Fact>
      {typeof loss === "number" && <Fact name="eval_loss">{figure(loss)}</Fact>}
      <Fact name="Size">
        {bytes(artifact.size_bytes)}, made {moment(artifact.created_at)}
      </Fact>
      <Fact name="Limits">{limitsOf(artifact)}</Fact>
      <Fact name="Licence">
        {artifact.licence ?? <span className="muted">not told: that of what it was made from</span>}
      </Fact>
    </dl>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </>
  );
}

function limitsOf({ limits: { context_length, vocabulary_size } }: Artifact): string {
  const told = [
    context_length && `prompt and answer have ${count(context_length)} tokens together`,
    vocabulary_size && `${count(vocabulary_size)} different tokens`,
  ];
  return told.filter(Boolean).join("; ") || "not known";
}
