import type { Preview } from "../api/preview";
import { count, percent } from "../format";
import css from "./DatasetPage.module.css";

type Statistics = Preview["statistics"][number];

/** A histogram of the rows' lengths before truncation, and how many rows are truncated or dropped. */
export function Lengths({ statistics, maxLength }: { statistics: Statistics; maxLength: number }) {
  const { edges, counts } = statistics.lengths;
  const most = Math.max(1, ...counts);
  return (
    <section aria-label="Row lengths">
      <h2>Tokens per row</h2>
      <p className="muted">
        {count(statistics.rows)} rows to train on, {count(statistics.tokens)} tokens, of which{" "}
        {percent(statistics.trained_tokens / Math.max(1, statistics.tokens))} are trained on. At max_length{" "}
        {count(maxLength)}, {count(statistics.truncated)} are truncated (
        {percent(statistics.truncated / Math.max(1, statistics.rows))}), {count(statistics.dropped)} dropped, and{" "}
        {count(statistics.no_trained_token)} have no token to train on.
        {!statistics.complete && " The file is long: these are the counts of a sample from all over it."}
      </p>
      <div className={css.bars}>
        {counts.map((rows, index) => (
          <Bar key={edges[index]} from={edges[index]!} to={edges[index + 1]!} rows={rows} most={most} />
        ))}
      </div>
    </section>
  );
}

function Bar({ from, to, rows, most }: { from: number; to: number; rows: number; most: number }) {
  return (
    <>
      <span className="muted">
        {count(from)} to {count(to)}
      </span>
      <span className={css.bar} style={{ width: `${(rows / most) * 100}%`, minWidth: rows ? 2 : 0 }} />
      <span>{count(rows)}</span>
    </>
  );
}
