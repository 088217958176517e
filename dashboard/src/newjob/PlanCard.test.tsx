import { cleanup, render, screen } from "@testing-library/react";
import { afterEach, expect, test } from "vitest";
import type { Schemas } from "../api/client";
import { PlanCard } from "./PlanCard";

afterEach(cleanup);

const plan = {
  steps: 10,
  tokens: 5120,
  trained_tokens: 5120,
  packing_efficiency: 1,
  eta: null,
  memory: null,
  fits: false,
  mend: {
    edits: [
      { path: "hyperparameters.per_device_train_batch_size", value: 1 },
      { path: "hyperparameters.gradient_checkpointing", value: true },
    ],
    total_bytes: 7_500_000_000,
  },
} as Schemas["PlanObject"];

test("a plan that does not fit lists the changes with which it would", () => {
  render(<PlanCard plan={plan} />);
  expect(screen.getAllByRole("listitem").map(({ textContent }) => textContent)).toEqual([
    "hyperparameters.per_device_train_batch_size: 1",
    "hyperparameters.gradient_checkpointing: true",
  ]);
  expect(screen.getByText(/it needs 7.50 GB/)).toBeTruthy();
});
