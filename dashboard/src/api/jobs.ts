import { keepPreviousData, queryOptions } from "@tanstack/react-query";
import { ask, client, type Schemas } from "./client";
import { collect } from "./pages";

export type Job = Schemas["JobObject"];
export type Curve = Schemas["CurveObject"];
export type Artifact = Schemas["ArtifactObject"];
export type Status = Job["status"];

export interface JobsSearch {
  status?: Status;
  kind?: string;
  after?: string;
}

/** How often live data is read: a change made elsewhere shows within two seconds. */
export const LIVE_MS = 1500;
const ENDED_MS = 10_000;
const PAGE = 25;

export const ENDED: ReadonlySet<string> = new Set(["succeeded", "failed", "cancelled"]);

export function jobsQuery(search: JobsSearch, limit = PAGE) {
  return queryOptions({
    queryKey: ["jobs", search, limit],
    queryFn: ({ signal }) => ask(client.GET("/v1/jobs", { params: { query: { ...search, limit } }, signal })),
    refetchInterval: LIVE_MS,
    placeholderData: keepPreviousData,
  });
}

export function jobQuery(jobId: string) {
  return queryOptions({
    queryKey: ["job", jobId],
    queryFn: ({ signal }) => ask(client.GET("/v1/jobs/{job_id}", { params: { path: { job_id: jobId } }, signal })),
    // A failed job may be retried, from anywhere.
    refetchInterval: ({ state }) =>
      state.data?.status === "succeeded" || state.data?.status === "cancelled" ? ENDED_MS : LIVE_MS,
  });
}

/** Several jobs, in the order of `ids`, without those that the service does not have. */
export function jobsOfQuery(ids: readonly string[]) {
  return queryOptions({
    queryKey: ["jobs of", ids],
    queryFn: async ({ signal }) => {
      if (ids.length === 0) return [];
      const query = { id: [...ids], limit: ids.length };
      const { data } = await ask(client.GET("/v1/jobs", { params: { query }, signal }));
      return ids.flatMap((id) => data.find((job) => job.id === id) ?? []);
    },
    refetchInterval: ({ state }) => (state.data?.every(({ status }) => ENDED.has(status)) ? ENDED_MS : LIVE_MS),
    placeholderData: keepPreviousData,
  });
}

export interface CurveWanted {
  metric: string;
  split: "train" | "eval";
  points: number;
  smoothing?: number;
}

/** A curve of a job. `version` changes as the curve grows; a version is read only once. */
export function curveQuery(jobId: string, wanted: CurveWanted, version: string | number) {
  const { metric, ...query } = wanted;
  return queryOptions({
    queryKey: ["curve", jobId, wanted, version],
    queryFn: async ({ signal }) => {
      const params = { path: { job_id: jobId, metric }, query };
      return withoutLostTail(await ask(client.GET("/v1/jobs/{job_id}/metrics/{metric}", { params, signal })));
    },
    staleTime: Number.POSITIVE_INFINITY,
    placeholderData: keepPreviousData,
  });
}

/**
 * Returns the curve up to its newest point. An attempt that was lost had got further than the checkpoint that the next
 * one resumed from: until that one gets there, the older steps behind its newest step are no longer part of the run.
 */
export function withoutLostTail(curve: Curve): Curve {
  const newest = curve.time.reduce((best, time, index) => (time >= curve.time[best]! ? index : best), 0);
  const length = Math.min(curve.step.length, newest + 1);
  if (length === curve.step.length) return curve;
  return { ...cutCurve(curve, length), total: curve.total - (curve.step.length - length) };
}

/** Returns the first `length` points of a curve. */
export function cutCurve(curve: Curve, length: number): Curve {
  return {
    ...curve,
    step: curve.step.slice(0, length),
    time: curve.time.slice(0, length),
    tokens: curve.tokens.slice(0, length),
    value: curve.value.slice(0, length),
    smoothed: curve.smoothed?.slice(0, length) ?? null,
  };
}

/** The current curve of a job. A finished one is read again too, more slowly: its last points may arrive late. */
export function growingCurveQuery(jobId: string, wanted: CurveWanted, growing: boolean) {
  return queryOptions({
    ...curveQuery(jobId, wanted, "newest"),
    staleTime: ENDED_MS,
    refetchInterval: growing ? LIVE_MS : ENDED_MS,
  });
}

