import { queryOptions } from "@tanstack/react-query";
import { ask, client, refusalOf, type Schemas } from "./client";
import type { DataFile } from "./files";
import { uploadFile } from "./upload";

export type Sample = Schemas["SampleObject"];

/** Sample data sets that come with the service. */
export const samplesQuery = queryOptions({
  queryKey: ["samples"],
  queryFn: async ({ signal }) => (await ask(client.GET("/v1/samples", { signal }))).data,
  staleTime: Number.POSITIVE_INFINITY,
});

/** Uploads a sample as a file of the project, as if it had been chosen from the disk. */
export async function takeSample({ id, filename, purpose }: Sample): Promise<DataFile> {
  const response = await fetch(`/v1/samples/content?sample=${id}`);
  if (!response.ok) throw await refusalOf(response);
  return uploadFile(new File([await response.blob()], filename), purpose);
}
