import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { type Artifact, checkpointsQuery, type Job, madeQuery, manifestQuery, pathOf } from "../api/jobs";
import { errorOf } from "../api/state";
import { bytes, count, figure } from "../format";
import { Ago } from "../parts/Ago";
import { Button, buttonClass } from "../parts/Button";
import { Command, Copy } from "../parts/Command";
import { Dialog } from "../parts/Dialog";
import { Icon } from "../parts/Icon";
import { Empty, Failure } from "../parts/Notice";
import css from "./ArtifactsTab.module.css";
import { bestOf, type Rule, ruleOf } from "./best";
import { useJob } from "./useJob";

export function ArtifactsTab() {
  const job = useJob();
  const saved = useQuery(checkpointsQuery(job.id));
  const results = useQuery(madeQuery(job));
  const [checkpoints, made] = [saved.data ?? [], results.data ?? []];
  const error = errorOf(saved, results);
  if (error) return <Failure error={error} />;
  if (saved.isPending || results.isLoading) return <p className="muted">…</p>;
  if (checkpoints.length === 0 && made.length === 0) {
    return (
      <Empty title="Nothing saved yet">
        <p className="muted">Checkpoints appear here as the run saves them, results when the job has succeeded.</p>
      </Empty>
    );
  }
  return (
    <div className={css.list}>
      {made.length > 0 && (
        <section>
          <h2>Created by this job</h2>
          <Table artifacts={made} />
        </section>
      )}
      {checkpoints.length > 0 && <Checkpoints job={job} checkpoints={checkpoints} />}
    </div>
  );
}

function Checkpoints({ job, checkpoints }: { job: Job; checkpoints: readonly Artifact[] }) {
  const rule = ruleOf(job);
  const best = bestOf(checkpoints, rule, job.result);
  return (
    <section>
      <h2>Checkpoints</h2>
      <p className="muted">
        {best ? (
          <>
            Best is the {rule.greater ? "highest" : "lowest"} <code>{rule.metric}</code>; the job exports that one.
          </>
        ) : (
          <>Without evaluations there is no best one: the job exports the last.</>
        )}{" "}
        The job keeps{" "}
        {String((job.spec.checkpoints as { save_total_limit?: number } | undefined)?.save_total_limit ?? "the newest")}{" "}
        and removes older ones.
      </p>
      <Table artifacts={checkpoints} best={best?.id} last={checkpoints[0]?.id} rule={rule} />
    </section>
  );
}

interface TableProps {
  artifacts: readonly Artifact[];
  best?: string;
  last?: string;
  rule?: Rule;
}

function Table({ artifacts, best, last, rule = { metric: "eval_loss", greater: false } }: TableProps) {
  const [shown, setShown] = useState<Artifact | null>(null);
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling area must be reachable by keyboard
    <section className={css.scroll} tabIndex={0} aria-label={last ? "Checkpoints" : "Created by this job"}>
      <table className={css.table}>
        <thead>
          <tr>
            <th scope="col">{last ? "Step" : "Name"}</th>
            <th scope="col">{rule.metric}</th>
            <th scope="col">Size</th>
            <th scope="col">Saved</th>
            <th scope="col">Digest</th>
            <th scope="col">
              <span className="visually-hidden">Download</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {artifacts.map((artifact) => (
            <tr key={artifact.id}>
              <td>
                {artifact.name ? `${artifact.kind} ${artifact.reference}` : count(artifact.step)}{" "}
                {artifact.id === best && (
                  <span className={css.mark}>
                    <Icon name="star" size={12} /> best
                  </span>
                )}
                {artifact.id === last && <span className={css.last}>last</span>}
              </td>
              <td>
                {artifact.metrics[rule.metric] === undefined ? "–" : figure(artifact.metrics[rule.metric] as number)}
              </td>
              <td>{bytes(artifact.size_bytes)}</td>
              <td>
                <Ago at={artifact.created_at} />
              </td>
              <td>
                <Button look="plain" onClick={() => setShown(artifact)}>
                  <code>{artifact.digest.slice(0, 12)}</code>
                  <span className="visually-hidden">: checksums of {artifact.reference}</span>
                </Button>
              </td>
              <td>
                <Download artifact={artifact} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {shown && <Checksums artifact={shown} onClose={() => setShown(null)} />}
    </section>
  );
}

function Download({ artifact }: { artifact: Artifact }) {
  return (
    <a className={buttonClass()} href={`${pathOf(artifact)}/archive`} download>
      <Icon name="download" /> tar <span className="visually-hidden">of {artifact.reference}</span>
    </a>
  );
}

/** The checksums of an artifact's files, and the command that verifies them. */
export function Checksums({ artifact, onClose }: { artifact: Artifact; onClose: () => void }) {
  const { data, error } = useQuery(manifestQuery(artifact));
  const sums = data?.files.map((file) => `${file.sha256}  ${file.path}`).join("\n") ?? "…";
  return (
    <Dialog title={`Checksums of ${artifact.name ? artifact.reference : `step ${artifact.step}`}`} onClose={onClose}>
      <div className={css.sums}>
        <p>
          Digest <code>{artifact.digest}</code> <Copy text={artifact.digest} label="Copy the digest" />
        </p>
        <p className="muted">It is the SHA-256 of the lines below, which are the archive's file SHA256SUMS:</p>
        {error && !data && <Failure error={error} />}
        {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling area must be reachable by keyboard */}
        <pre tabIndex={0}>{sums}</pre>
        <Command text="sha256sum -c SHA256SUMS" />
      </div>
    </Dialog>
  );
}
