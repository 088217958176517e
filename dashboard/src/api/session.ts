import { queryOptions, useQuery } from "@tanstack/react-query";
import { ask, carry, client, type Schemas } from "./client";

export type Session = Schemas["SessionObject"];

/**
 * Who is signed in; its CSRF token goes with every change from then on. Without it there is no page: it is asked for
 * until it is told.
 */
export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: async () => kept(await ask(client.GET("/v1/session"))),
  retry: true,
  staleTime: Number.POSITIVE_INFINITY,
});

const SCOPES = ["read", "write", "admin", "operator"];

/** Whether the key that one is signed in with reaches so far; each scope holds those before it. */
export function useMay(scope: string): boolean {
  const { data } = useQuery(sessionQuery);
  return SCOPES.indexOf(data?.key?.scope ?? "") >= SCOPES.indexOf(scope);
}

export async function signIn(key: string): Promise<Session> {
  return kept(await ask(client.POST("/v1/session", { body: { key } })));
}

export async function signOut(): Promise<Session> {
  return kept(await ask(client.DELETE("/v1/session")));
}

function kept(session: Session): Session {
  carry(session.csrf_token ?? null);
  return session;
}
