import { type ReactNode, useEffect, useRef } from "react";
import { Button } from "./Button";
import css from "./Dialog.module.css";
import { Icon } from "./Icon";

interface Props {
  title: string;
  onClose: () => void;
  children: ReactNode;
  /** The title is for screen readers only, and `children` have no padding. */
  bare?: boolean;
  /** A click beside the dialog does not close it, because its content cannot be shown again. */
  firm?: boolean;
}

/** A modal dialog. Esc or a click beside it closes it; the focus then returns to where it was before. */
export function Dialog({ title, onClose, children, bare, firm }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    dialog.current?.showModal();
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus({ preventScroll: true });
    };
  }, []);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the browser handles Esc
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
