/** Metrics of the machine rather than of the training. */
const MACHINE = new Set([
  "tokens_per_s",
  "trained_tokens_per_s",
  "mfu",
  "device_use",
  "memory_bytes",
  "step_s",
  "forward_s",
  "backward_s",
  "optimizer_s",
  "data_wait_s",
]);
/** Metrics that only count. */
const COUNTERS = new Set(["tokens", "rows", "epoch", "eta_s"]);

export interface Pair {
  title: string;
  train?: string;
  held?: string;
}

/** The charts of a job's metrics: the loss first, each training metric together with its evaluation's counterpart. */
export function picturesOf(trained: readonly string[], evaluated: readonly string[]): Pair[] {
  const held = evaluated.filter((name) => !COUNTERS.has(name.replace(/^eval_/, "")));
  const paired = trained
    .filter((name) => !MACHINE.has(name) && !COUNTERS.has(name) && !name.startsWith("tokens/"))
    .map((train) => ({ title: title(train), train, held: held.find((name) => name === `eval_${train}`) }));
  const taken = new Set(paired.map((pair) => pair.held));
  const alone = held.filter((name) => !taken.has(name)).map((name) => ({ title: title(name), held: name }));
  const all: Pair[] = [...paired, ...alone];
  return all.sort((a, b) => Number(b.train === "loss") - Number(a.train === "loss"));
}

const TITLES: Record<string, string> = {
  loss: "Loss",
  grad_norm: "Gradient norm",
  learning_rate: "Learning rate",
  eval_loss: "Held-out loss",
  eval_perplexity: "Held-out perplexity",
  eval_bits_per_byte: "Held-out bits per byte",
};

function title(name: string): string {
  return TITLES[name] ?? name.replace(/_/g, " ");
}
