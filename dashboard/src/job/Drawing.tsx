import { useRouter } from "@tanstack/react-router";
import { createContext, type ReactNode, startTransition, useMemo, useRef, useState } from "react";
import { ChartControls } from "./ChartControls";
import type { JobSearch } from "./search";

/** Longer than a frame, so that the chart is drawn first. */
const ADDRESS_AFTER_MS = 100;

/** The settings with which the charts inside draw the data that they have. */
export const HowDrawn = createContext<JobSearch>({});

/** The smoothing of the charts inside, which the service computes. */
export const Smoothing = createContext(0);

interface Props {
  /** The settings in the address. */
  search: JobSearch;
  smoothing?: boolean;
  children: ReactNode;
}

/** The charts inside with the controls of their settings; a change renders the charts alone, not the page around them. */
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

/** Settings that apply at once and then go into the address, which takes longer to change than a chart to draw. */
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
      if (router.state.location.pathname !== pathname) return setAhead({}); // the user has left the page
      await router.navigate({ to: ".", search: (now) => ({ ...now, ...all }), replace: true, resetScroll: false });
      // After the address, which is a transition too. Later changes are still ahead of it.
      startTransition(() => setAhead((now) => (now === all ? {} : now)));
    }, ADDRESS_AFTER_MS);
  };
  return [useMemo(() => ({ ...search, ...ahead }), [search, ahead]), change];
}
