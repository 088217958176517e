import { type QueryClient, useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useContext, useEffect, useMemo, useState, useSyncExternalStore } from "react";
import { type Curve, type CurveWanted, curveQuery, ENDED, type Job, jobQuery } from "../api/jobs";
import { extend } from "./extend";
import { type StreamRecord, Tail } from "./tail";

const Live = createContext<Tail | null>(null);

/**
 * Streams a job to the views inside, from the job's state at the first render on, and again after a retry. A hidden tab
 * holds no connection: a browser opens six to a host, over all its tabs.
 */
export function Following({ job, children }: { job: Job; children: ReactNode }) {
  const queries = useQueryClient();
  const [tail] = useState(() => new Tail(job.id, job.last_seq, (news, ended) => onNews(queries, job.id, news, ended)));
  const hasMore = !ENDED.has(job.status) || job.last_seq > tail.lastSeq;
  useEffect(() => {
    const follow = () => {
      if (document.visibilityState === "hidden") tail.stop();
      else if (hasMore) tail.start();
    };
    follow();
    document.addEventListener("visibilitychange", follow);
    return () => document.removeEventListener("visibilitychange", follow);
  }, [tail, hasMore]);
  useEffect(() => () => tail.stop(), [tail]);
  return <Live value={tail}>{children}</Live>;
}

function onNews(queries: QueryClient, jobId: string, news: readonly StreamRecord[], ended: boolean) {
  if (ended || news.some(({ type }) => type !== "metrics")) {
    queries.invalidateQueries({ queryKey: jobQuery(jobId).queryKey });
    queries.invalidateQueries({ queryKey: ["checkpoints", jobId] });
  }
}

function useTail(): Tail {
  const tail = useContext(Live);
  if (!tail) throw new Error("a job's stream is available only inside of <Following>");
  return tail;
}

/** The records that the stream has delivered. */
export function useRecords(): readonly StreamRecord[] {
  const tail = useTail();
  return useSyncExternalStore(tail.subscribe, () => tail.records);
}

/** The number of the last record before those of `useRecords`: up to it records are read from the service. */
export function useSince(): number {
  const tail = useTail();
  return useSyncExternalStore(tail.subscribe, () => tail.since);
}

/** A curve of a job up to the newest streamed point, and the error of a failed read while there is none. */
export function useCurve(jobId: string, wanted: CurveWanted): { curve?: Curve; error: Error | null } {
  const since = useSince();
  const records = useRecords();
  const { data, error } = useQuery({ ...curveQuery(jobId, wanted, since), enabled: Boolean(wanted.metric) });
  const curve = useMemo(() => data && extend(data, records, wanted.smoothing ?? 0), [data, records, wanted.smoothing]);
  return { curve, error: curve ? null : error };
}
