import type { Artifact } from "../api/jobs";

/** Says in the address that a side is left empty; no name begins like that. */
export const NONE = "-";

export interface Chosen {
  base?: string;
  tuned?: string;
}

/** Who is asked on each side: what the address says; else the newest adapter, beside the model that it was tuned from. */
export function chosenOf({ base, tuned }: Chosen, artifacts: readonly Artifact[]): Chosen {
  const newest = artifacts.find(({ kind }) => kind === "adapter") ?? artifacts.find(({ kind }) => kind === "model");
  const right = tuned ?? newest?.reference;
  const left = base ?? baseOf(right, artifacts)?.reference;
  return { base: left === NONE ? undefined : left, tuned: right === NONE ? undefined : right };
}

/** The whole model below an adapter, however many adapters were trained one upon the other. */
function baseOf(reference: string | undefined, artifacts: readonly Artifact[]): Artifact | undefined {
  const named = ({ id, reference: own }: Artifact) => id === reference || own === reference;
  let below = artifacts.find(named);
  if (below?.layout !== "adapter") return undefined;
  while (below?.layout === "adapter") {
    const id: string | null = below.base_artifact_id;
    below = artifacts.find((artifact) => artifact.id === id);
  }
  return below;
}
