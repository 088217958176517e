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

/** When the service last answered, in Unix ms: the age of what the page shows. */
export const lastAnswerAt = () => answeredAt;

const BEAT_MS = 3000;
const PATIENCE_MS = 4000;

/** Asks the service whether it is up, and returns the answer. */
export async function askWhetherThere(): Promise<boolean> {
  try {
    become((await fetch("/healthz", { signal: AbortSignal.timeout(PATIENCE_MS) })).ok);
  } catch {
    unreachable();
  }
  return answers;
}

/** Polls the service whenever no other request has reached it for a while: many pages load once and then stay. */
export function keepAsking(): () => void {
  const timer = setInterval(() => {
    if (!document.hidden && Date.now() - answeredAt >= BEAT_MS) void askWhetherThere();
  }, BEAT_MS);
  return () => clearInterval(timer);
}

function subscribe(listener: () => void) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Whether the service answers. */
export function useReach(): boolean {
  return useSyncExternalStore(subscribe, () => answers);
}
