import createClient, { type Middleware } from "openapi-fetch";
import { reached, unreachable } from "./reach";
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];
export type Fault = Schemas["Fault"];

/** What passes by itself. A proxy before a service that is away says so too, in words of its own. */
const PASSING: ReadonlySet<number> = new Set([502, 503, 504]);

/** What proxies at the edge of a network add to those. */
const EDGES: ReadonlySet<number> = new Set(Array.from({ length: 11 }, (_, index) => 520 + index));

/** An answer that is no success, with what the service says about it. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly body: Schemas["ErrorBody"],
  ) {
    super(body.message);
  }

  /** Whether the same may be granted in a while. */
  get passes(): boolean {
    return PASSING.has(this.status);
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
  onError({ error }) {
    if (!(error instanceof DOMException && error.name === "AbortError")) unreachable();
  },
};

export const client = createClient<paths>({
  baseUrl: location.origin,
  querySerializer: { array: { explode: true, style: "form" } },
});
client.use(edge);

/** The data of an answer. Throws a `refusal` when there is none. */
export async function ask<T>(answer: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  const { data, error, response } = await answer;
  if (data === undefined || !response.ok) throw refusal(response.status, error);
  reached();
  return data;
}

/** What to throw for an answer that is no success: a Refusal, unless it was a proxy that answered. */
export function refusal(status: number, told: unknown): Error {
  const body = (told as { error?: Schemas["ErrorBody"] } | undefined)?.error;
  const isOurs = typeof body?.message === "string";
  if (!isOurs && (PASSING.has(status) || EDGES.has(status))) {
    unreachable();
    return new Error(`a proxy answered ${status}`);
  }
  reached();
  return new Refusal(
    status,
    isOurs ? body : { code: "unknown", message: `The service answered ${status}.`, type: "server_error" },
  );
}

/** The same for an answer of which nothing has been read. */
export async function refusalOf(response: Response): Promise<Error> {
  return refusal(response.status, await response.json().catch(() => undefined));
}
