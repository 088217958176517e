import { keepPreviousData, queryOptions } from "@tanstack/react-query";
import { csrfHeaders, refusalOf, type Schemas } from "./client";
import type { DataFile } from "./files";

export type Preview = Schemas["Preview"];

const KINDS: Partial<Record<DataFile["format"], string>> = {
  preference: "dpo",
  preferred_output: "dpo",
  chat: "sft",
  completion: "sft",
  instruction: "sft",
  text_jsonl: "pretrain",
  text: "pretrain",
};
export const PREVIEW_ROWS = 5;

/** The kind of job that trains on rows of this format, if any: none trains on an evaluation's results. */
export function kindFor({ format }: Pick<DataFile, "format">): string | undefined {
  return KINDS[format];
}

/** Rows of a file as a job would train on them; the service runs the trainer's own code on them. */
export function previewQuery(file: DataFile, model: string | undefined, afterLine: number, statistics: boolean) {
  const kind = kindFor(file);
  const spec = { kind, training_file: file.id, ...(model && { model }) };
  return queryOptions({
    queryKey: ["preview", file.id, model, afterLine, statistics],
    queryFn: async ({ signal }): Promise<Preview> => {
      const response = await fetch("/v1/preview", {
        method: "POST",
        headers: { "Content-Type": "application/json", ...csrfHeaders() },
        body: JSON.stringify({ spec, after_line: afterLine, limit: PREVIEW_ROWS, statistics }),
        signal,
      });
      if (!response.ok) throw await refusalOf(response);
      return response.json();
    },
    enabled: kind === "pretrain" || Boolean(model),
    staleTime: Number.POSITIVE_INFINITY,
    retry: false,
    placeholderData: keepPreviousData,
  });
}
