import type { Artifact, Job } from "../api/jobs";

/** The evaluation metric by which a job chooses the checkpoint that it exports. */
export interface Rule {
  metric: string;
  greater: boolean;
}

export function ruleOf({ spec }: Pick<Job, "spec">): Rule {
  const wanted = spec.checkpoints as { metric_for_best_model?: string; greater_is_better?: boolean } | undefined;
  return { metric: wanted?.metric_for_best_model ?? "eval_loss", greater: wanted?.greater_is_better ?? false };
}

/**
 * Returns the checkpoint that a job has exported, or would export now; undefined without evaluations. Among equals it is
 * the earliest, except that a finished job prefers its last step, which its result names.
 */
export function bestOf(saved: readonly Artifact[], { metric, greater }: Rule, result: Job["result"]) {
  const figures = saved.flatMap((one) => {
    const figure = one.metrics[metric];
    return typeof figure === "number" ? [{ one, cost: greater ? -figure : figure }] : [];
  });
  if (figures.length === 0) return undefined;
  const [best] = figures.sort((a, b) => a.cost - b.cost || a.one.step - b.one.step);
  return saved.find(({ step }) => step === result?.metrics.exported_step) ?? best?.one;
}
