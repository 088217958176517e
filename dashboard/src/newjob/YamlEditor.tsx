import { useEffect, useRef, useState } from "react";
import type { Fault } from "../api/client";
import { Button } from "../parts/Button";
import { Notice } from "../parts/Notice";
import css from "./NewJobPage.module.css";
import type { Part } from "./schema";
import { fromYaml, toYaml, type YamlFault } from "./yaml";

interface Props {
  draft: Part;
  change: (draft: Part) => void;
  onBroken: (broken: boolean) => void;
  faults: readonly Fault[];
}

export function YamlEditor({ draft, change, onBroken, faults }: Props) {
  const [text, setText] = useState(() => toYaml(draft));
  const [fault, setFault] = useState<YamlFault | null>(null);
  const area = useRef<HTMLTextAreaElement>(null);
  useEffect(() => () => onBroken(false), [onBroken]);

  function edit(next: string) {
    setText(next);
    const read = fromYaml(next);
    setFault("fault" in read ? read.fault : null);
    onBroken("fault" in read);
    if ("draft" in read) change(read.draft);
  }
  function goTo(line: number, column = 1) {
    const start =
      text
        .split("\n")
        .slice(0, line - 1)
        .join("\n").length +
      (line > 1 ? 1 : 0) +
      column -
      1;
    area.current?.focus();
    area.current?.setSelectionRange(start, start);
  }
  return (
    <>
      <label htmlFor="yaml" className="visually-hidden">
        The job as YAML
      </label>
      <textarea
        id="yaml"
        ref={area}
        className={css.yaml}
        value={text}
        spellCheck={false}
        aria-invalid={fault !== null || faults.length > 0}
        onChange={({ target }) => edit(target.value)}
      />
      {fault && (
        <Notice tone="warn">
          <span>
            Line {fault.line}, column {fault.column}: {fault.message}.{" "}
            <Button look="plain" onClick={() => goTo(fault.line, fault.column)}>
              Go to line
            </Button>
          </span>
        </Notice>
      )}
      {faults.map(({ path, message, hint }) => (
        <Notice key={path + message} tone="bad">
          <span>
            <b>{path}</b> {[message, hint].filter(Boolean).join("; ")}{" "}
            <Button look="plain" onClick={() => goTo(lineOf(text, path))}>
              Go to line
            </Button>
          </span>
        </Notice>
      ))}
    </>
  );
}

/** Returns the line of the last key of a path, or 1. */
function lineOf(text: string, path: string): number {
  const key = path
    .replace(/\[\d+\]$/, "")
    .split(".")
    .at(-1)!;
  const index = text.split("\n").findIndex((line) => line.trimStart().startsWith(`${key}:`));
  return index + 1 || 1;
}
