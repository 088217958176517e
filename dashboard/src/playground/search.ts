import type { Sampling } from "../api/chat";
import type { Chosen } from "./weights";

/** What the address says of the playground. */
export interface PlaygroundSearch extends Chosen, Partial<Sampling> {
  /** The prompt is a text to go on with, not a message. */
  plain?: boolean;
  system?: string;
  prompt?: string;
}

/** Greedy, so that what differs is the weights and not the dice. */
export const USUAL: Sampling = { temperature: 0, top_p: 1, max_tokens: 200 };

/** What the address leaves out is as usual. */
export function samplingOf({ temperature, top_p, max_tokens, seed }: PlaygroundSearch): Sampling {
  return {
    temperature: temperature ?? USUAL.temperature,
    top_p: top_p ?? USUAL.top_p,
    max_tokens: max_tokens ?? USUAL.max_tokens,
    ...(seed !== undefined && { seed }),
  };
}
