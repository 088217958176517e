import { ask, type Given, type Message, type Sampling, type Weights } from "../api/chat";
import { Refusal } from "../api/client";

export type Side = "base" | "tuned";
export const SIDES: readonly Side[] = ["base", "tuned"];

/** An answer of one side, as far as it has been written. */
export interface Answer {
  text: string;
  weights?: Weights;
  /** `left`: the page was left while it was written. */
  end: "writing" | "stop" | "length" | "stopped" | "failed" | "left";
  error?: string;
  tokens?: number;
  /** From the question to the last piece. */
  tookMs?: number;
}

export interface Turn {
  prompt: string;
  /** The prompt is a text to complete, not a message. */
  plain: boolean;
  answers: Partial<Record<Side, Answer>>;
}

/** The input of a side: a text by itself, or a message after the side's own conversation. */
export function inputOf(side: Side, turns: readonly Turn[], prompt: string, plain: boolean, system: string): Given {
  if (plain) return { prompt };
  const earlier = turns.flatMap((turn): Message[] => {
    const answer = turn.answers[side];
    if (turn.plain || !answer?.text) return [];
    return [
      { role: "user", content: turn.prompt },
      { role: "assistant", content: answer.text },
    ];
  });
  const head: Message[] = system ? [{ role: "system", content: system }] : [];
  return { messages: [...head, ...earlier, { role: "user", content: prompt }] };
}

/** Requests an answer from a model; `report` receives it as it grows, and at its end. */
export async function answer(
  model: string,
  given: Given,
  sampling: Sampling,
  signal: AbortSignal,
  report: (answer: Answer) => void,
): Promise<void> {
  const startedAt = performance.now();
  let current: Answer = { text: "", end: "writing" };
  const grow = (more: Partial<Answer>) => {
    current = { ...current, ...more };
    report(current);
  };
  grow({});
  try {
    for await (const { text, weights, ended, tokens } of ask(model, given, sampling, signal)) {
      grow({
        text: current.text + text,
        weights,
        ...(ended && { end: ended, tookMs: performance.now() - startedAt }),
        ...(tokens !== undefined && { tokens }),
      });
    }
    if (current.end === "writing") grow({ end: "failed", error: "The answer was cut off. Ask again." });
  } catch (error) {
    if (signal.aborted) return grow({ end: "stopped" });
    const away = "The service does not respond. Ask again when it is back.";
    grow({ end: "failed", error: error instanceof Refusal ? error.message : away });
  }
}

/** A conversation restored from the history: an answer that was being written then is not being written now. */
export function restored(turns: readonly Turn[]): Turn[] {
  const settle = (one: Answer): Answer => (one.end === "writing" ? { ...one, end: "left" } : one);
  return turns.map((turn) => ({
    ...turn,
    answers: Object.fromEntries(Object.entries(turn.answers).map(([side, one]) => [side, settle(one)])),
  }));
}
