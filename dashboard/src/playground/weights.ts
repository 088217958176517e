import type { Artifact } from "../api/jobs";

/** Marks a side in the address as empty; no name begins like that. */
export const NONE = "-";

export interface Chosen {
  base?: string;
  tuned?: string;
}

/** The model of each side: the one in the address, or else the newest adapter beside the model that it was tuned from. */
export function chosenOf({ base, tuned }: Chosen, artifacts: readonly Artifact[]): Chosen {
  const newest = artifacts.find(({ kind }) => kind === "adapter") ?? artifacts.find(({ kind }) => kind === "model");
  const right = tuned ?? newest?.reference;
  const left = base ?? baseOf(right, artifacts)?.reference;
  return { base: left === NONE ? undefined : left, tuned: right === NONE ? undefined : right };
}

/** Returns the full model below an adapter, through any chain of adapters trained on each other. */
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
