import { type FormEvent, type KeyboardEvent, useEffect, useState } from "react";
import { Button, inputClass } from "../parts/Button";
import { Icon } from "../parts/Icon";
import css from "./PlaygroundPage.module.css";

interface Props {
  draft: string;
  plain: boolean;
  /** There is a model to ask. */
  ready: boolean;
  stop: (() => void) | null;
  keep: (draft: string) => void;
  send: (prompt: string) => void;
}

const IDLE_MS = 300;

/** The prompt field. What is typed goes into the address after a pause. */
export function Composer({ draft, plain, ready, stop, keep, send }: Props) {
  const [typed, setTyped] = useState(draft);
  // biome-ignore lint/correctness/useExhaustiveDependencies: only typing restarts the timer
  useEffect(() => {
    if (typed === draft) return;
    const timer = setTimeout(() => keep(typed), IDLE_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  const sendable = ready && !stop && typed.trim() !== "";

  function submit(event?: FormEvent) {
    event?.preventDefault();
    if (!sendable) return;
    send(typed);
    if (!plain) setTyped("");
  }
  function press(event: KeyboardEvent) {
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    submit();
  }
  return (
    <form className={css.composer} onSubmit={submit}>
      <textarea
        className={inputClass}
        rows={3}
        aria-label="Prompt"
        placeholder={plain ? "A text for the models to complete …" : "Ask the models …"}
        value={typed}
        onChange={({ target }) => setTyped(target.value)}
        onKeyDown={press}
      />
      <div className={css.send}>
        <span className="muted">
          <kbd>Enter</kbd> sends, <kbd>Shift Enter</kbd> adds a line
        </span>
        {stop ? (
          // A key of its own: a button that turned into Send while it is pressed would submit.
          <Button key="stop" onClick={stop}>
            <Icon name="stop" /> Stop
          </Button>
        ) : (
          <Button key="send" look="primary" type="submit" disabled={!sendable}>
            Send
          </Button>
        )}
      </div>
    </form>
  );
}
