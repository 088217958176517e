import { expect, test } from "vitest";
import { askedOf } from "./asked";

test("a conversation ends with what was expected", () => {
  const row = {
    messages: [
      { role: "user", content: "2+2?" },
      { role: "assistant", content: "4" },
    ],
  };
  expect(askedOf(row)).toEqual({ parts: [{ role: "user", text: "2+2?" }], expected: "4" });
});

test("a choice is told with its letter, however the row names it", () => {
  const row = { question: "Which?", choices: ["red", "blue"] };
  expect(askedOf({ ...row, answer: 1 }).expected).toBe("B. blue");
  expect(askedOf({ ...row, answer: "A" }).expected).toBe("A. red");
});

test("instructions, prompts and texts are read too", () => {
  expect(askedOf({ instruction: "Add.", input: "1 1", output: "2" })).toEqual({
    parts: [{ text: "Add." }, { text: "1 1" }],
    expected: "2",
  });
  expect(askedOf({ prompt: "Hi", completion: "Yo" })).toEqual({ parts: [{ text: "Hi" }], expected: "Yo" });
  expect(askedOf({ text: "Once" })).toEqual({ parts: [{ text: "Once" }] });
});
