/** A row of an evaluation for people to read. */
export interface Question {
  parts: readonly { role?: string; text: string }[];
  choices?: readonly string[];
  expected?: string;
}

const text = (value: unknown) => (typeof value === "string" ? value : value === undefined ? "" : JSON.stringify(value));

/** Returns the question and the expected answer of a row of any format. */
export function questionOf(row: Record<string, unknown>): Question {
  if (Array.isArray(row.messages)) {
    const turns = (row.messages as { role?: string; content?: unknown }[]).map(({ role, content }) => ({
      role,
      text: text(content),
    }));
    const last = turns.at(-1);
    return last?.role === "assistant" ? { parts: turns.slice(0, -1), expected: last.text } : { parts: turns };
  }
  if (Array.isArray(row.choices)) {
    const choices = row.choices.map(text);
    const right = typeof row.answer === "number" ? row.answer : LETTERS.indexOf(text(row.answer));
    const expected = choices[right] === undefined ? text(row.answer) : `${LETTERS[right]}. ${choices[right]}`;
    return { parts: [{ text: text(row.question) }], choices, expected };
  }
  if (row.instruction !== undefined) {
    const parts = [row.instruction, row.input].map(text).filter(Boolean);
    return { parts: parts.map((part) => ({ text: part })), expected: text(row.output) };
  }
  if (row.prompt !== undefined) return { parts: [{ text: text(row.prompt) }], expected: text(row.completion) };
  return { parts: [{ text: text(row.text ?? row) }] };
}

export const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
