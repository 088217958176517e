/** The most runs in one comparison. */
export const MOST = 20;

const KEY = "trainyard.compared";

/** Remembers the runs of this tab's comparison, so that a job can be added to them from its own page. */
export function keepRuns(runs: readonly string[]) {
  sessionStorage.setItem(KEY, JSON.stringify(runs));
}

/** Returns the remembered runs. */
export function keptRuns(): string[] {
  return JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
}

/** Returns the runs of this tab's comparison with one more; a comparison that is full is not continued. */
export function withRun(id: string): string[] {
  const kept = keptRuns();
  if (kept.includes(id)) return kept;
  return kept.length < MOST ? [...kept, id] : [id];
}
