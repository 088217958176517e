import type { ReactNode } from "react";
import type { Artifact } from "../api/jobs";
import { bytes, count, figure, moment } from "../format";
import { Copy } from "../parts/Command";
import css from "./Lineage.module.css";

/** An artifact's digest, size, limits and licence. */
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
        {bytes(artifact.size_bytes)}, created {moment(artifact.created_at)}
      </Fact>
      <Fact name="Limits">{limitsOf(artifact)}</Fact>
      <Fact name="Licence">
        {artifact.licence ?? <span className="muted">unknown: see the model that it was made from</span>}
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
  const limits = [
    context_length && `${count(context_length)} tokens of prompt and answer together`,
    vocabulary_size && `a vocabulary of ${count(vocabulary_size)} tokens`,
  ];
  return limits.filter(Boolean).join("; ") || "unknown";
}
