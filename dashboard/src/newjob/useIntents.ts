import { useRef } from "react";
import { Refusal } from "../api/client";
import type { Part } from "./schema";

type Intent = [asked: Part, key: string];

/**
 * A draft whose answer was lost is sent again as it was sent first, under the same key: it makes one job.
 * A failure of the service is no answer: it may have come after the job was made.
 */
export function useIntents(draft: Part) {
  const unanswered = useRef(new Map<string, Intent>());
  const name = JSON.stringify(draft);
  return {
    of(asked: Part): Intent {
      const intent = unanswered.current.get(name) ?? [asked, crypto.getRandomValues(new Uint32Array(4)).join("-")];
      unanswered.current.set(name, intent);
      return intent;
    },
    refused(error: Error) {
      if (error instanceof Refusal && error.status < 500) unanswered.current.delete(name);
    },
  };
}
