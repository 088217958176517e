import css from "./Bar.module.css";

/** A progress bar. `share` is from 0 to 1; the text beside the bar says the same. */
export function Bar({ share }: { share: number }) {
  return (
    <div className={css.bar} aria-hidden="true">
      <div style={{ width: `${Math.min(1, Math.max(0, share)) * 100}%` }} />
    </div>
  );
}
