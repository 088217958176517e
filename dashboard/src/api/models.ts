import { queryOptions } from "@tanstack/react-query";
import { ask, client, type Schemas } from "./client";
import { askForMade } from "./jobs";

export type Lineage = Schemas["Lineage"];

/** The largest number of entries in a list to choose from: the newest ones. */
export const MOST = 1000;

const shelfQuery = queryOptions({
  queryKey: ["models"],
  queryFn: async ({ signal }) => {
    const { made, isAll } = await askForMade({ limit: MOST }, signal);
    return { made: made.sort((a, b) => b.created_at - a.created_at), isAll };
  },
});

/** Models and adapters, newest first: what a job may start from. */
export const modelsQuery = queryOptions({ ...shelfQuery, select: ({ made }) => made });

/** Whether `modelsQuery` returns all of them. */
export const areAllModelsQuery = queryOptions({ ...shelfQuery, select: ({ isAll }) => isAll });

/** An artifact's ancestors, back to the first data, and its descendants. */
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
    (await ask(client.GET("/v1/checkpoints", { params: { query: { limit: MOST } }, signal }))).data,
});
