import { csrfHeaders, refusalOf } from "./client";
import type { DataFile } from "./files";

/** Uploads a file; the service validates each row as it arrives. Throws a Refusal that lists the faults by line. */
export async function uploadFile(file: File, purpose: string): Promise<DataFile> {
  const body = new FormData();
  body.append("purpose", purpose);
  body.append("file", file, file.name);
  const response = await fetch("/v1/files", { method: "POST", headers: csrfHeaders(), body });
  if (!response.ok) throw await refusalOf(response);
  return response.json();
}

/** Returns the file without the given lines, which are counted from 1. */
export async function withoutLines(file: File, lines: ReadonlySet<number>): Promise<File> {
  const kept = (await file.text()).split("\n").filter((_, index) => !lines.has(index + 1));
  return new File([kept.join("\n")], file.name, { type: file.type });
}
