"""A broker that is away for minutes: `make chaos OUTAGE_S=600`.

The service runs as it is shipped, but for a broker of ours and two jobs at once. One job trains when the broker is
killed and must train on, in the same attempt. Another is submitted meanwhile, and must start soon after the
broker is back.
"""

import argparse
import json
import sys
import time

from benchmarks.harness.report import hardware
from tests.chaos.shipped import Shipped, shipped, until
from tests.servers import Valkey

_GOAL_S = 10.0
_WAIT_S = 120.0
_SUBMIT_AT_SHARE = 0.5
_LOOK_EVERY_S = 1.0


class Outage:
    """What was seen while the broker was away."""

    def __init__(self, running: Shipped, job_id: str) -> None:
        self._running = running
        self._job_id = job_id
        self._step = running.job(job_id).step or 0
        self._moved_at = time.monotonic()
        self.steps = 0
        self.longest_halt_s = 0.0

    def look(self) -> None:
        step, now = self._running.job(self._job_id).step or 0, time.monotonic()
        self.longest_halt_s = max(self.longest_halt_s, now - self._moved_at)
        if step > self._step:
            self.steps, self._step, self._moved_at = self.steps + step - self._step, step, now


def sit_out(running: Shipped, outage: Outage, outage_s: float) -> str:
    """Look on for so long; the id of a job that is submitted meanwhile."""
    begun, waiting_id = time.monotonic(), None
    while (gone := time.monotonic() - begun) < outage_s:
        outage.look()
        if waiting_id is None and gone >= outage_s * _SUBMIT_AT_SHARE:
            waiting_id = running.submit(steps=20, save_steps=10)
        time.sleep(_LOOK_EVERY_S)
    assert waiting_id is not None
    return waiting_id


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.outage", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    outage_s = parser.parse_args().seconds
    broker = Valkey()
    with shipped(broker_url=broker.url, worker_concurrency="2") as running:
        job_id = running.submit(steps=1_000_000, save_steps=50)
        until(lambda: running.job(job_id).step, "the job trains", _WAIT_S)
        broker.kill()
        seen = Outage(running, job_id)
        waiting_id = sit_out(running, seen, outage_s)
        waited = running.job(waiting_id).state
        broker.start()
        back_at = time.monotonic()
        until(lambda: running.job(waiting_id).started_at, "the job that waited starts", _WAIT_S)
        started_s = time.monotonic() - back_at
        until(lambda: running.job(waiting_id).step, "the job that waited trains", _WAIT_S)
        trained_s = time.monotonic() - back_at
        ended = until(lambda: (job := running.job(waiting_id)).finished_at and job, "it ends", _WAIT_S)
        through = running.job(job_id)
        running.http.post(f"/v1/jobs/{job_id}/cancel")
    broker.close()
    sound = (through.state, through.fence, waited, ended.state, ended.fence) == ("running", 1, "queued", "succeeded", 1)
    told = {
        "name": "chaos_outage",
        "outage_s": outage_s,
        "running_job": {"state": through.state, "attempts": through.fence, "steps_meanwhile": seen.steps},
        "longest_halt_s": round(seen.longest_halt_s, 1),
        "waiting_job": {"meanwhile": waited, "came_to": ended.state, "attempts": ended.fence},
        "started_after_return_s": round(started_s, 2),
        "trained_after_return_s": round(trained_s, 2),
        "goal": f"no running job is stopped, a waiting one starts within {_GOAL_S:g} s of the return",
        "holds": sound and seen.steps > 0 and started_s <= _GOAL_S,
        "hardware": hardware(),
    }
    sys.stdout.write(json.dumps(told) + "\n")
    return int(not told["holds"])


if __name__ == "__main__":
    sys.exit(main())
