import { useEffect } from "react";

/** The tab's title: the newest page that is shown gives it. */
export function useTitle(title: string) {
  useEffect(() => {
    document.title = `${title} · Trainyard`;
  }, [title]);
}
