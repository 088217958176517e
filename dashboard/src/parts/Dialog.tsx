import { type ReactNode, useEffect, useRef } from "react";
import { Button } from "./Button";
import css from "./Dialog.module.css";
import { Icon } from "./Icon";

interface Props {
  title: string;
  onClose: () => void;
  children: ReactNode;
  /** The title is only for readers; `children` begin at the edge. */
  bare?: boolean;
  /** A press beside it does not close it: what it shows is not to be had again. */
  firm?: boolean;
}

/** The browser's own dialog: it keeps the focus, and Esc or a press beside it closes it. */
export function Dialog({ title, onClose, children, bare, firm }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Esc is the keyboard's way, and the browser's own
    <dialog
      ref={dialog}
      className={css.dialog}
      aria-label={title}
      onClose={onClose}
      onClick={(event) => !firm && event.target === dialog.current && dialog.current.close()}
    >
      {bare ? (
        children
      ) : (
        <>
          <div className={css.head}>
            <h2>{title}</h2>
            <Button look="icon" aria-label="Close" onClick={() => dialog.current?.close()}>
              <Icon name="failed" />
            </Button>
          </div>
          <div className={css.body}>{children}</div>
        </>
      )}
    </dialog>
  );
}
