import { type FormEvent, type KeyboardEvent, useEffect, useState } from "react";
import { Button, inputClass } from "../parts/Button";
import { Icon } from "../parts/Icon";
import css from "./PlaygroundPage.module.css";

interface Props {
  draft: string;
  plain: boolean;
  /** There is somebody to ask. */
  ready: boolean;
  stop: (() => void) | null;
  keep: (draft: string) => void;
  put: (asked: string) => void;
}

const IDLE_MS = 300;

/** Where the question is written. What is typed goes into the address once the hands rest. */
export function Composer({ draft, plain, ready, stop, keep, put }: Props) {
  const [typed, setTyped] = useState(draft);
  // biome-ignore lint/correctness/useExhaustiveDependencies: only typing is waited for
  useEffect(() => {
    if (typed === draft) return;
    const timer = setTimeout(() => keep(typed), IDLE_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  const sendable = ready && !stop && typed.trim() !== "";

  function send(event?: FormEvent) {
    event?.preventDefault();
    if (!sendable) return;
    put(typed);
    if (!plain) setTyped("");
  }
  function press(event: KeyboardEvent) {
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    send();
  }
  return (
    <form className={css.composer} onSubmit={send}>
      <textarea
        className={inputClass}
        rows={3}
        aria-label="Prompt"
        placeholder={plain ? "A text that the models go on with …" : "Ask both the same …"}
        value={typed}
        onChange={({ target }) => setTyped(target.value)}
        onKeyDown={press}
      />
      <div className={css.send}>
        <span className="muted">
          <kbd>Enter</kbd> sends, <kbd>Shift Enter</kbd> begins a line
        </span>
        {stop ? (
          // Of its own: an element that became the other while it is pressed would send.
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
