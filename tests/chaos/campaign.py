"""A campaign of faults against the whole service: `python -m tests.chaos.campaign --profile embedded --kills 100 --seed 1`.

Small jobs of all kinds run while processes are killed at random instants, stopped past their leases and
cut off from broker and disk. Then everything is compared with what the same jobs came to undisturbed.
"""

import argparse
import random
import sys
import time
from typing import Any, NamedTuple

from db import jobs
from tests.chaos import load, report, truth
from tests.chaos.bugs import BUGS
from tests.chaos.deaths import percentile
from tests.chaos.faults import Faults
from tests.chaos.load import Load
from tests.chaos.service import Service
from tests.chaos.truth import Outcome, Verdict

_PAUSE_S = 0.4
"""From fault to fault, on average."""
_LULL_SHARE, _LULL_S = 0.1, 15.0
_AT_ONCE = 6
_TELL_EVERY = 100
_STILL_S = 180.0
"""Jobs that have not ended, and of which none has moved for so long, are lost."""
_TICK_S = 0.02


class Campaign(NamedTuple):
    """What was asked for."""

    profile: str
    kills: int
    seed: int
    bug: str | None
    only: str | None
    keep: bool


def run(asked: Campaign) -> int:
    """Carry it out, tell the outcome; 1 when anything is not as it must be."""
    begun = time.monotonic()
    service = Service(asked.profile, asked.bug)
    verdict = None
    try:
        service.await_ready()
        with service.client() as client:
            wanted = load.specs(client)
        undisturbed = _calm(service, wanted)
        report.say(f"undisturbed after {time.monotonic() - begun:.0f} s; {asked.kills} kills, seed {asked.seed}")
        work = Load(service, wanted, asked.seed, _AT_ONCE)
        faults = Faults(service, random.Random(asked.seed), asked.kills, asked.only)
        stormed_at = time.monotonic()
        work.start()
        _storm(service, faults, work, asked.kills)
        storm_s = time.monotonic() - stormed_at
        verdict = _settle(service, faults, work, undisturbed)
        with service.database.read() as s:
            recoveries_s = faults.deaths.recoveries_s(s)
    finally:
        sound = verdict is not None and not any(verdict.wrong.values()) and not faults.orphans
        left = service.close(keep=asked.keep or not (sound or asked.bug))
        if not sound:
            report.say(f"the folder of the service, with its logs: {service.folder}")
    verdict.wrong["stale writes"] += faults.freezes.accepted
    verdict.wrong["trainers past a lease"] += faults.freezes.outlived
    verdict.wrong["orphans"] += faults.orphans + [f"process {pid} is left at the end" for pid in left]
    figures = {
        "asked": dict(work.asked),
        "trainer_deaths_gone_on_from": len(recoveries_s),
        "to_training_again_s": {"p50": percentile(recoveries_s, 0.5), "p99": percentile(recoveries_s, 0.99)},
        "freezes_past_the_lease": faults.freezes.past_lease,
        "writes_accepted_after_them": len(faults.freezes.accepted),
        "storm_s": round(storm_s, 1),
        "wall_s": round(time.monotonic() - begun, 1),
    }
    return report.tell(asked._asdict(), faults, verdict, figures)


def _calm(service: Service, wanted: dict[str, dict[str, Any]]) -> dict[str, Outcome]:
    """Run every spec once while nothing happens; the first one's model becomes the base of the others."""
    (first, spec), *others = wanted.items()
    undisturbed = _come_to(service, {first: spec | {"suffix": "base"}})
    return undisturbed | _come_to(service, dict(others))


def _come_to(service: Service, wanted: dict[str, dict[str, Any]]) -> dict[str, Outcome]:
    """What jobs of these specs, submitted together, come to."""
    outcomes = {}
    with service.client() as client:
        answers = {name: client.post("/v1/jobs", json=spec) for name, spec in wanted.items()}
        for name, answer in answers.items():
            assert answer.status_code == 201, answer.text
            job_id = answer.json()["id"]
            while (job := client.get(f"/v1/jobs/{job_id}").json())["status"] not in load.ENDED:
                assert job["attempt"] <= 1, f"{name} does not come to an end undisturbed: see {service.folder}"
                service.tend()
                time.sleep(_TICK_S)
            assert job["status"] == "succeeded", job["error"]
            with service.database.read() as s:
                found = jobs.find(s, job_id)
                assert found is not None
                outcomes[name] = truth.outcome(s, found)
    return outcomes


def _storm(service: Service, faults: Faults, work: Load, kills: int) -> None:
    """Fault upon fault; now and then a lull, until a job has come to its end: the load is to flow."""
    draw = random.Random(kills)
    told_at = 0
    next_at, lull_until, ended = time.monotonic(), 0.0, 0
    while faults.kills < kills and work.is_alive():
        service.tend()
        faults.tend()
        now = time.monotonic()
        if now >= next_at and (now >= lull_until or work.count_ended() > ended):
            faults.strike()
            if faults.kills >= told_at + _TELL_EVERY:
                told_at = faults.kills
                report.say(f"{faults.kills} kills, {work.count_ended()} jobs came to their end")
            next_at, lull_until = now + draw.expovariate(1 / _PAUSE_S), 0.0
            if draw.random() < _LULL_SHARE:
                lull_until, ended = now + _LULL_S, work.count_ended()
        time.sleep(_TICK_S)


def _settle(service: Service, faults: Faults, work: Load, undisturbed: dict[str, Outcome]) -> Verdict:
    """Let the jobs that are left come to their end, and judge."""
    work.stop()
    faults.finish()
    seen, moved_at = None, time.monotonic()
    while not work.ended.is_set() and work.is_alive() and time.monotonic() < moved_at + _STILL_S:
        service.tend()
        if (standing := (len(work.open), sum(work.furthest.values()))) != seen:
            seen, moved_at = standing, time.monotonic()
        time.sleep(_TICK_S)
    service.await_ready()
    verdict = truth.judge(service, work.accepted, undisturbed)
    if not work.is_alive() and not work.ended.is_set():
        verdict.wrong["answers of the API"].append(str(work.error))
    return verdict


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.campaign", description=__doc__)
    parser.add_argument("--profile", choices=["embedded", "scaled"], default="embedded")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bug", choices=list(BUGS), help="break the service in this way: the campaign has to notice")
    parser.add_argument("--only", help="faults whose names begin with this alone; each counts as a kill")
    parser.add_argument("--keep", action="store_true", help="leave the folder of the service, with its logs")
    return run(Campaign(**vars(parser.parse_args())))


if __name__ == "__main__":
    sys.exit(main())
