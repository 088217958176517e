import { expect, test } from "vitest";
import { framesOf } from "../api/chat";
import { type Answer, found, givenTo, type Turn } from "./talk";

const said = (text: string): Answer => ({ model: "m", text, end: "stop" });
const turns: Turn[] = [
  { asked: "Once", plain: true, answers: { base: said(" upon a time") } },
  { asked: "Hi", plain: false, answers: { base: said("Hello."), tuned: said("Yo.") } },
];

test("each side goes on from what it has said itself", () => {
  expect(givenTo("tuned", turns, "And?", false, "Be brief.")).toEqual({
    messages: [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Hi" },
      { role: "assistant", content: "Yo." },
      { role: "user", content: "And?" },
    ],
  });
});

test("a text is gone on with by itself", () => {
  expect(givenTo("base", turns, "To be", true, "Be brief.")).toEqual({ prompt: "To be" });
});

test("an answer that was being written when the page went away is told as such", () => {
  const [turn] = found([{ asked: "Hi", plain: false, answers: { base: { ...said("Hel"), end: "writing" } } }]);
  expect(turn?.answers.base?.end).toBe("left");
});

test("frames are whole, wherever the network cuts them", async () => {
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
