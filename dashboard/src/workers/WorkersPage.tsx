import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { Schemas } from "../api/client";
import { queueQuery, workersQuery } from "../api/fleet";
import { errorOf } from "../api/state";
import { bytes, moment } from "../format";
import { masked } from "../job/mask";
import { Ago } from "../parts/Ago";
import { Head } from "../parts/Head";
import { Icon, type IconName } from "../parts/Icon";
import { List, numberClass } from "../parts/List";
import { Empty, Failure } from "../parts/Notice";
import css from "./WorkersPage.module.css";

type Worker = Schemas["WorkerObject"];

const ICONS: Record<Worker["state"], IconName> = { idle: "queued", busy: "running", lost: "warn", stopped: "paused" };

export function WorkersPage() {
  const workers = useQuery(workersQuery);
  const queue = useQuery(queueQuery);
  const error = errorOf(workers, queue);
  return (
    <>
      <Head title="Workers and queue" />
      {error && <Failure error={error} />}
      <div className={css.parts}>
        {workers.data && <Workers workers={workers.data.data} />}
        {queue.data && <Queue queue={queue.data} />}
      </div>
    </>
  );
}

function Workers({ workers }: { workers: readonly Worker[] }) {
  if (workers.length === 0) {
    return (
      <Empty title="No workers">
        <p className="muted">
          <code>trainyard up</code> starts one on this machine, <code>python -m workers</code> on others.
        </p>
      </Empty>
    );
  }
  return (
    <section>
      <h2>Workers</h2>
      <List
        label="Workers"
        columns={["Worker", "State", "Job", "Device", { number: "Memory" }, { number: "Heartbeat" }]}
      >
        {workers.map((worker) => (
          <tr key={worker.id}>
            <td>
              {worker.host} <span className="muted">pid {worker.pid}</span>
            </td>
            <td>
              <span className={`${css.state} ${worker.state === "lost" ? css.lost : ""}`}>
                <Icon name={ICONS[worker.state]} size={13} /> {worker.state}
              </span>
            </td>
            <td>{worker.job_id ? <JobLink id={worker.job_id} /> : <span className="muted">–</span>}</td>
            <td>
              {worker.device} <span className="muted">{labelsOf(worker)}</span>
            </td>
            <td className={numberClass}>{bytes(worker.memory_bytes)}</td>
            <td className={numberClass}>
              <Ago at={worker.heartbeat_at} />
            </td>
          </tr>
        ))}
      </List>
    </section>
  );
}

/** The operator's labels, without the device, which has a column of its own. */
function labelsOf(worker: Worker): string {
  const labels = Object.entries(worker.labels).filter(([name]) => name !== "device");
  return labels.map(([name, value]) => `${name}=${value}`).join(" ");
}

function JobLink({ id }: { id: string }) {
  return (
    <Link to="/jobs/$jobId" params={{ jobId: id }}>
      <code>{id}</code>
    </Link>
  );
}

function Queue({ queue }: { queue: Schemas["QueueObject"] }) {
  return (
    <section>
      <h2>Queue</h2>
      <p className="muted">
        {queue.running} running, {queue.waiting} waiting, {queue.workers_free} of {queue.workers_alive} workers free.
      </p>
      {queue.data.length > 0 && (
        <List
          label="Queue"
          columns={[{ number: "Position" }, "Job", "Kind", { number: "Priority" }, "Waiting for", "Estimated start"]}
        >
          {queue.data.map((job) => (
            <tr key={job.id}>
              <td className={numberClass}>{job.queue_position}</td>
              <td>
                <JobLink id={job.id} />
              </td>
              <td>{job.kind}</td>
              <td className={numberClass}>{job.priority}</td>
              <td>{masked(job.waiting_reason ?? "")}</td>
              <td>
                {job.estimated_start_at ? moment(job.estimated_start_at) : <span className="muted">unknown</span>}
              </td>
            </tr>
          ))}
        </List>
      )}
    </section>
  );
}
