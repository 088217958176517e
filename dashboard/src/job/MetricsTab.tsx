import { useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { evaluationsQuery, type Job } from "../api/jobs";
import { Empty } from "../parts/Notice";
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
  const { data } = useQuery(evaluationsQuery(job));
  const evaluated = Object.keys(data?.data[0]?.values ?? {});
  const pictures = picturesOf(Object.keys(job.progress), evaluated);
  if (job.kind === "eval" && job.result) return <Result result={job.result} />;
  if (pictures.length === 0) return <NoneYet job={job} />;
  return (
    <Drawing search={search} smoothing>
      <div className={css.charts}>
        {pictures.map((picture, index) => (
          <CurveCard key={picture.title} job={job} {...picture} group={job.id} height={index === 0 ? 320 : 200} />
        ))}
      </div>
    </Drawing>
  );
}

function NoneYet({ job }: { job: Job }) {
  if (job.finished_at) return <Empty title="This job told no figures" />;
  return (
    <Empty title="No figures yet">
      <p className="muted">The first step's figures appear here by themselves.</p>
    </Empty>
  );
}
