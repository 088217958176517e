import { expect, test } from "vitest";
import { questionOf } from "./question";

test("a conversation ends with the expected answer", () => {
  const row = {
    messages: [
      { role: "user", content: "2+2?" },
      { role: "assistant", content: "4" },
    ],
  };
  expect(questionOf(row)).toEqual({ parts: [{ role: "user", text: "2+2?" }], expected: "4" });
});

test("a choice has its letter, however the row names it", () => {
  const row = { question: "Which?", choices: ["red", "blue"] };
  expect(questionOf({ ...row, answer: 1 }).expected).toBe("B. blue");
  expect(questionOf({ ...row, answer: "A" }).expected).toBe("A. red");
});

test("instructions, prompts and texts are understood too", () => {
  expect(questionOf({ instruction: "Add.", input: "1 1", output: "2" })).toEqual({
    parts: [{ text: "Add." }, { text: "1 1" }],
    expected: "2",
  });
  expect(questionOf({ prompt: "Hi", completion: "Yo" })).toEqual({ parts: [{ text: "Hi" }], expected: "Yo" });
  expect(questionOf({ text: "Once" })).toEqual({ parts: [{ text: "Once" }] });
});
