import type { Schemas } from "../api/client";

type Told = Omit<Schemas["EventObject"], "object"> | Omit<Schemas["MetricObject"], "object">;
export type StreamRecord = Told;
export type StreamedMetrics = Extract<Told, { split: string }>;
export type StreamedEvent = Extract<Told, { message: string }>;

const RETRY_MS = 1500;
/** So many records are kept; then the oldest half goes, and whoever draws asks the service anew. */
const MOST = 4000;

/** What a job has told since its page was opened: each record once, in order, however often the stream broke. */
export class Tail {
  records: readonly StreamRecord[] = [];
  /** Every record after this one is kept; those up to it the service has to be asked for. */
  since: number;
  private source: EventSource | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private listeners = new Set<() => void>();
  private waiting: StreamRecord[] = [];
  private frame = 0;

  constructor(
    private readonly jobId: string,
    public lastSeq: number,
    private readonly onNews: (news: readonly StreamRecord[], ended: boolean) => void,
  ) {
    this.since = lastSeq;
  }

  /** Goes on after the last record, also when the stream had ended. */
  start() {
    this.source?.close();
    clearTimeout(this.timer);
    this.source = new EventSource(`/v1/jobs/${this.jobId}/stream?after=${this.lastSeq}`);
    this.source.onmessage = ({ data }) => (data === "[DONE]" ? this.end() : this.take(JSON.parse(data)));
    // The browser tries again by itself, except after an answer that was no stream.
    this.source.onerror = () => {
      if (this.source?.readyState === EventSource.CLOSED) this.timer = setTimeout(() => this.start(), RETRY_MS);
    };
  }

  stop() {
    this.source?.close();
    clearTimeout(this.timer);
    cancelAnimationFrame(this.frame);
    this.frame = 0;
  }

  /** Takes a record unless it has been told before, and draws at most once a frame. */
  take(record: StreamRecord) {
    if (record.seq <= this.lastSeq) return;
    this.lastSeq = record.seq;
    this.waiting.push(record);
    if (!this.frame) this.frame = requestAnimationFrame(() => this.hand());
  }

  private hand() {
    this.frame = 0;
    const news = this.waiting;
    this.waiting = [];
    this.records = [...this.records, ...news];
    if (this.records.length > MOST) {
      this.records = this.records.slice(-MOST / 2);
      this.since = this.records[0]!.seq - 1;
    }
    this.onNews(news, false);
    for (const listener of this.listeners) listener();
  }

  private end() {
    this.stop();
    if (this.waiting.length) this.hand();
    this.onNews([], true);
  }

  subscribe = (listener: () => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };
}
