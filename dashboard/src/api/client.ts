import createClient, { type Middleware } from "openapi-fetch";
import { reached, unreachable } from "./reach";
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];
export type Fault = Schemas["Fault"];

/** An answer that is no success, with what the service says about it. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly body: Schemas["ErrorBody"],
  ) {
    super(body.message);
  }
}

let csrfToken: string | null = null;

/** What changing requests carry from now on. */
export function carry(token: string | null) {
  csrfToken = token;
}

export function csrfHeaders(): Record<string, string> {
  return csrfToken ? { "X-CSRF-Token": csrfToken } : {};
}

const edge: Middleware = {
  onRequest({ request }) {
    if (csrfToken && request.method !== "GET") request.headers.set("X-CSRF-Token", csrfToken);
    return request;
  },
  onResponse({ response }) {
    if (response.status === 502 || response.status === 503 || response.status === 504) unreachable();
    else reached();
    return response;
  },
  onError({ error }) {
    if (!(error instanceof DOMException && error.name === "AbortError")) unreachable();
  },
};

export const client = createClient<paths>({
  baseUrl: location.origin,
  querySerializer: { array: { explode: true, style: "form" } },
});
client.use(edge);

/** The data of an answer. Throws a Refusal when there is none. */
export async function ask<T>(answer: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  const { data, error, response } = await answer;
  if (data !== undefined && response.ok) return data;
  throw refusal(response.status, error);
}

export function refusal(status: number, told: unknown): Refusal {
  const body = (told as { error?: Schemas["ErrorBody"] } | undefined)?.error;
  return new Refusal(
    status,
    body ?? { code: "unknown", message: `The service answered ${status}.`, type: "server_error" },
  );
}
