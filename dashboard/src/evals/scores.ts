import type { Artifact, Job } from "../api/jobs";

export interface Interval {
  low: number;
  high: number;
}

/** A metric with its 95% confidence interval, where there is one. */
export interface Score {
  name: string;
  value: number;
  interval?: Interval;
  rows: number;
  lowerIsBetter: boolean;
  difference?: Difference;
}

/** The model's score minus the other's. `paired`: both were scored in one job, item by item. */
export interface Difference {
  value: number;
  interval?: Interval;
  against: string;
  paired: boolean;
}

export type Verdict = "better" | "worse" | "no clear difference";

/** The metric that summarizes each task; the others are on the evaluation's own page. */
const HEADLINES = ["eval_exact_match", "eval_acc/original", "eval_loss"];
const SCORE = /^eval_(loss|bits_per_byte|acc|acc_norm|exact_match|finished|parseable)(\/|$)/;
const LOWER = /^eval_(loss|bits_per_byte)/;

/** The scores of an evaluation, with their differences to the model that the job itself compared with. */
export function scoresOf(job: Job): Score[] {
  const metrics = job.result?.metrics ?? {};
  const against = String(job.spec.compare_to ?? "");
  return Object.keys(metrics)
    .filter((name) => SCORE.test(name) && !/_(low|high)$/.test(name))
    .flatMap((name) => {
      const value = metrics[name];
      if (typeof value !== "number") return [];
      const difference = metrics[`difference/${name}`];
      return {
        name,
        value,
        interval: intervalOf(metrics, name),
        rows: metrics.eval_rows ?? 0,
        lowerIsBetter: LOWER.test(name),
        difference:
          typeof difference === "number"
            ? { value: difference, interval: intervalOf(metrics, `difference/${name}`), against, paired: true }
            : undefined,
      };
    });
}

function intervalOf(metrics: Record<string, number | null>, name: string): Interval | undefined {
  const [low, high] = [metrics[`${name}_low`], metrics[`${name}_high`]];
  return typeof low === "number" && typeof high === "number" ? { low, high } : undefined;
}

export function headlineOf(job: Job): Score | undefined {
  const scores = scoresOf(job);
  return HEADLINES.map((name) => scores.find((score) => score.name === name)).find(Boolean);
}

/**
 * Returns the headline score. An evaluation that compared with nothing by itself is compared with the newest evaluation
 * of its base on the same rows that has this score.
 */
export function outcomeOf(job: Job, jobs: readonly Job[], artifacts: readonly Artifact[]): Score | undefined {
  const score = headlineOf(job);
  if (!score || score.difference) return score;
  const baseId = artifacts.find(({ id }) => id === job.base?.id)?.base_artifact_id;
  for (const other of jobs) {
    if (!baseId || other.base?.id !== baseId || settingOf(other) !== settingOf(job)) continue;
    const rival = headlineOf(other);
    if (rival?.name === score.name)
      return { ...score, difference: unpairedDifference(score, rival, String(other.spec.model)) };
  }
  return score;
}

/** What must be equal for two evaluations to be comparable. */
function settingOf({ spec }: Job): string {
  return JSON.stringify([spec.eval_file, spec.fewshot_file, spec.evaluation]);
}

/** The difference of scores of two jobs; its interval is composed of theirs (Newcombe 1998, method 10). */
function unpairedDifference(one: Score, other: Score, against: string): Difference {
  const value = one.value - other.value;
  const [own, theirs] = [one.interval, other.interval];
  if (!own || !theirs) return { value, against, paired: false };
  const below = Math.hypot(one.value - own.low, theirs.high - other.value);
  const above = Math.hypot(own.high - one.value, other.value - theirs.low);
  return { value, interval: { low: value - below, high: value + above }, against, paired: false };
}

/** Judges a difference by whether its interval contains zero. */
export function verdictOf({ difference, lowerIsBetter }: Score): Verdict | undefined {
  if (!difference?.interval) return undefined;
  const { low, high } = difference.interval;
  if (low <= 0 && high >= 0) return "no clear difference";
  return low > 0 === !lowerIsBetter ? "better" : "worse";
}

/** The improvement of the model, which for a loss is the decrease. */
export function gainOf({ difference, lowerIsBetter }: Score): number | undefined {
  return difference && (lowerIsBetter ? -difference.value : difference.value);
}
