import { expect, test } from "vitest";
import type { Lineage } from "../api/models";
import { graphOf } from "./graph";

const file = { id: "file-1", filename: "rows.jsonl", sha256: "ab".repeat(32) };
const made = (id: string, more: object = {}) => ({
  id,
  kind: "model" as const,
  reference: `${id}/1`,
  step: 20,
  digest: "cd".repeat(32),
  job_id: `job-${id}`,
  deleted: false,
  lineage: { kind: "sft", suffix: `by-${id}`, step: 20, files: [file] },
  ...more,
});
const lineage: Lineage = {
  ...made("tuned"),
  object: "lineage",
  ancestors: [made("base", { deleted: true })],
  checkpoints: [made("ten", { kind: "checkpoint", step: 10, deleted: true }), made("twenty", { kind: "checkpoint" })],
  descendants: [made("child")],
  evaluations: [{ id: "job-eval", name: "look", status: "succeeded" }],
  deleted_files: ["file-1"],
};

test("data leads through job, checkpoint and result to descendants", () => {
  const { nodes, edges } = graphOf(lineage);
  const between = edges.map(({ from, to }) => `${from} > ${to}`);
  for (const edge of [
    "tuned on file-1 > tuned of job-tuned",
    "tuned of job-tuned > ten",
    "tuned of job-tuned > twenty",
    "twenty > tuned",
    "tuned > child",
    "tuned > job-eval",
    "base > tuned of job-tuned",
  ])
    expect(between).toContain(edge);
  expect(between).not.toContain("ten > tuned");
  const known = new Set(nodes.map(({ id }) => id));
  expect(known.size).toBe(nodes.length);
  expect(edges.every(({ from, to }) => known.has(from) && known.has(to))).toBe(true);
});

test("no two nodes overlap, and the base is above what was made from it", () => {
  const { nodes, rows } = graphOf(lineage);
  expect(new Set(nodes.map(({ column, row }) => `${column}:${row}`)).size).toBe(nodes.length);
  const row = (id: string) => nodes.find((node) => node.id === id)!.row;
  expect(row("base")).toBeLessThan(row("tuned"));
  expect(rows).toBe(3);
});

test("deleted things are still there, and marked as deleted", () => {
  const deleted = graphOf(lineage).nodes.filter((node) => node.deleted);
  expect(deleted.map(({ id }) => id).sort()).toEqual(["base", "base on file-1", "ten", "tuned on file-1"]);
});

test("a checkpoint appears among those of its job, once", () => {
  const shown = {
    ...lineage,
    ...made("twenty", { kind: "checkpoint", job_id: "job-tuned" }),
    object: "lineage" as const,
  };
  const { nodes } = graphOf(shown);
  expect(nodes.filter(({ id }) => id === "twenty").map(({ column, own }) => [column, own])).toEqual([[2, true]]);
});

test("an imported model appears without a job", () => {
  const imported = { ...lineage, ancestors: [made("base", { job_id: null, lineage: { files: [file] } })] };
  const { nodes, edges } = graphOf(imported);
  const known = new Set(nodes.map(({ id }) => id));
  expect([...known].filter((id) => id.startsWith("base")).sort()).toEqual(["base", "base on file-1"]);
  expect(edges).toContainEqual({ from: "base on file-1", to: "base" });
  expect(edges.every(({ from, to }) => known.has(from) && known.has(to))).toBe(true);
});
