import { afterEach, expect, it, vi } from "vitest";
import { type StreamRecord, Tail } from "./tail";

afterEach(() => vi.unstubAllGlobals());

const record = (seq: number): StreamRecord => ({
  type: "metrics",
  seq,
  step: seq,
  time: seq,
  attempt: 1,
  split: "train",
  values: { loss: 1 },
});

it("keeps a bounded number of records while the tab is not drawn, and says from where on", () => {
  vi.stubGlobal("requestAnimationFrame", () => 1);
  let delivered = 0;
  const tail = new Tail("job-1", 0, (news) => {
    delivered += news.length;
  });
  for (let seq = 1; seq <= 20_000; seq++) tail.take(record(seq));
  expect(delivered).toBe(20_000);
  expect(tail.records.length).toBeLessThanOrEqual(4000);
  expect(tail.records[0]!.seq).toBe(tail.since + 1);
  expect(tail.records.at(-1)!.seq).toBe(20_000);
});

it("delivers what has arrived when it is stopped, and nothing twice", () => {
  vi.stubGlobal("requestAnimationFrame", () => 1);
  const tail = new Tail("job-1", 10, () => {});
  for (const seq of [10, 11, 11, 12]) tail.take(record(seq));
  expect(tail.records).toEqual([]);
  tail.stop();
  expect(tail.records.map(({ seq }) => seq)).toEqual([11, 12]);
});
