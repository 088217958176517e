import { expect, it } from "vitest";
import { kindFor } from "./preview";

it.each([
  ["preference", "dpo"],
  ["preferred_output", "dpo"],
  ["chat", "sft"],
  ["text", "pretrain"],
  ["multiple_choice", undefined],
  ["item", undefined],
  ["items", undefined],
  ["archive", undefined],
  ["unchecked", undefined],
] as const)("rows of format %s are for %s", (format, kind) => {
  expect(kindFor({ format })).toBe(kind);
});
