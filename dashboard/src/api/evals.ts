import { keepPreviousData, queryOptions } from "@tanstack/react-query";
import { ask, client, type Schemas } from "./client";

export type ScoredRow = Schemas["ScoredRow"];
export type Only = "worse" | "better" | "wrong";

const EVALUATIONS = 100;
const ROWS = 20;
const LIVE_MS = 5000;

/** Evaluations, newest first. */
export function evalJobsQuery(after: string | undefined) {
  return queryOptions({
    queryKey: ["eval jobs", after],
    queryFn: ({ signal }) =>
      ask(client.GET("/v1/jobs", { params: { query: { kind: "eval", after, limit: EVALUATIONS } }, signal })),
    refetchInterval: LIVE_MS,
    placeholderData: keepPreviousData,
  });
}

/** A page of the rows that an evaluation scored. */
export function scoredRowsQuery(jobId: string, after: number, only: Only | undefined) {
  return queryOptions({
    queryKey: ["scored rows", jobId, after, only],
    queryFn: ({ signal }) =>
      ask(
        client.GET("/v1/jobs/{job_id}/items", {
          params: { path: { job_id: jobId }, query: { after, only, limit: ROWS } },
          signal,
        }),
      ),
    staleTime: Number.POSITIVE_INFINITY,
    placeholderData: keepPreviousData,
  });
}
