import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useEffect, useRef } from "react";
import { earlierEventsQuery, firstErrorQuery, type JobEvent } from "../api/events";
import { clock, moment } from "../format";
import { Button, inputClass } from "../parts/Button";
import { Empty, Failure } from "../parts/Notice";
import css from "./EventsTab.module.css";
import { useRecords, useSince } from "./live";
import { masked } from "./mask";
import type { StreamedEvent, StreamRecord } from "./tail";
import { useJob } from "./useJob";

const route = getRouteApi("/jobs/$jobId/events");
const LEVELS = ["info", "warn", "error"] as const;
type Line = JobEvent | StreamedEvent;

export function EventsTab() {
  const job = useJob();
  const { level, line, follow } = route.useSearch();
  const records = useRecords();
  const earlier = useInfiniteQuery(earlierEventsQuery(job.id, level, useSince()));
  const stored = earlier.data?.pages.flatMap(({ data }) => data).reverse() ?? [];
  const lines = withNews(stored, records, level);
  const end = useRef<HTMLDivElement>(null);
  const newest = lines.at(-1)?.seq;
  useEffect(() => {
    if (follow && newest) end.current?.scrollIntoView({ block: "end" });
  }, [follow, newest]);
  const oldest = stored[0]?.seq ?? 0;
  const { hasNextPage, fetchNextPage } = earlier;
  // A linked line may be older than the pages that are loaded.
  useEffect(() => {
    if (line !== undefined && oldest > line && hasNextPage) fetchNextPage();
  }, [line, oldest, hasNextPage, fetchNextPage]);
  return (
    <>
      <Controls />
      {earlier.error && <Failure error={earlier.error} />}
      {hasNextPage && <Button onClick={() => fetchNextPage()}>Show earlier events</Button>}
      {earlier.data && lines.length === 0 ? (
        <Empty title={level ? `No events of level ${level}` : "No events yet"} />
      ) : (
        <div className={css.log}>
          {lines.map((event) => (
            <EventLine key={event.seq} event={event} chosen={event.seq === line} />
          ))}
        </div>
      )}
      <div ref={end} />
    </>
  );
}

function Controls() {
  const job = useJob();
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const first = useQuery(firstErrorQuery(job)).data;
  return (
    <div className={css.bar}>
      <label>
        Level
        <select
          className={inputClass}
          value={search.level ?? ""}
          onChange={({ target }) =>
            navigate({ search: { ...search, level: LEVELS.find((level) => level === target.value) }, replace: true })
          }
        >
          <option value="">all</option>
          {LEVELS.map((level) => (
            <option key={level}>{level}</option>
          ))}
        </select>
      </label>
      <label>
        <input
          type="checkbox"
          checked={search.follow ?? false}
          onChange={({ target }) =>
            navigate({ search: { ...search, follow: target.checked || undefined }, replace: true })
          }
        />
        Follow
      </label>
      {first && (
        <Link to="." search={{ line: first.seq }}>
          First error
        </Link>
      )}
    </div>
  );
}

function withNews(stored: readonly JobEvent[], records: readonly StreamRecord[], level: string | undefined): Line[] {
  const last = stored.at(-1)?.seq ?? 0;
  const news = records.filter(
    (record): record is StreamedEvent =>
      record.type !== "metrics" && record.seq > last && (!level || (record as StreamedEvent).level === level),
  );
  return [...stored, ...news];
}

function EventLine({ event, chosen }: { event: Line; chosen: boolean }) {
  const row = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (chosen) row.current?.scrollIntoView({ block: "center" });
  }, [chosen]);
  return (
    <div ref={row} className={css.line} data-chosen={chosen}>
      <Link
        to="."
        search={(before) => ({ ...before, line: event.seq })}
        title="Link to this line"
        replace
        resetScroll={false}
      >
        {event.seq}
      </Link>
      <time dateTime={new Date(event.time * 1000).toISOString()} title={moment(event.time)}>
        {clock(event.time)}
      </time>
      <span className={css[event.level]}>{event.level}</span>
      <span className={css[event.level]}>{masked(event.message)}</span>
    </div>
  );
}
