import { useNavigate } from "@tanstack/react-router";
import { useEffect, useRef, useSyncExternalStore } from "react";
import { PAGES } from "./pages";

const CHORD_MS = 1200;

/** All shortcuts, as listed in the help. */
export const SHORTCUTS: readonly (readonly [string, string])[] = [
  ["Ctrl K", "Go to a page or a job, or run an action"],
  ["?", "This help"],
  ["n", "New job"],
  ...PAGES.map((page) => [`g ${page.key}`, page.title] as const),
  ["Esc", "Close a dialog"],
  ["← →", "On a chart: previous and next point; with Shift, a tenth of all points"],
  ["+ − 0", "On a chart: zoom in, zoom out, show all"],
];

const KEY = "shortcuts";
const listeners = new Set<() => void>();
const areOn = () => localStorage.getItem(KEY) !== "off";

/** Turns the shortcuts of single letters on or off in this browser. Speech input and tremor can trigger them by accident. */
export function setShortcuts(on: boolean) {
  if (on) localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, "off");
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Whether the shortcuts of single letters are on. */
export function useShortcutsOn(): boolean {
  return useSyncExternalStore(subscribe, areOn);
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches("input, textarea, select, [contenteditable]");
}

export function useShortcuts(open: (dialog: "help" | "palette") => void) {
  const navigate = useNavigate();
  const pressedG = useRef(0);
  useEffect(() => {
    function press(event: KeyboardEvent) {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        open("palette");
        return;
      }
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || !areOn()) return;
      if (document.querySelector("dialog[open]")) return;
      if (event.key === "?") open("help");
      if (event.key === "n") navigate({ to: "/jobs/new" });
      const page = PAGES.find(({ key }) => key === event.key);
      if (page && event.timeStamp - pressedG.current < CHORD_MS) navigate({ to: page.to });
      pressedG.current = event.key === "g" ? event.timeStamp : 0;
    }
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [navigate, open]);
}
