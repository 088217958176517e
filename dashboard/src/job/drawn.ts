import { useRouter } from "@tanstack/react-router";
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
  const router = useRouter();
  const [how, show] = useOptimistic(search, merge);
  const change = (to: JobSearch) =>
    startTransition(async () => {
      const { pathname } = router.state.location;
      show(to);
      await new Promise((come) => setTimeout(come, ADDRESS_AFTER_MS));
      if (router.state.location.pathname !== pathname) return; // another page by now
      await router.navigate({ to: ".", search: (before) => merge(before, to), replace: true, resetScroll: false });
    });
  return { how, change };
}

const merge = (before: JobSearch, to: JobSearch): JobSearch => ({ ...before, ...to });
