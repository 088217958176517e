import type { Schemas } from "../api/client";

export type StreamRecord = Omit<Schemas["EventObject"], "object"> | Omit<Schemas["MetricObject"], "object">;
export type StreamedMetrics = Extract<StreamRecord, { split: string }>;
export type StreamedEvent = Extract<StreamRecord, { message: string }>;

const RETRY_MS = 1500;
/** The most records that are kept; beyond it the older half is dropped, and the views read it from the service. */
const MOST = 4000;

/** A job's stream since its page was opened: every record once and in order, across any number of reconnects. */
export class Tail {
  records: readonly StreamRecord[] = [];
  /** Every record after this one is in `records`; those up to it are read from the service. */
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

  /** Connects after the last record, also when the stream had ended. */
  start() {
    this.close();
    this.source = new EventSource(`/v1/jobs/${this.jobId}/stream?after=${this.lastSeq}`);
    this.source.onmessage = ({ data }) => (data === "[DONE]" ? this.end() : this.take(JSON.parse(data)));
    // The browser reconnects by itself, except after a response that was not a stream.
    this.source.onerror = () => {
      if (this.source?.readyState === EventSource.CLOSED) this.timer = setTimeout(() => this.start(), RETRY_MS);
    };
  }

  /** Disconnects and delivers what has arrived; `start` continues from there. */
  stop() {
    this.close();
    if (this.waiting.length) this.deliver();
  }

  /** Accepts a record that is not known yet. Records are delivered once a frame, or earlier when many are waiting. */
  take(record: StreamRecord) {
    if (record.seq <= this.lastSeq) return;
    this.lastSeq = record.seq;
    this.waiting.push(record);
    if (this.waiting.length >= MOST / 2)
      this.deliver(); // a tab that is not drawn has no frames
    else if (!this.frame) this.frame = requestAnimationFrame(() => this.deliver());
  }

  private close() {
    this.source?.close();
    this.source = undefined;
    clearTimeout(this.timer);
  }

  private deliver() {
    cancelAnimationFrame(this.frame);
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
    this.onNews([], true);
  }

  subscribe = (listener: () => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };
}
