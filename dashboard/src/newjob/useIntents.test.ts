import { renderHook } from "@testing-library/react";
import { expect, it } from "vitest";
import { refusal } from "../api/client";
import { useIntents } from "./useIntents";

const draft = { kind: "sft" };
const failure = { error: { code: "invalid", message: "no", type: "server_error" } };

it("keeps the key of a draft until the service has accepted or refused it", () => {
  const { result } = renderHook(() => useIntents(draft));
  const first = result.current.of(draft);
  for (const lost of [
    new TypeError("no network"),
    refusal(500, failure),
    refusal(503, failure),
    refusal(502, "<html>"),
  ]) {
    result.current.refused(lost);
    expect(result.current.of({ plan_id: "plan-1" })).toBe(first);
  }
  result.current.refused(refusal(422, failure));
  expect(result.current.of(draft)[1]).not.toBe(first[1]);
});
