import { expect, it } from "vitest";
import { masked } from "./mask";

it("leaves only the prefix of a secret", () => {
  expect(masked("401 for ty-abcdefghijklmnop, hf_AAAABBBBCCCCDDDD")).toBe("401 for ty-••••••••, hf_••••••••");
});

it("leaves ids and words alone", () => {
  expect(masked("job-01m7zqqfh4ygw8d4d0rt69fvk1 of task-forces")).toBe("job-01m7zqqfh4ygw8d4d0rt69fvk1 of task-forces");
});
