import type { Artifact, Job } from "../api/jobs";

/** By which figure of its evaluations a job chooses what it exports. */
export interface Rule {
  metric: string;
  greater: boolean;
}

export function ruleOf({ spec }: Pick<Job, "spec">): Rule {
  const wanted = spec.checkpoints as { metric_for_best_model?: string; greater_is_better?: boolean } | undefined;
  return { metric: wanted?.metric_for_best_model ?? "eval_loss", greater: wanted?.greater_is_better ?? false };
}

/**
 * The checkpoint that a job exports, or would as it stands; none where nothing was evaluated. Of equals it is the
 * earliest, but the last step of all goes before those that are only as good: of that its result tells.
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
