/** A row of an evaluation as a person reads it. */
export interface Asked {
  parts: readonly { role?: string; text: string }[];
  choices?: readonly string[];
  expected?: string;
}

const text = (value: unknown) => (typeof value === "string" ? value : value === undefined ? "" : JSON.stringify(value));

/** What was asked, and what was expected, whatever the format of the row. */
export function askedOf(row: Record<string, unknown>): Asked {
  if (Array.isArray(row.messages)) {
    const said = (row.messages as { role?: string; content?: unknown }[]).map(({ role, content }) => ({
      role,
      text: text(content),
    }));
    const last = said.at(-1);
    return last?.role === "assistant" ? { parts: said.slice(0, -1), expected: last.text } : { parts: said };
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
