import { keepPreviousData, queryOptions } from "@tanstack/react-query";
import { ask, client, type Schemas } from "./client";

export type Job = Schemas["JobObject"];
export type Curve = Schemas["CurveObject"];
export type JobEvent = Schemas["EventObject"];
export type Artifact = Schemas["ArtifactObject"];
export type Status = Job["status"];

export interface JobsSearch {
  status?: Status;
  kind?: string;
  after?: string;
}

/** A change made elsewhere shows within two seconds. */
const LIVE_MS = 1500;
const PAGE = 25;

export const ENDED: ReadonlySet<string> = new Set(["succeeded", "failed", "cancelled"]);

export function jobsQuery(search: JobsSearch) {
  return queryOptions({
    queryKey: ["jobs", search],
    queryFn: ({ signal }) => ask(client.GET("/v1/jobs", { params: { query: { ...search, limit: PAGE } }, signal })),
    refetchInterval: LIVE_MS,
    placeholderData: keepPreviousData,
  });
}

export function jobQuery(jobId: string) {
  return queryOptions({
    queryKey: ["job", jobId],
    queryFn: ({ signal }) => ask(client.GET("/v1/jobs/{job_id}", { params: { path: { job_id: jobId } }, signal })),
    refetchInterval: ({ state }) => (state.data && ENDED.has(state.data.status) ? false : LIVE_MS),
  });
}

export interface CurveWanted {
  metric: string;
  split: "train" | "eval";
  points: number;
  smoothing?: number;
}

/** `version` is what the curve grows with: the same one is never asked for twice. */
export function curveQuery(jobId: string, wanted: CurveWanted, version: string | number) {
  const { metric, ...query } = wanted;
  return queryOptions({
    queryKey: ["curve", jobId, wanted, version],
    queryFn: ({ signal }) =>
      ask(
        client.GET("/v1/jobs/{job_id}/metrics/{metric}", {
          params: { path: { job_id: jobId, metric }, query },
          signal,
        }),
      ),
    staleTime: Number.POSITIVE_INFINITY,
    placeholderData: keepPreviousData,
  });
}

export function cancelJob(jobId: string): Promise<Job> {
  return ask(client.POST("/v1/jobs/{job_id}/cancel", { params: { path: { job_id: jobId } } }));
}

/** What a person calls a job. */
export function nameOf(job: Job): string {
  return typeof job.spec.suffix === "string" ? job.spec.suffix : job.id;
}

/** What it trains or scores. */
export function modelOf(job: Job): string {
  if (job.base?.name) return `${job.base.name}/${job.base.version}`;
  const model = job.spec.model;
  if (typeof model === "string") return model;
  const size = (model as { size?: string } | undefined)?.size;
  return size ? `new model, ${size}` : "new model";
}

/** The last loss that a job has told: of training while it trains, of what was held out in the end. */
export function lossOf(job: Job): number | null {
  return job.progress.loss ?? job.result?.metrics.eval_loss ?? null;
}
