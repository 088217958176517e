import { infiniteQueryOptions, keepPreviousData, queryOptions } from "@tanstack/react-query";
import { ask, client, type Schemas } from "./client";
import { ENDED, type Job, LIVE_MS } from "./jobs";
import { collect } from "./pages";

export type JobEvent = Schemas["EventObject"];
type Level = "info" | "warn" | "error";

/** Returns a page of a job's events, newest first. */
function askForEvents(
  jobId: string,
  query: { limit: number; after?: number; level?: Level; type?: string },
  signal: AbortSignal,
) {
  const params = { path: { job_id: jobId }, query: { ...query, order: "desc" as const } };
  return ask(client.GET("/v1/jobs/{job_id}/events", { params, signal }));
}

const MOST = 1000;

/** The event in which the job's current attempt described its machine; null until the attempt has started. */
export function startedQuery({ id, attempt, status }: Job) {
  return queryOptions({
    queryKey: ["started", id, attempt],
    queryFn: async ({ signal }) => {
      const { data } = await askForEvents(id, { limit: 1, type: "started" }, signal);
      return data.find((event) => event.attempt === attempt) ?? null;
    },
    staleTime: Number.POSITIVE_INFINITY,
    refetchInterval: ({ state }) => (state.data || ENDED.has(status) ? false : LIVE_MS),
  });
}

const EVENTS = 500;

/** Events, newest first, up to `since`, after which the page's own stream begins. */
export function earlierEventsQuery(jobId: string, level: Level | undefined, since: number) {
  return infiniteQueryOptions({
    queryKey: ["events", jobId, level, since],
    placeholderData: keepPreviousData,
    queryFn: ({ pageParam, signal }) => askForEvents(jobId, { limit: EVENTS, after: pageParam, level }, signal),
    initialPageParam: 0,
    getNextPageParam: (page) => (page.has_more ? (page.last_id ?? undefined) : undefined),
    staleTime: 0,
  });
}

/** The first error of a job since it was created or last retried by hand; null if there is none. */
export function firstErrorQuery({ id, attempt, status }: Job) {
  return queryOptions({
    queryKey: ["first error", id, attempt, status],
    queryFn: async ({ signal }) => {
      const collected = await collect(
        (after?: number) => askForEvents(id, { limit: MOST, after, level: "error" }, signal),
        (errors) => failureBefore(errors, status) >= 0,
      );
      return firstErrorOf(collected, status) ?? null;
    },
  });
}

/**
 * Returns the oldest error that belongs to the current run. `errors` are newest first; those older than the last failure,
 * other than the job's current one, belong to a run before a manual retry.
 */
export function firstErrorOf(errors: readonly JobEvent[], status: Job["status"]): JobEvent | undefined {
  const before = failureBefore(errors, status);
  return errors.slice(0, before < 0 ? undefined : before).at(-1);
}

/** The index of the failure that ended the previous run: only a manual retry leads out of `failed`. */
function failureBefore(errors: readonly JobEvent[], status: Job["status"]): number {
  const own = status === "failed" ? 1 : 0;
  return errors.findIndex(({ type, data }, index) => index >= own && type === "state" && data?.state === "failed");
}
