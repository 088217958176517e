import { queryOptions, useQuery } from "@tanstack/react-query";
import { ask, carry, client, type Schemas } from "./client";

export type Session = Schemas["SessionObject"];

/**
 * The key that is signed in, and the CSRF token of every later change. No page is shown without it, so it is retried
 * until it succeeds. Another tab may have signed in again meanwhile: it is read again whenever this tab is shown.
 */
export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: async () => adopt(await ask(client.GET("/v1/session"))),
  retry: true,
  staleTime: Number.POSITIVE_INFINITY,
  refetchOnWindowFocus: "always",
});

const SCOPES = ["read", "write", "admin", "operator"];

/** Whether the scope of the signed-in key includes `scope`; each scope includes those before it. */
export function useMay(scope: string): boolean {
  const { data } = useQuery(sessionQuery);
  return SCOPES.indexOf(data?.key?.scope ?? "") >= SCOPES.indexOf(scope);
}

export async function signIn(key: string): Promise<Session> {
  return adopt(await ask(client.POST("/v1/session", { body: { key } })));
}

export async function signOut(): Promise<Session> {
  return adopt(await ask(client.DELETE("/v1/session")));
}

let keyId: string | undefined;

/** Uses the session from now on. With another key the page reloads: what it shows may be of another project. */
function adopt(session: Session): Session | Promise<never> {
  if (keyId && session.key && session.key.id !== keyId) {
    location.reload();
    return new Promise(() => {});
  }
  keyId = session.key?.id ?? keyId;
  carry(session.csrf_token ?? null);
  return session;
}
