import { expect, test } from "vitest";
import type { Artifact } from "../api/jobs";
import { chosenOf } from "./weights";

const of = (id: string, kind: Artifact["kind"], base: string | null = null) =>
  ({
    id,
    kind,
    layout: kind === "adapter" ? "adapter" : "model",
    reference: `${id}/1`,
    base_artifact_id: base,
  }) as Artifact;

const plain = of("plain", "model");
const shelf = [of("second", "adapter", "first"), of("first", "adapter", "plain"), plain];

test("the newest adapter is compared with the model below it, through an adapter between them", () => {
  expect(chosenOf({}, shelf)).toEqual({ base: "plain/1", tuned: "second/1" });
});

test("a model by itself has no counterpart", () => {
  expect(chosenOf({}, [plain])).toEqual({ base: undefined, tuned: "plain/1" });
});

test("the address chooses the models, and may leave a side empty", () => {
  expect(chosenOf({ base: "-", tuned: "first/1" }, shelf)).toEqual({ base: undefined, tuned: "first/1" });
  expect(chosenOf({ base: "other/3" }, shelf)).toEqual({ base: "other/3", tuned: "second/1" });
});

test("a base that no longer exists is left empty", () => {
  expect(chosenOf({ tuned: "first/1" }, shelf.slice(0, 2))).toEqual({ base: undefined, tuned: "first/1" });
});
