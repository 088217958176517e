import { queryOptions } from "@tanstack/react-query";
import { ask, client } from "./client";
import { ownNames } from "./jobs";

/** Models and adapters, newest first: what a job may start from. */
export const modelsQuery = queryOptions({
  queryKey: ["models"],
  queryFn: async ({ signal }) => {
    const wanted = { params: { query: { limit: 100 } }, signal };
    const pages = await Promise.all([ask(client.GET("/v1/models", wanted)), ask(client.GET("/v1/adapters", wanted))]);
    return ownNames(pages).sort((a, b) => b.created_at - a.created_at);
  },
});

/** What an artifact was made from, and all of what that was made from. */
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
