import { queryOptions } from "@tanstack/react-query";
import { ask, client, csrfHeaders, refusalOf, type Schemas } from "./client";
import type { Job } from "./jobs";

/** The kinds of jobs with the schemas of their specs: they change with the service alone. */
export const kindsQuery = queryOptions({
  queryKey: ["kinds"],
  queryFn: () => ask(client.GET("/v1/kinds")),
  staleTime: Number.POSITIVE_INFINITY,
});

/**
 * The service checks the spec: it says what is wrong, where, and what was meant. A plan binds the job to what it told;
 * of one intent it makes one job, however often it is asked.
 */
export async function createJob(asked: Record<string, unknown> | { plan_id: string }, intent: string): Promise<Job> {
  return post("/v1/jobs", asked, { "Idempotency-Key": intent });
}

/** What a job of this spec would come to; nothing is made. */
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
