import { useRouter } from "@tanstack/react-router";
import { createContext, type ReactNode, startTransition, useMemo, useRef, useState } from "react";
import { ChartControls } from "./ChartControls";
import type { JobSearch } from "./search";

/** A frame and more, and less than anyone waits for. */
const ADDRESS_AFTER_MS = 100;

/** How the charts inside are drawn, out of what they have. */
export const HowDrawn = createContext<JobSearch>({});

/** How much they are smoothed, for which they have to ask. */
export const Smoothing = createContext(0);

interface Props {
  /** What of it stands in the address. */
  search: JobSearch;
  smoothing?: boolean;
  children: ReactNode;
}

/** How the charts inside are drawn and what changes it; a change is made of them alone, not of the page around. */
export function Drawing({ search, smoothing, children }: Props) {
  const [how, change] = useHow(search);
  return (
    <HowDrawn value={how}>
      <Smoothing value={(smoothing && how.smooth) || 0}>
        <ChartControls how={how} change={change} smoothing={smoothing} />
        {children}
      </Smoothing>
    </HowDrawn>
  );
}

/** It stands in the address, which takes a browser longer to change than a chart: that is on the screen before. */
function useHow(search: JobSearch): [JobSearch, (to: JobSearch) => void] {
  const router = useRouter();
  const [ahead, setAhead] = useState<JobSearch>({});
  const timer = useRef(0);
  const change = (to: JobSearch) => {
    const { pathname } = router.state.location;
    const all = { ...ahead, ...to };
    setAhead(all);
    clearTimeout(timer.current);
    timer.current = window.setTimeout(async () => {
      if (router.state.location.pathname !== pathname) return setAhead({}); // another page by now
      await router.navigate({ to: ".", search: (now) => ({ ...now, ...all }), replace: true, resetScroll: false });
      // After the address, which is a transition too; what was changed meanwhile is still ahead of it.
      startTransition(() => setAhead((now) => (now === all ? {} : now)));
    }, ADDRESS_AFTER_MS);
  };
  return [useMemo(() => ({ ...search, ...ahead }), [search, ahead]), change];
}
