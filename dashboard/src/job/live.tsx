import { type QueryClient, useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useContext, useEffect, useMemo, useState, useSyncExternalStore } from "react";
import { type Curve, type CurveWanted, curveQuery, ENDED, type Job, jobQuery } from "../api/jobs";
import { extend } from "./extend";
import { type StreamRecord, Tail } from "./tail";

const Live = createContext<Tail | null>(null);

/** Follows a job for everything inside: its stream goes on where this first look at it ended, and again after a retry. */
export function Following({ job, children }: { job: Job; children: ReactNode }) {
  const queries = useQueryClient();
  const [tail] = useState(() => new Tail(job.id, job.last_seq, (news, ended) => onNews(queries, job.id, news, ended)));
  const hasMore = !ENDED.has(job.status) || job.last_seq > tail.lastSeq;
  useEffect(() => {
    if (hasMore) tail.start();
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
  if (!tail) throw new Error("only what stands inside of <Following> knows what the job tells");
  return tail;
}

/** What the stream has told so far. */
export function useRecords(): readonly StreamRecord[] {
  const tail = useTail();
  return useSyncExternalStore(tail.subscribe, () => tail.records);
}

/** The last record that `useRecords` no longer has, or never had: up to it the service has to be asked. */
export function useSince(): number {
  const tail = useTail();
  return useSyncExternalStore(tail.subscribe, () => tail.since);
}

/** A curve of a job, as long as the job has become by now. */
export function useCurve(jobId: string, wanted: CurveWanted): Curve | undefined {
  const since = useSince();
  const records = useRecords();
  const { data } = useQuery({ ...curveQuery(jobId, wanted, since), enabled: Boolean(wanted.metric) });
  return useMemo(() => data && extend(data, records, wanted.smoothing ?? 0), [data, records, wanted.smoothing]);
}
