import { useRef } from "react";
import { Refusal } from "../api/client";
import type { Part } from "./schema";

type Intent = [request: Part, key: string];

/**
 * Idempotency keys of drafts. A draft whose response was lost is sent again as it was first, under the same key, so that
 * it creates one job. A 5xx counts as lost: it may have come after the job was created.
 */
export function useIntents(draft: Part) {
  const unanswered = useRef(new Map<string, Intent>());
  const name = JSON.stringify(draft);
  return {
    of(request: Part): Intent {
      const intent = unanswered.current.get(name) ?? [request, crypto.getRandomValues(new Uint32Array(4)).join("-")];
      unanswered.current.set(name, intent);
      return intent;
    },
    refused(error: Error) {
      if (error instanceof Refusal && error.status < 500) unanswered.current.delete(name);
    },
  };
}
