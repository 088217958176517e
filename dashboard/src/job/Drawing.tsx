import { useRouter } from "@tanstack/react-router";
import { createContext, type ReactNode, useRef } from "react";
import { useAhead } from "../parts/useAhead";
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
  const timer = useRef(0);
  return useAhead(search, (changes) => {
    const { pathname } = router.state.location;
    clearTimeout(timer.current); // the changes include earlier ones
    return new Promise((resolve) => {
      timer.current = window.setTimeout(async () => {
        const hasLeft = router.state.location.pathname !== pathname;
        if (!hasLeft)
          await router.navigate({
            to: ".",
            search: (now) => ({ ...now, ...changes }),
            replace: true,
            resetScroll: false,
          });
        resolve();
      }, ADDRESS_AFTER_MS);
    });
  });
}
