import { useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { evaluationsQuery, type Job } from "../api/jobs";
import { errorOf } from "../api/state";
import { Empty, Failure } from "../parts/Notice";
import { CurveCard } from "./CurveCard";
import { Drawing } from "./Drawing";
import { picturesOf } from "./figures";
import css from "./MetricsTab.module.css";
import { Result } from "./Result";
import { useJob } from "./useJob";

const route = getRouteApi("/jobs/$jobId/metrics");

export function MetricsTab() {
  const job = useJob();
  const search = route.useSearch();
  const evaluations = useQuery(evaluationsQuery(job));
  const evaluated = Object.keys(evaluations.data?.data[0]?.values ?? {});
  const error = errorOf(evaluations);
  const pictures = picturesOf(Object.keys(job.progress), evaluated);
  if (job.kind === "eval" && job.result) return <Result result={job.result} />;
  if (pictures.length === 0) return error ? <Failure error={error} /> : <NoneYet job={job} />;
  return (
    <Drawing search={search} smoothing>
      {error && <Failure error={error} />}
      <div className={css.charts}>
        {pictures.map((picture, index) => (
          <CurveCard key={picture.title} job={job} {...picture} group={job.id} height={index === 0 ? 320 : 200} />
        ))}
      </div>
    </Drawing>
  );
}

function NoneYet({ job }: { job: Job }) {
  if (job.finished_at) return <Empty title="This job has no metrics" />;
  return (
    <Empty title="No metrics yet">
      <p className="muted">They appear here after the first step.</p>
    </Empty>
  );
}
