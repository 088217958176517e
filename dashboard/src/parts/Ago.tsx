import { useEffect, useState } from "react";
import { ago, moment } from "../format";

const TICK_MS = 10_000;

/** The time since something happened, kept up to date; the exact time is in the title. */
export function Ago({ at }: { at: number }) {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), TICK_MS);
    return () => clearInterval(timer);
  }, []);
  return (
    <time dateTime={new Date(at * 1000).toISOString()} title={moment(at)}>
      {ago(at, Math.max(now, Date.now()))}
    </time>
  );
}
