import { useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { startedQuery } from "../api/events";
import { bytes, figure, percent, shortTime } from "../format";
import { Empty, Notice } from "../parts/Notice";
import { CurveCard } from "./CurveCard";
import { Drawing } from "./Drawing";
import css from "./MetricsTab.module.css";
import { useJob } from "./useJob";

const route = getRouteApi("/jobs/$jobId/system");

const PICTURES = [
  { title: "Tokens per second", train: "tokens_per_s" },
  { title: "Model FLOPs utilization (MFU)", train: "mfu", value: percent },
  { title: "Device utilization", train: "device_use", value: percent },
  { title: "Memory", train: "memory_bytes", value: bytes },
  { title: "Time per step", train: "step_s", value: shortTime },
  { title: "Data wait", train: "data_wait_s", value: shortTime },
];

export function SystemTab() {
  const job = useJob();
  const search = route.useSearch();
  const started = useQuery(startedQuery(job)).data?.data;
  if (!("tokens_per_s" in job.progress)) {
    return <Empty title="No measurements yet">{started && <p>{String(started.device)}</p>}</Empty>;
  }
  return (
    <>
      {started && <Machine started={started} />}
      <Drawing search={search}>
        <div className={css.charts}>
          <CurveCard job={job} title="Loss" train="loss" held="eval_loss" group={job.id} height={220} />
          {PICTURES.map((picture) => (
            <CurveCard key={picture.title} job={job} {...picture} group={job.id} height={180} />
          ))}
        </div>
      </Drawing>
    </>
  );
}

function Machine({ started }: { started: Record<string, unknown> }) {
  const device = String(started.device);
  return (
    <div style={{ marginBottom: 16 }}>
      <Notice>
        <span>
          Runs on <b>{device}</b> in {String(started.precision)}; its matrix products reach{" "}
          {figure(Number(started.matmul_tflops))} TFLOP/s.
        </span>
        {device.startsWith("cpu") && <span>No GPU: memory is the training process's.</span>}
      </Notice>
    </div>
  );
}
