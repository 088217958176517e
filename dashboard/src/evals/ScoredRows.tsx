import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { type Only, scoredRowsQuery } from "../api/evals";
import { Failure } from "../parts/Notice";
import tabs from "../parts/Tabs.module.css";
import css from "./Evals.module.css";
import { ScoredRow } from "./ScoredRow";

const route = getRouteApi("/evals/$jobId");

const ALL: readonly (readonly [Only | undefined, string])[] = [
  [undefined, "All rows"],
  ["wrong", "Wrong"],
];
const COMPARED: typeof ALL = [
  ["worse", "Regressions"],
  ["better", "Improvements"],
];

/** The scored rows, page by page. */
export function ScoredRows({ jobId, model, rival }: { jobId: string; model: string; rival?: string }) {
  const { only, after = 0 } = route.useSearch();
  const { data, error, isPlaceholderData } = useQuery(scoredRowsQuery(jobId, after, only));
  return (
    <section aria-label="Rows" aria-busy={isPlaceholderData}>
      <h2>Rows</h2>
      <nav aria-label="Filter" className={tabs.tabs}>
        {[...ALL, ...(rival ? COMPARED : [])].map(([value, title]) => (
          <Link
            key={title}
            to="/evals/$jobId"
            params={{ jobId }}
            search={{ only: value }}
            resetScroll={false}
            aria-current={value === only ? "page" : undefined}
          >
            {title}
          </Link>
        ))}
      </nav>
      {error && <Failure error={error} />}
      {data?.data.length === 0 && <p className="muted">No matching rows.</p>}
      <div className={css.rows}>
        {data?.data.map((row) => (
          <ScoredRow key={row.number} row={row} model={model} rival={rival} />
        ))}
      </div>
      {data && (after > 0 || data.has_more) && (
        <nav aria-label="More rows" className={css.more}>
          {after > 0 && (
            <Link to="/evals/$jobId" params={{ jobId }} search={{ only }}>
              First rows
            </Link>
          )}
          {data.has_more && (
            <Link to="/evals/$jobId" params={{ jobId }} search={{ only, after: data.last_id ?? undefined }}>
              Next rows
            </Link>
          )}
        </nav>
      )}
    </section>
  );
}
