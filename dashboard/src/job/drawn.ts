import { useNavigate } from "@tanstack/react-router";
import { startTransition, useOptimistic } from "react";
import type { JobSearch } from "./search";

/** A frame and more, and less than anyone waits for. */
const ADDRESS_AFTER_MS = 100;

/** How a job's charts are drawn, and what changes it. */
export interface Drawn {
  how: JobSearch;
  change: (to: JobSearch) => void;
}

/** It stands in the address, which takes a browser longer to change than a chart: that is on the screen before. */
export function useDrawn(search: JobSearch): Drawn {
  const navigate = useNavigate();
  const [how, show] = useOptimistic(search, merge);
  const change = (to: JobSearch) =>
    startTransition(async () => {
      show(to);
      await new Promise((come) => setTimeout(come, ADDRESS_AFTER_MS));
      await navigate({ to: ".", search: (before) => merge(before, to), replace: true, resetScroll: false });
    });
  return { how, change };
}

const merge = (before: JobSearch, to: JobSearch): JobSearch => ({ ...before, ...to });
