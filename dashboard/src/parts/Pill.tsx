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

/** Where a job stands: a word, its icon and its colour, each enough by itself. */
export function Pill({ status }: { status: string }) {
  return (
    <span className={`${css.pill} ${css[status] ?? ""}`}>
      <Icon name={ICONS[status] ?? "info"} size={12} />
      {status}
    </span>
  );
}
