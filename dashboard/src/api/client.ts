import createClient, { type Middleware } from "openapi-fetch";
import { reached, unreachable } from "./reach";
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];
export type Fault = Schemas["Fault"];

/** Temporary failures of the service; a proxy in front of an unreachable service answers with the same codes. */
const UNAVAILABLE: ReadonlySet<number> = new Set([502, 503, 504]);

/** Further codes with which proxies at the edge of a network report an unreachable service. */
const EDGES: ReadonlySet<number> = new Set(Array.from({ length: 11 }, (_, index) => 520 + index));

const TOO_MANY_REQUESTS = 429;

/** The wait before a retry, if the response has no Retry-After in seconds. */
const RETRY_AFTER_S = 5;

/** An error response, with the error object of the service. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly body: Schemas["ErrorBody"],
    /** How long to wait before the same request is sent again. */
    readonly retryAfterS = RETRY_AFTER_S,
  ) {
    super(body.message);
  }

  /** Whether the same request may succeed later without any change. */
  get isTemporary(): boolean {
    return UNAVAILABLE.has(this.status) || this.status === TOO_MANY_REQUESTS;
  }
}

let csrfToken: string | null = null;

/** Sets the CSRF token that is sent with every changing request from now on. */
export function carry(token: string | null) {
  csrfToken = token;
}

export function csrfHeaders(): Record<string, string> {
  return csrfToken ? { "X-CSRF-Token": csrfToken } : {};
}

let sessionOutdated = () => {};

/** Registers what is called when a response shows that the session has ended or was replaced in another tab. */
export function onSessionOutdated(listener: () => void) {
  sessionOutdated = listener;
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

/** Returns the data of a response. Throws a `refusal` when it has none. */
export async function ask<T>(answer: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  const { data, error, response } = await answer;
  if (data === undefined || !response.ok) throw refusal(response.status, error, response.headers);
  reached();
  return data;
}

/** Returns the error to throw for an error response: a Refusal, unless the response came from a proxy. */
export function refusal(status: number, payload: unknown, headers?: Headers): Error {
  const body = (payload as { error?: Schemas["ErrorBody"] } | undefined)?.error;
  const isOurs = typeof body?.message === "string";
  if (!isOurs && (UNAVAILABLE.has(status) || EDGES.has(status))) {
    unreachable();
    return new Error(`a proxy answered ${status}`);
  }
  reached();
  if (!isOurs)
    return new Refusal(status, { code: "unknown", message: `The service answered ${status}.`, type: "server_error" });
  const isReplaced = body.code === "csrf_token_missing";
  if (isReplaced || status === 401) sessionOutdated();
  const retryAfterS = Number(headers?.get("Retry-After")) || undefined;
  return new Refusal(status, isReplaced ? { ...body, message: REPLACED } : body, retryAfterS);
}

const REPLACED = "This browser has signed in again in another tab. Try again.";

/** Returns the `refusal` for a response whose body has not been read yet. */
export async function refusalOf(response: Response): Promise<Error> {
  return refusal(response.status, await response.json().catch(() => undefined), response.headers);
}
