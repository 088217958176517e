import { queryOptions } from "@tanstack/react-query";
import { ask, client, csrfHeaders, refusalOf, type Schemas } from "./client";
import type { Job } from "./jobs";

/** The kinds of jobs with the schemas of their specs; they change only with the version of the service. */
export const kindsQuery = queryOptions({
  queryKey: ["kinds"],
  queryFn: () => ask(client.GET("/v1/kinds")),
  staleTime: Number.POSITIVE_INFINITY,
});

/**
 * Creates a job from a spec, which the service validates, or from a plan, whose spec it then has. `intent` is the
 * idempotency key: repeated requests with the same one create one job.
 */
export async function createJob(request: Record<string, unknown> | { plan_id: string }, intent: string): Promise<Job> {
  return post("/v1/jobs", request, { "Idempotency-Key": intent });
}

/** Plans a job of this spec without creating it. */
export async function planJob(spec: Record<string, unknown>): Promise<Schemas["PlanObject"]> {
  return post("/v1/jobs?dry_run=true", spec);
}

async function post(path: string, body: Record<string, unknown>, headers?: Record<string, string>) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...csrfHeaders(), ...headers },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw await refusalOf(response);
  return response.json();
}