/** The name of a job: its suffix, or else its id. */
export function nameOf(job: Job): string {
  return typeof job.spec.suffix === "string" ? job.spec.suffix : job.id;
}

/** The model that a job trains or scores. */
export function modelOf(job: Job): string {
  if (job.base?.name) return `${job.base.name}/${job.base.version}`;
  const model = job.spec.model;
  if (typeof model === "string") return model;
  const size = (model as { size?: string } | undefined)?.size;
  return size ? `new model, ${size}` : "new model";
}

/** The last loss of a job: the training loss while it trains, the held-out loss once it has finished. */
export function lossOf(job: Pick<Job, "progress" | "result">): number | null {
  return job.result?.metrics.eval_loss ?? job.progress.loss ?? null;
}

/** One evaluation of a job, to know its metrics; read again until there is one. */
export function evaluationsQuery(job: Job) {
  return queryOptions({
    queryKey: ["evaluations", job.id, ENDED.has(job.status)],
    queryFn: ({ signal }) =>
      ask(
        client.GET("/v1/jobs/{job_id}/metrics", {
          params: { path: { job_id: job.id }, query: { split: "eval", limit: 1 } },
          signal,
        }),
      ),
    refetchInterval: ({ state }) => (state.data?.data.length || ENDED.has(job.status) ? false : LIVE_MS),
  });
}

/** All checkpoints that a job keeps, newest first. */
export function checkpointsQuery(jobId: string) {
  return queryOptions({
    queryKey: ["checkpoints", jobId],
    queryFn: ({ signal }) =>
      collect((after?: string) =>
        ask(
          client.GET("/v1/jobs/{job_id}/checkpoints", {
            params: { path: { job_id: jobId }, query: { limit: 100, after } },
            signal,
          }),
        ),
      ),
  });
}

export function configQuery(jobId: string) {
  return queryOptions({
    queryKey: ["config", jobId],
    queryFn: ({ signal }) =>
      ask(client.GET("/v1/jobs/{job_id}/config", { params: { path: { job_id: jobId } }, signal })),
    staleTime: Number.POSITIVE_INFINITY,
  });
}

export type Verb = "cancel" | "pause" | "resume" | "retry";

export function orderJob(jobId: string, verb: Verb): Promise<Job> {
  const params = { path: { job_id: jobId } };
  switch (verb) {
    case "cancel":
      return ask(client.POST("/v1/jobs/{job_id}/cancel", { params }));
    case "pause":
      return ask(client.POST("/v1/jobs/{job_id}/pause", { params }));
    case "resume":
      return ask(client.POST("/v1/jobs/{job_id}/resume", { params }));
    case "retry":
      return ask(client.POST("/v1/jobs/{job_id}/retry", { params }));
  }
}

/** The models and adapters that a job has made. */
export function madeQuery(job: Job) {
  return queryOptions({
    queryKey: ["made", job.id, job.artifacts.length],
    queryFn: async ({ signal }) => (await askForMade({ job_id: job.id, limit: 100 }, signal)).made,
    enabled: job.artifacts.length > 0,
  });
}

/** Returns the newest models and adapters; `isAll` says whether there are no older ones. */
export async function askForMade(query: { job_id?: string; limit: number }, signal: AbortSignal) {
  const [models, adapters] = await Promise.all([
    // Without a kind the list includes adapters too, under the names that OpenAI's clients use.
    ask(client.GET("/v1/models", { params: { query: { ...query, kind: "model" } }, signal })),
    ask(client.GET("/v1/adapters", { params: { query }, signal })),
  ]);
  const made: Artifact[] = [...models.data, ...adapters.data];
  return { made, isAll: !models.has_more && !adapters.has_more };
}

/** The path of an artifact in the API. */
export function pathOf({ kind, id }: { kind: string; id: string }): string {
  return `/v1/${kind}s/${id}`;
}

export function manifestQuery({ id, kind }: Pick<Artifact, "id" | "kind">) {
  const params = { path: { reference: id } };
  return queryOptions({
    queryKey: ["manifest", id],
    queryFn: () => {
      switch (kind) {
        case "model":
          return ask(client.GET("/v1/models/{reference}/manifest", { params }));
        case "adapter":
          return ask(client.GET("/v1/adapters/{reference}/manifest", { params }));
        case "checkpoint":
          return ask(client.GET("/v1/checkpoints/{reference}/manifest", { params }));
      }
    },
    staleTime: Number.POSITIVE_INFINITY,
  });
}
