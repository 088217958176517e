import { type QueryClient, useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useContext, useEffect, useMemo, useState, useSyncExternalStore } from "react";
import { type Curve, type CurveWanted, curveQuery, ENDED, type Job, jobQuery } from "../api/jobs";
import { extend } from "./extend";
import { type StreamRecord, Tail } from "./tail";

const NOTHING: readonly StreamRecord[] = [];
const Live = createContext<Tail | null>(null);

/** Follows a job for everything inside: its stream goes on where this first look at it ended. */
export function Following({ job, children }: { job: Job; children: ReactNode }) {
  const queries = useQueryClient();
  const [tail] = useState(() =>
    ENDED.has(job.status)
      ? null
      : new Tail(job.id, job.last_seq, (news, ended) => onNews(queries, job.id, news, ended)),
  );
  useEffect(() => {
    tail?.start();
    return () => tail?.stop();
  }, [tail]);
  return <Live value={tail}>{children}</Live>;
}

function onNews(queries: QueryClient, jobId: string, news: readonly StreamRecord[], ended: boolean) {
  if (ended || news.some(({ type }) => type !== "metrics")) {
    queries.invalidateQueries({ queryKey: jobQuery(jobId).queryKey });
    queries.invalidateQueries({ queryKey: ["checkpoints", jobId] });
  }
}

/** What the stream has told so far. */
export function useRecords(): readonly StreamRecord[] {
  const tail = useContext(Live);
  return useSyncExternalStore(tail?.subscribe ?? never, () => tail?.records ?? NOTHING);
}

const never = () => () => {};

/** A curve of a job, as long as the job has become by now. */
export function useCurve(jobId: string, wanted: CurveWanted): Curve | undefined {
  const tail = useContext(Live);
  const records = useRecords();
  const { data } = useQuery({ ...curveQuery(jobId, wanted, tail?.epoch ?? "whole"), enabled: Boolean(wanted.metric) });
  return useMemo(() => data && extend(data, records, wanted.smoothing ?? 0), [data, records, wanted.smoothing]);
}
