import { expect, it } from "vitest";
import { isWithin, type Schema, sectionsOf, setIn, valueAt, withoutUnknown, withValue } from "./schema";

const schema: Schema = {
  required: ["model"],
  properties: {
    kind: { const: "sft" },
    model: { type: "string" },
    suffix: { anyOf: [{ type: "string" }, { type: "null" }], default: null },
    tuning: {
      default: { method: "lora" },
      discriminator: { propertyName: "method", mapping: { full: "#/$defs/Full", lora: "#/$defs/Lora" } },
      oneOf: [{ $ref: "#/$defs/Full" }, { $ref: "#/$defs/Lora" }],
    },
    hyperparameters: { $ref: "#/$defs/Hyper", default: {} },
  },
  $defs: {
    Full: { properties: { method: { const: "full" } } },
    Lora: { properties: { r: { type: "integer", default: 16 }, method: { const: "lora" } } },
    Hyper: {
      properties: {
        packing: { type: "boolean", default: true },
        optim: { enum: ["adamw", "adamw_8bit"], default: "adamw" },
        learning_rate: { anyOf: [{ type: "number" }, { const: "auto", type: "string" }], default: "auto" },
      },
    },
  },
};

const names = (draft = {}) =>
  sectionsOf(schema, draft).map(({ path, fields }) => [path, fields.map(({ name }) => name)]);

it("makes a form from a schema, with the member of a union that the draft chooses", () => {
  expect(names()).toEqual([
    ["", ["model", "suffix"]],
    ["tuning", ["method", "r"]],
    ["hyperparameters", ["packing", "optim", "learning_rate"]],
  ]);
  expect(names({ tuning: { method: "full" } })[1]).toEqual(["tuning", ["method"]]);
});

it("gives each value the control that fits its type", () => {
  const fields = sectionsOf(schema, {}).flatMap((section) => section.fields);
  expect(fields.map(({ control }) => control)).toEqual(["line", "line", "choice", "line", "flag", "choice", "line"]);
  expect(fields.filter(({ text }) => text).map(({ name }) => name)).toEqual(["model", "suffix", "method"]);
});

it("sets a nested value, and leaves nothing behind when it is removed", () => {
  const draft = withValue({ kind: "sft" }, "hyperparameters.max_steps", 5);
  expect(draft).toEqual({ kind: "sft", hyperparameters: { max_steps: 5 } });
  expect(valueAt(draft, "hyperparameters.max_steps")).toBe(5);
  expect(withValue(draft, "hyperparameters.max_steps", undefined)).toEqual({ kind: "sft" });
});

it("finds what the request had set, also under names that contain dots", () => {
  const spec = {
    kind: "sft",
    seed: 42,
    labels: {},
    metadata: { "team.name": "search", owner: "me" },
    tuning: { method: "lora", r: 8 },
    hyperparameters: { max_steps: 100 },
  };
  const origins = {
    kind: "set",
    seed: "default",
    labels: "set",
    "metadata.team.name": "set",
    "metadata.owner": "set",
    "tuning.method": "set",
    "tuning.r": "default",
    "hyperparameters.max_steps": "auto",
  };
  const { kind, labels, metadata } = spec;
  expect(setIn(spec, origins)).toEqual({ kind, labels, metadata, tuning: { method: "lora" } });
});

it("keeps of another kind's draft what this kind takes", () => {
  const draft = {
    kind: "sft",
    model: "tiny/1",
    beta: 0.1,
    tuning: { method: "full", r: 8 },
    hyperparameters: { packing: false, mask_prompt: true },
  };
  expect(withoutUnknown(schema, draft)).toEqual({
    kind: "sft",
    model: "tiny/1",
    tuning: { method: "full" },
    hyperparameters: { packing: false },
  });
  expect(withoutUnknown(schema, { hyperparameters: { mask_prompt: true } })).toEqual({});
});

it("finds the field that a nested fault belongs to", () => {
  for (const path of ["model", "model.hidden_size", "model[0].weight"]) expect(isWithin(path, "model")).toBe(true);
  for (const path of ["models", "model_name.size", "mode"]) expect(isWithin(path, "model")).toBe(false);
});
