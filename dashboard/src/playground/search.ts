import type { Sampling } from "../api/chat";
import type { Chosen } from "./weights";

/** The search parameters of the playground. */
export interface PlaygroundSearch extends Chosen, Partial<Sampling> {
  /** The prompt is a text to complete, not a message. */
  plain?: boolean;
  system?: string;
  prompt?: string;
}

/** The defaults. Greedy, so that answers differ by the weights and not by chance. */
export const DEFAULTS: Sampling = { temperature: 0, top_p: 1, max_tokens: 200 };

/** The sampling parameters, with defaults for those that the address omits. */
export function samplingOf({ temperature, top_p, max_tokens, seed }: PlaygroundSearch): Sampling {
  return {
    temperature: temperature ?? DEFAULTS.temperature,
    top_p: top_p ?? DEFAULTS.top_p,
    max_tokens: max_tokens ?? DEFAULTS.max_tokens,
    ...(seed !== undefined && { seed }),
  };
}
