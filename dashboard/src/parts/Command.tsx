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

export function Copy({ text, label, word }: { text: string; label: string; word?: string }) {
  const [copied, setCopied] = useState(false);
  async function copy() {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), SHOWN_MS);
  }
  return (
    <Button
      look={word ? "plain" : "icon"}
      onClick={copy}
      aria-label={word ? undefined : copied ? "Copied" : label}
      title={label}
    >
      <Icon name={copied ? "succeeded" : "copy"} />
      {word && (copied ? "Copied" : word)}
    </Button>
  );
}
