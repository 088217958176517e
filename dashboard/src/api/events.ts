import { infiniteQueryOptions, keepPreviousData, queryOptions } from "@tanstack/react-query";
import { ask, client, type Schemas } from "./client";
import { ENDED, type Job, LIVE_MS } from "./jobs";
import { collect } from "./pages";

export type JobEvent = Schemas["EventObject"];
type Level = "info" | "warn" | "error";

/** A page of what happened to a job, from the newest backwards. */
function askForEvents(
  jobId: string,
  query: { limit: number; after?: number; level?: Level; type?: string },
  signal: AbortSignal,
) {
  const params = { path: { job_id: jobId }, query: { ...query, order: "desc" as const } };
  return ask(client.GET("/v1/jobs/{job_id}/events", { params, signal }));
}

const MOST = 1000;

/** What the engine of a job's newest attempt said of the machine that it runs on; null while it has not begun. */
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

/** Events from the newest backwards; `since` is what the page's own stream of them begins after. */
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

/** The first error of a job since it was last asked for, anew or again by hand; null if there is none. */
export function firstErrorQuery({ id, attempt, status }: Job) {
  return queryOptions({
    queryKey: ["first error", id, attempt, status],
    queryFn: async ({ signal }) => {
      const told = await collect(
        (after?: number) => askForEvents(id, { limit: MOST, after, level: "error" }, signal),
        (errors) => failureBefore(errors, status) >= 0,
      );
      return firstErrorOf(told, status) ?? null;
    },
  });
}

/** `errors` from the newest backwards: those before the last failure but the job's own are of what was tried before. */
export function firstErrorOf(errors: readonly JobEvent[], status: Job["status"]): JobEvent | undefined {
  const before = failureBefore(errors, status);
  return errors.slice(0, before < 0 ? undefined : before).at(-1);
}

/** Only by hand does a job come back from having failed. */
function failureBefore(errors: readonly JobEvent[], status: Job["status"]): number {
  const own = status === "failed" ? 1 : 0;
  return errors.findIndex(({ type, data }, index) => index >= own && type === "state" && data?.state === "failed");
}
