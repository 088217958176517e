import { useSyncExternalStore } from "react";

let answers = true;
let answeredAt = Date.now();
const listeners = new Set<() => void>();

function become(now: boolean) {
  if (now) answeredAt = Date.now();
  if (now === answers) return;
  answers = now;
  for (const listener of listeners) listener();
}

export const reached = () => become(true);
export const unreachable = () => become(false);

/** When the service last answered, in Unix ms: as old is what the page shows. */
export const lastAnswerAt = () => answeredAt;

function subscribe(listener: () => void) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Whether the service answers. */
export function useReach(): boolean {
  return useSyncExternalStore(subscribe, () => answers);
}
