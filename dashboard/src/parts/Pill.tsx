import { Icon, type IconName } from "./Icon";
import css from "./Pill.module.css";

const ICONS: Record<string, IconName> = {
  queued: "queued",
  preparing: "preparing",
  running: "running",
  pausing: "paused",
  paused: "paused",
  succeeded: "succeeded",
  failed: "failed",
  cancelled: "cancelled",
};

/** A job's status as a word, an icon and a colour, each of which is enough by itself. */
export function Pill({ status }: { status: string }) {
  return (
    <span className={`${css.pill} ${css[status] ?? ""}`}>
      <Icon name={ICONS[status] ?? "info"} size={12} />
      {status}
    </span>
  );
}
