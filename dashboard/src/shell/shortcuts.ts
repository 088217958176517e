import { useNavigate } from "@tanstack/react-router";
import { useEffect, useRef } from "react";
import { PAGES } from "./pages";

const CHORD_MS = 1200;

/** Every shortcut, as the help lists them. */
export const SHORTCUTS: readonly (readonly [string, string])[] = [
  ["Ctrl K", "Go to a page or a job, or do something"],
  ["?", "This help"],
  ["n", "New job"],
  ...PAGES.map((page) => [`g ${page.key}`, page.title] as const),
  ["Esc", "Close what is open"],
  ["← →", "On a chart: to the point before, to the next; with Shift by a tenth of all"],
  ["+ − 0", "On a chart: show a part of it larger, show more, show all"],
];

function typing(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches("input, textarea, select, [contenteditable]");
}

export function useShortcuts(open: (dialog: "help" | "palette") => void) {
  const navigate = useNavigate();
  const gone = useRef(0);
  useEffect(() => {
    function press(event: KeyboardEvent) {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        open("palette");
        return;
      }
      if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
      if (document.querySelector("dialog[open]")) return;
      if (event.key === "?") open("help");
      if (event.key === "n") navigate({ to: "/jobs/new" });
      const page = PAGES.find(({ key }) => key === event.key);
      if (page && event.timeStamp - gone.current < CHORD_MS) navigate({ to: page.to });
      gone.current = event.key === "g" ? event.timeStamp : 0;
    }
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [navigate, open]);
}
