import { csrfHeaders, refusal, refusalOf, type Schemas } from "./client";

export type Weights = Schemas["Weights"];
export type Message = { role: "system" | "user" | "assistant"; content: string };

export interface Sampling {
  temperature: number;
  top_p: number;
  max_tokens: number;
  seed?: number;
}

/** The input of a model: a conversation to answer or a text to continue. */
export type Given = { messages: readonly Message[] } | { prompt: string };

interface Piece {
  choices: { delta?: { content?: string | null }; text?: string; finish_reason: "stop" | "length" | null }[];
  usage?: { completion_tokens: number } | null;
  weights: Weights;
}

/** One streamed piece of an answer. */
export interface Delta {
  text: string;
  weights: Weights;
  ended?: "stop" | "length";
  tokens?: number;
}

/** Streams the answer of a model. Throws a Refusal, also for an error in the middle of the stream. */
export async function* ask(
  model: string,
  given: Given,
  sampling: Sampling,
  signal: AbortSignal,
): AsyncGenerator<Delta, void> {
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

/** Yields the data of server-sent events one by one, however the network splits them. */
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
    reader.cancel().catch(() => {}); // an aborted stream rejects once more here
  }
}
