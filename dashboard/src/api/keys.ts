import { queryOptions } from "@tanstack/react-query";
import { ask, client, type Schemas } from "./client";
import type { paths } from "./schema";

export type Key = Schemas["KeyObject"];
export type NewKey = paths["/v1/keys"]["post"]["requestBody"]["content"]["application/json"];

/** The newest keys of the project, including revoked ones. */
export const keysQuery = queryOptions({
  queryKey: ["keys"],
  queryFn: ({ signal }) => ask(client.GET("/v1/keys", { params: { query: { limit: 100 } }, signal })),
});

export const makeKey = (key: NewKey) => ask(client.POST("/v1/keys", { body: key }));

export const revokeKey = (id: string) =>
  ask(client.POST("/v1/keys/{key_id}/revoke", { params: { path: { key_id: id } } }));
