import { expect, it } from "vitest";
import { Refusal, refusal, refusalOf } from "./client";

const told = {
  error: { code: "database_unavailable", message: "the database cannot answer now", type: "server_error" },
};

it("tells what the service cannot do now from a proxy that does not reach it", () => {
  const putOff = refusal(503, told);
  expect(putOff).toMatchObject({ message: "the database cannot answer now", passes: true });
  for (const word of ["<html>Bad Gateway</html>", { error: "bad gateway" }, undefined])
    for (const status of [502, 522]) expect(refusal(status, word)).not.toBeInstanceOf(Refusal);
});

it("tells what a proxy refuses, whose words are no JSON", async () => {
  const refused = await refusalOf(new Response("<html>Too Large</html>", { status: 413 }));
  expect(refused).toMatchObject({ status: 413, message: "The service answered 413." });
});

it("asks in vain for what the service refuses for good", () => {
  expect(refusal(500, told)).toMatchObject({ status: 500, passes: false });
  expect(refusal(404, "<html>")).toMatchObject({ message: "The service answered 404.", passes: false });
});
