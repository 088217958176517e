interface QueryLike {
  data: unknown;
  error: Error | null;
}

/** Returns the first error that leaves a page without data; one after a successful read is the banner's to report. */
export function errorOf(...queries: readonly QueryLike[]): Error | undefined {
  return queries.find(({ data, error }) => error && data === undefined)?.error ?? undefined;
}
