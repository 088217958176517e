import { queryOptions } from "@tanstack/react-query";
import { ask, client, type Schemas } from "./client";

export type DataFile = Schemas["FileObject"];

export interface FilesSearch {
  purpose?: string;
  after?: string;
}

export function filesQuery({ purpose, after }: FilesSearch, limit = 100) {
  return queryOptions({
    queryKey: ["files", purpose, after, limit],
    queryFn: ({ signal }) =>
      ask(
        client.GET("/v1/files", {
          params: { query: { purpose: purpose as "fine-tune" | undefined, after, limit } },
          signal,
        }),
      ),
  });
}

export function fileQuery(fileId: string) {
  return queryOptions({
    queryKey: ["file", fileId],
    queryFn: ({ signal }) => ask(client.GET("/v1/files/{file_id}", { params: { path: { file_id: fileId } }, signal })),
  });
}
