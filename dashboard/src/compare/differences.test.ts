import { expect, it } from "vitest";
import { differences } from "./differences";

it("returns only what differs, by its path", () => {
  const one = { seed: 42, tuning: { method: "lora", r: 16 }, mixture: [1] };
  const other = { seed: 42, tuning: { method: "full" }, mixture: [1, 2] };
  expect(differences([one, other])).toEqual([
    { path: "tuning.method", values: ["lora", "full"] },
    { path: "tuning.r", values: ["16", "–"] },
    { path: "mixture", values: ["[1]", "[1,2]"] },
  ]);
});

it("finds nothing between equals, whatever the order of their keys", () => {
  expect(
    differences([
      { a: 1, b: 2 },
      { b: 2, a: 1 },
    ]),
  ).toEqual([]);
});
