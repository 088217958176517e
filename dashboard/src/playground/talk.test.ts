import { expect, test } from "vitest";
import { framesOf } from "../api/chat";
import { type Answer, inputOf, restored, type Turn } from "./talk";

const answer = (text: string): Answer => ({ text, end: "stop" });
const turns: Turn[] = [
  { prompt: "Once", plain: true, answers: { base: answer(" upon a time") } },
  { prompt: "Hi", plain: false, answers: { base: answer("Hello."), tuned: answer("Yo.") } },
];

test("each side continues from its own answers", () => {
  expect(inputOf("tuned", turns, "And?", false, "Be brief.")).toEqual({
    messages: [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Hi" },
      { role: "assistant", content: "Yo." },
      { role: "user", content: "And?" },
    ],
  });
});

test("a text to complete is sent by itself", () => {
  expect(inputOf("base", turns, "To be", true, "Be brief.")).toEqual({ prompt: "To be" });
});

test("an answer that was interrupted by leaving the page is marked as such", () => {
  const [turn] = restored([{ prompt: "Hi", plain: false, answers: { base: { ...answer("Hel"), end: "writing" } } }]);
  expect(turn?.answers.base?.end).toBe("left");
});

test("frames are whole, wherever the network splits them", async () => {
  const parts = ['data: {"a"', ":1}\n", "\ndata: ü\n\nda", "ta: [DONE]\n\n"].map((part) =>
    new TextEncoder().encode(part),
  );
  const bytes = parts.flatMap((part) => [...part]);
  const body = new ReadableStream({
    start(controller) {
      for (const byte of bytes) controller.enqueue(new Uint8Array([byte]));
      controller.close();
    },
  });
  const read: string[] = [];
  for await (const frame of framesOf(body)) read.push(frame);
  expect(read).toEqual(['{"a":1}', "ü", "[DONE]"]);
});
