import { queryOptions } from "@tanstack/react-query";
import { ask, client } from "./client";

const LIVE_MS = 2000;

export const workersQuery = queryOptions({
  queryKey: ["workers"],
  queryFn: ({ signal }) => ask(client.GET("/v1/workers", { signal })),
  refetchInterval: LIVE_MS,
});

export const queueQuery = queryOptions({
  queryKey: ["queue"],
  queryFn: ({ signal }) => ask(client.GET("/v1/queue", { signal })),
  refetchInterval: LIVE_MS,
});
