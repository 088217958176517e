import { queryOptions } from "@tanstack/react-query";
import { ask, client, csrfHeaders, refusal } from "./client";
import type { Job } from "./jobs";

/** The kinds of jobs with the schemas of their specs: they change with the service alone. */
export const kindsQuery = queryOptions({
  queryKey: ["kinds"],
  queryFn: () => ask(client.GET("/v1/kinds")),
  staleTime: Number.POSITIVE_INFINITY,
});

/** The service checks the spec: it says what is wrong, where, and what was meant. */
export async function createJob(spec: Record<string, unknown>): Promise<Job> {
  const response = await fetch("/v1/jobs", {
    method: "POST",
    headers: { "Content-Type": "application/json", ...csrfHeaders() },
    body: JSON.stringify(spec),
  });
  const told = await response.json();
  if (!response.ok) throw refusal(response.status, told);
  return told;
}
