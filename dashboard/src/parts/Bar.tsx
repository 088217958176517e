import css from "./Bar.module.css";

/** How far something has come; `share` is from 0 to 1, and the words beside it say the same. */
export function Bar({ share }: { share: number }) {
  return (
    <div className={css.bar} aria-hidden="true">
      <div style={{ width: `${Math.min(1, Math.max(0, share)) * 100}%` }} />
    </div>
  );
}
