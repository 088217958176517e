import { queryOptions } from "@tanstack/react-query";
import { ask, client, type Schemas } from "./client";
import { ownNames } from "./jobs";

export type Lineage = Schemas["Lineage"];

/** Models and adapters, newest first: what a job may start from. */
export const modelsQuery = queryOptions({
  queryKey: ["models"],
  queryFn: async ({ signal }) => {
    const wanted = { params: { query: { limit: 100 } }, signal };
    const pages = await Promise.all([ask(client.GET("/v1/models", wanted)), ask(client.GET("/v1/adapters", wanted))]);
    return ownNames(pages).sort((a, b) => b.created_at - a.created_at);
  },
});

/** What an artifact was made from, all of what that was made from, and what came of it. */
export function lineageQuery(kind: string, id: string) {
  const params = { path: { reference: id } };
  return queryOptions({
    queryKey: ["lineage", id],
    queryFn: () => {
      switch (kind) {
        case "model":
          return ask(client.GET("/v1/models/{reference}/lineage", { params }));
        case "adapter":
          return ask(client.GET("/v1/adapters/{reference}/lineage", { params }));
        default:
          return ask(client.GET("/v1/checkpoints/{reference}/lineage", { params }));
      }
    },
  });
}

export function artifactQuery(kind: string, id: string) {
  const params = { path: { reference: id } };
  return queryOptions({
    queryKey: ["artifact", id],
    queryFn: (): Promise<Schemas["ArtifactObject"]> => {
      switch (kind) {
        case "model":
          return ask(client.GET("/v1/models/{reference}", { params }));
        case "adapter":
          return ask(client.GET("/v1/adapters/{reference}", { params }));
        default:
          return ask(client.GET("/v1/checkpoints/{reference}", { params }));
      }
    },
  });
}

/** Checkpoints of all jobs, newest first. */
export const checkpointsOfAllQuery = queryOptions({
  queryKey: ["checkpoints of all"],
  queryFn: async ({ signal }) =>
    (await ask(client.GET("/v1/checkpoints", { params: { query: { limit: 100 } }, signal }))).data,
});
