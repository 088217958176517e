import { useState } from "react";
import { Button } from "./Button";
import css from "./Command.module.css";
import { Icon } from "./Icon";

/** A command for a terminal, with a button that copies it. */
export function Command({ text }: { text: string }) {
  return (
    <div className={css.command}>
      <code>{text}</code>
      <Copy text={text} label="Copy the command" />
    </div>
  );
}

const SHOWN_MS = 1600;

interface CopyProps {
  text: string;
  label: string;
  word?: string;
  autoFocus?: boolean;
}

export function Copy({ text, label, word, autoFocus }: CopyProps) {
  const [outcome, setOutcome] = useState<"Copied" | "Not copied" | null>(null);
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      setOutcome("Copied");
    } catch {
      setOutcome("Not copied"); // the browser denies it, or the page was not loaded over HTTPS
    }
    setTimeout(() => setOutcome(null), SHOWN_MS);
  }
  return (
    <Button
      look={word ? "plain" : "icon"}
      onClick={copy}
      autoFocus={autoFocus}
      aria-label={word ? undefined : (outcome ?? label)}
      title={outcome ?? label}
    >
      <Icon name={outcome === null ? "copy" : outcome === "Copied" ? "succeeded" : "failed"} />
      {word && (outcome ?? word)}
    </Button>
  );
}
