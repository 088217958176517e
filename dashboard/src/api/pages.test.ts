import { expect, it } from "vitest";
import { collect } from "./pages";

const numbers = (after = 0) =>
  Promise.resolve({ data: [after + 1, after + 2], has_more: after < 4, last_id: after + 2 });

it("collects all pages, or stops as soon as there is enough", async () => {
  expect(await collect(numbers)).toEqual([1, 2, 3, 4, 5, 6]);
  expect(await collect(numbers, (items) => items.includes(3))).toEqual([1, 2, 3, 4]);
});
