import { CORE_SCHEMA, dump, load, YAMLException } from "js-yaml";
import { isPart, type Part } from "./schema";

/** A syntax error and its place, counted from 1. */
export interface YamlFault {
  line: number;
  column: number;
  message: string;
}

export function toYaml(draft: Part): string {
  return dump(draft, { lineWidth: 120, schema: CORE_SCHEMA });
}

/** Parses a spec. Nothing is lost on the way to the form and back: the form keeps the values that it does not show. */
export function fromYaml(text: string): { draft: Part } | { fault: YamlFault } {
  try {
    const draft = load(text, { schema: CORE_SCHEMA }) ?? {};
    if (!isPart(draft)) return { fault: { line: 1, column: 1, message: "a job spec is a list of `key: value` lines" } };
    return { draft };
  } catch (error) {
    if (!(error instanceof YAMLException)) throw error;
    const { line = 0, column = 0 } = error.mark ?? {};
    return { fault: { line: line + 1, column: column + 1, message: error.reason } };
  }
}

/** Parses a value as typed into a field: 5, auto, [1, 2], {a: b}. Anything that is not YAML is text. */
export function readValue(typed: string): unknown {
  try {
    return load(typed, { schema: CORE_SCHEMA });
  } catch (error) {
    if (error instanceof YAMLException) return typed;
    throw error;
  }
}

export function writeValue(value: unknown): string {
  if (value === undefined) return "";
  if (typeof value === "string") return readValue(value) === value ? value : JSON.stringify(value);
  return typeof value === "object"
    ? dump(value, { flowLevel: 0, lineWidth: -1, schema: CORE_SCHEMA }).trim()
    : String(value);
}
