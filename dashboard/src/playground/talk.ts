import { ask, type Given, type Message, type Sampling, type Weights } from "../api/chat";
import { Refusal } from "../api/client";

export type Side = "base" | "tuned";
export const SIDES: readonly Side[] = ["base", "tuned"];

/** What one side has said, as far as it has come. */
export interface Answer {
  model: string;
  text: string;
  weights?: Weights;
  /** `left`: the page went away while it was written. */
  end: "writing" | "stop" | "length" | "stopped" | "failed" | "left";
  error?: string;
  tokens?: number;
  /** From the question to the first piece, and to the last. */
  firstMs?: number;
  tookMs?: number;
}

export interface Turn {
  asked: string;
  /** The prompt is a text that was gone on with, not a message. */
  plain: boolean;
  answers: Partial<Record<Side, Answer>>;
}

/** What a side is given: a text stands by itself, a message comes after what this side has said before. */
export function givenTo(side: Side, turns: readonly Turn[], asked: string, plain: boolean, system: string): Given {
  if (plain) return { prompt: asked };
  const said = turns.flatMap((turn): Message[] => {
    const answer = turn.answers[side];
    if (turn.plain || !answer?.text) return [];
    return [
      { role: "user", content: turn.asked },
      { role: "assistant", content: answer.text },
    ];
  });
  const head: Message[] = system ? [{ role: "system", content: system }] : [];
  return { messages: [...head, ...said, { role: "user", content: asked }] };
}

/** Has a model answer; `tell` gets the answer as it grows, and at its end. */
export async function answer(
  model: string,
  given: Given,
  sampling: Sampling,
  signal: AbortSignal,
  tell: (answer: Answer) => void,
): Promise<void> {
  const begun = performance.now();
  let so: Answer = { model, text: "", end: "writing" };
  const grow = (more: Partial<Answer>) => {
    so = { ...so, ...more };
    tell(so);
  };
  grow({});
  try {
    for await (const { text, weights, ended, tokens } of ask(model, given, sampling, signal)) {
      const passed = performance.now() - begun;
      grow({
        text: so.text + text,
        weights,
        firstMs: so.firstMs ?? passed,
        ...(ended && { end: ended, tookMs: passed }),
        ...(tokens !== undefined && { tokens }),
      });
    }
    if (so.end === "writing") grow({ end: "failed", error: "The answer broke off before its end. Ask again." });
  } catch (error) {
    if (signal.aborted) return grow({ end: "stopped" });
    const away = "The service does not answer. Ask again when it is back.";
    grow({ end: "failed", error: error instanceof Refusal ? error.message : away });
  }
}

/** A conversation as it is found again: nobody writes on it any more. */
export function found(turns: readonly Turn[]): Turn[] {
  const settle = (one: Answer): Answer => (one.end === "writing" ? { ...one, end: "left" } : one);
  return turns.map((turn) => ({
    ...turn,
    answers: Object.fromEntries(Object.entries(turn.answers).map(([side, one]) => [side, settle(one)])),
  }));
}
