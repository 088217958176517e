import { csrfHeaders, refusal, refusalOf, type Schemas } from "./client";

export type Weights = Schemas["Weights"];
export type Message = { role: "system" | "user" | "assistant"; content: string };

export interface Sampling {
  temperature: number;
  top_p: number;
  max_tokens: number;
  seed?: number;
}

/** What a model is given: a conversation to answer, or a text to go on with. */
export type Given = { messages: readonly Message[] } | { prompt: string };

interface Piece {
  choices: { delta?: { content?: string | null }; text?: string; finish_reason: "stop" | "length" | null }[];
  usage?: { completion_tokens: number } | null;
  weights: Weights;
}

/** A piece of an answer as it is written; what it does not tell is undefined. */
export interface Told {
  text: string;
  weights: Weights;
  ended?: "stop" | "length";
  tokens?: number;
}

/** The answer of a model, piece by piece. Throws a Refusal, also when it breaks off in the middle. */
export async function* ask(
  model: string,
  given: Given,
  sampling: Sampling,
  signal: AbortSignal,
): AsyncGenerator<Told, void> {
  const response = await fetch("messages" in given ? "/v1/chat/completions" : "/v1/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json", ...csrfHeaders() },
    body: JSON.stringify({ model, ...given, ...sampling, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  if (!response.ok) throw await refusalOf(response);
  for await (const data of framesOf(response.body!)) {
    if (data === "[DONE]") return;
    const piece = JSON.parse(data) as Piece;
    if ("error" in piece) throw refusal(response.status, piece);
    const choice = piece.choices[0];
    yield {
      text: choice?.delta?.content ?? choice?.text ?? "",
      weights: piece.weights,
      ended: choice?.finish_reason ?? undefined,
      tokens: piece.usage?.completion_tokens,
    };
  }
}

/** What server-sent events carry, one at a time, however the network cuts them. */
export async function* framesOf(body: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string, void> {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const frames = (rest + part.value).split("\n\n");
      rest = frames.pop()!;
      for (const frame of frames) if (frame.startsWith("data: ")) yield frame.slice(6);
    }
  } finally {
    reader.cancel().catch(() => {}); // of an answer that was stopped, it says again that it was
  }
}
