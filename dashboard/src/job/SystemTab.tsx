import { useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { startedQuery } from "../api/events";
import { bytes, duration, figure, percent } from "../format";
import { Empty, Notice } from "../parts/Notice";
import { CurveCard } from "./CurveCard";
import { Drawing } from "./Drawing";
import css from "./MetricsTab.module.css";
import { useJob } from "./useJob";

const route = getRouteApi("/jobs/$jobId/system");
const milliseconds = (s: number) => (s < 1 ? `${figure(s * 1000)} ms` : duration(s));

const PICTURES = [
  { title: "Tokens a second", train: "tokens_per_s" },
  { title: "Share of the machine's matmul rate (MFU)", train: "mfu", value: percent },
  { title: "Share of the time the device was busy", train: "device_use", value: percent },
  { title: "Memory", train: "memory_bytes", value: bytes },
  { title: "Time a step", train: "step_s", value: milliseconds },
  { title: "Waiting for data", train: "data_wait_s", value: milliseconds },
];

export function SystemTab() {
  const job = useJob();
  const search = route.useSearch();
  const started = useQuery(startedQuery(job)).data?.data;
  if (!("tokens_per_s" in job.progress)) {
    return <Empty title="Nothing has been measured yet">{started && <p>{String(started.device)}</p>}</Empty>;
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
          Runs on <b>{device}</b> in {String(started.precision)}; a matrix product reaches{" "}
          {figure(Number(started.matmul_tflops))} TFLOP/s there.
        </span>
        {device.startsWith("cpu") && <span>No GPU: memory is that of the training process.</span>}
      </Notice>
    </div>
  );
}
