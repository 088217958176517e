import type { Lineage } from "../api/models";

export const COLUMNS = ["Dataset", "Job", "Checkpoint", "Result", "Derived"] as const;

export type Target =
  | { to: "/datasets/$fileId"; params: { fileId: string } }
  | { to: "/jobs/$jobId"; params: { jobId: string } }
  | { to: "/evals/$jobId"; params: { jobId: string } }
  | { to: "/models/$kind/$id"; params: { kind: string; id: string } };

export interface Node {
  id: string;
  what: string;
  name: string;
  about: string;
  link: Target;
  column: number;
  row: number;
  deleted: boolean;
  /** The artifact that the page is about. */
  own: boolean;
}

export interface Edge {
  from: string;
  to: string;
}

export interface Graph {
  nodes: Node[];
  edges: Edge[];
  rows: number;
}

type Made = Lineage["ancestors"][number];

interface Recorded {
  kind?: string;
  suffix?: string | null;
  step?: number;
  files?: readonly { id: string; filename: string; sha256: string }[];
}

/**
 * Lays out a lineage from the first data to the artifact's descendants. Each artifact has a band of rows, the oldest on
 * top: its data, its job, the job's checkpoints, and the artifact itself, which leads to the job in the band below that
 * started from it.
 */
export function graphOf(lineage: Lineage): Graph {
  const nodes: Node[] = [];
  const edges: Edge[] = [];
  const gone = new Set(lineage.deleted_files);
  const chain: Made[] = [...lineage.ancestors].reverse().concat(lineage);
  let top = 0;
  for (const [index, made] of chain.entries()) {
    const recorded = made.lineage as Recorded;
    const own = index === chain.length - 1;
    const place = (column: number, row: number, node: Omit<Node, "column" | "row">) =>
      nodes.push({ ...node, column, row: top + row });
    const jobId = made.job_id;
    // An imported model has no job: its files lead to the model itself.
    const jobNode = jobId ? `${made.id} of ${jobId}` : made.id;
    const files = recorded.files ?? [];
    for (const [row, file] of files.entries()) {
      const id = `${made.id} on ${file.id}`;
      place(0, row, { ...fileNode(file, gone.has(file.id)), id, own: false });
      edges.push({ from: id, to: jobNode });
    }
    if (jobId) {
      place(1, 0, {
        id: jobNode,
        what: `${recorded.kind ?? ""} job`.trim(),
        name: recorded.suffix ?? jobId,
        about: jobId,
        link: { to: "/jobs/$jobId", params: { jobId } },
        deleted: false,
        own: false,
      });
      if (index > 0) edges.push({ from: chain[index - 1]!.id, to: jobNode });
    }
    const saved = own ? lineage.checkpoints : [];
    for (const [row, checkpoint] of saved.entries()) {
      place(2, row, { ...artifactNode(checkpoint), own: checkpoint.id === made.id });
      edges.push({ from: jobNode, to: checkpoint.id });
    }
    if (!saved.some(({ id }) => id === made.id)) {
      place(made.kind === "checkpoint" ? 2 : 3, 0, { ...artifactNode(made), own });
      const source = saved.find(({ step }) => step === (recorded.step ?? made.step));
      if (jobId) edges.push({ from: source?.id ?? jobNode, to: made.id });
    }
    const after = own ? derivedFrom(lineage) : [];
    for (const [row, node] of after.entries()) {
      place(4, row, node);
      edges.push({ from: made.id, to: node.id });
    }
    top += Math.max(1, files.length, saved.length, after.length);
  }
  return { nodes, edges, rows: top };
}

function fileNode({ id, filename, sha256 }: NonNullable<Recorded["files"]>[number], deleted: boolean) {
  const link: Target = { to: "/datasets/$fileId", params: { fileId: id } };
  return { what: "dataset", name: filename, about: sha256.slice(0, 12), link, deleted };
}

function artifactNode({ id, kind, reference, step, digest, deleted }: Made) {
  const link: Target = { to: "/models/$kind/$id", params: { kind, id } };
  const name = kind === "checkpoint" ? `step ${step}` : reference;
  return { id, what: kind, name, about: digest.slice(0, 12), link, deleted };
}

function derivedFrom({ descendants, evaluations }: Lineage): Omit<Node, "column" | "row">[] {
  const scored = evaluations.map(({ id, name, status }) => ({
    id,
    what: "eval",
    name: name ?? id,
    about: status,
    link: { to: "/evals/$jobId", params: { jobId: id } } as Target,
    deleted: false,
    own: false,
  }));
  return [...descendants.map((made) => ({ ...artifactNode(made), own: false })), ...scored];
}
