import { expect, it, vi } from "vitest";
import { onSessionOutdated, Refusal, refusal, refusalOf } from "./client";

const failure = (code: string, message: string) => ({ error: { code, message, type: "server_error" } });
const unavailable = failure("database_unavailable", "the database cannot answer now");

it("distinguishes an overloaded service from a proxy that does not reach it", () => {
  expect(refusal(503, unavailable)).toMatchObject({ message: "the database cannot answer now", isTemporary: true });
  for (const payload of ["<html>Bad Gateway</html>", { error: "bad gateway" }, undefined])
    for (const status of [502, 522]) expect(refusal(status, payload)).not.toBeInstanceOf(Refusal);
});

it("reports a proxy's own refusal, whose body is not JSON", async () => {
  const refused = await refusalOf(new Response("<html>Too Large</html>", { status: 413 }));
  expect(refused).toMatchObject({ status: 413, message: "The service answered 413." });
});

it("marks as temporary only what may succeed later", () => {
  expect(refusal(500, unavailable)).toMatchObject({ status: 500, isTemporary: false });
  expect(refusal(404, "<html>")).toMatchObject({ message: "The service answered 404.", isTemporary: false });
  expect(refusal(429, failure("rate_limited", "slow down"))).toMatchObject({ message: "slow down", isTemporary: true });
  expect(refusal(429, "<html>")).toMatchObject({ message: "The service answered 429.", isTemporary: true });
});

it("reads how long to wait before a retry", () => {
  const waitOf = (after: string) =>
    (refusal(429, failure("rate_limited", "slow down"), new Headers({ "Retry-After": after })) as Refusal).retryAfterS;
  expect(waitOf("60")).toBe(60);
  expect(waitOf("Fri, 31 Dec 1999 23:59:59 GMT")).toBe(5);
});

it("reports a session that has ended or was replaced", () => {
  const outdated = vi.fn();
  onSessionOutdated(outdated);
  refusal(403, failure("missing_scope", "no"));
  expect(outdated).not.toHaveBeenCalled();
  expect(refusal(403, failure("csrf_token_missing", "no")).message).toContain("signed in again");
  refusal(401, failure("session_ended", "no"));
  expect(outdated).toHaveBeenCalledTimes(2);
});
