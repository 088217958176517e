import { expect, it } from "vitest";
import { fromYaml, readValue, toYaml, writeValue } from "./yaml";

const SPEC = {
  kind: "sft",
  model: "tiny/2",
  suffix: "no",
  metadata: { "a: b": "5", empty: "", lines: "one\ntwo\n", hebrew: "שלום" },
  exclude_rows: [17, 230],
  hyperparameters: { learning_rate: 1e-4, max_steps: 100, packing: false, precision: "auto" },
  samples: { prompts: ["# not a comment", "yes", "1e3"] },
  unknown_key: null,
};

it("loses nothing from form to YAML and back", () => {
  expect(fromYaml(toYaml(SPEC))).toEqual({ draft: SPEC });
});

it("reports where a text is not YAML", () => {
  expect(fromYaml("kind: sft\nmodel: [tiny\n")).toMatchObject({ fault: { line: 3, column: 1 } });
  expect(fromYaml("kind: sft\nkind: dpo\n")).toMatchObject({ fault: { line: 2, message: "duplicated mapping key" } });
  expect(fromYaml("just words")).toHaveProperty("fault");
});

it.each([5, 1e-4, true, null, "auto", "5", "true", "a: b", [1, 2], { size: "tiny" }, ["x, y"], "null"])(
  "parses %j as it was written",
  (value) => {
    expect(readValue(writeValue(value))).toEqual(value);
  },
);
