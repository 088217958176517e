"""A campaign of faults against the whole service: `python -m tests.chaos --profile embedded --kills 100 --seed 1`.

Small jobs of all kinds run while processes are killed at random instants, stopped past their leases and
cut off from broker and disk. Then everything is compared with what the same jobs came to undisturbed.
"""

import argparse
import json
import random
import sys
import time
from typing import Any, NamedTuple

from db import jobs
from tests.chaos import load, truth
from tests.chaos.bugs import BUGS
from tests.chaos.faults import Faults
from tests.chaos.load import Load
from tests.chaos.service import Service
from tests.chaos.truth import Outcome, Verdict

_PAUSE_S = 0.4
"""From fault to fault, on average."""
_LULL_SHARE, _LULL_S = 0.1, 15.0
_AT_ONCE = 6
_TELL_EVERY = 100
_STILL_S = 90.0
"""Jobs that have not ended, and of which none has moved for so long, are lost."""
_TICK_S = 0.02


class Campaign(NamedTuple):
    """What was asked for."""

    profile: str
    kills: int
    seed: int
    bug: str | None
    keep: bool


def run(asked: Campaign) -> int:
    """Carry it out, tell the outcome; 1 when anything is not as it must be."""
    begun = time.monotonic()
    service = Service(asked.profile, asked.bug)
    verdict = None
    try:
        service.await_ready()
        with service.client() as client:
            wanted, undisturbed = _calm(service, load.specs(client))
        say(f"undisturbed after {time.monotonic() - begun:.0f} s; {asked.kills} kills, seed {asked.seed}")
        work = Load(service, wanted, asked.seed, _AT_ONCE)
        faults = Faults(service, random.Random(asked.seed))
        stormed_at = time.monotonic()
        work.start()
        _storm(service, faults, work, asked.kills)
        storm_s = time.monotonic() - stormed_at
        verdict = _settle(service, faults, work, undisturbed)
    finally:
        sound = verdict is not None and not any(verdict.wrong.values())
        left = service.close(keep=asked.keep or not (sound or asked.bug))
        if not sound:
            say(f"the folder of the service, with its logs: {service.folder}")
    verdict.wrong["stale writes"] += faults.stale_writes
    verdict.wrong["orphans"] += faults.orphans + [f"process {pid} is left at the end" for pid in left]
    figures = {"storm_s": round(storm_s, 1), "wall_s": round(time.monotonic() - begun, 1)}
    return report(asked, faults, verdict, figures)


def _calm(service: Service, wanted: dict[str, dict[str, Any]]) -> tuple[dict[str, dict[str, Any]], dict[str, Outcome]]:
    """Run every spec once while nothing happens; the first one's model becomes the base of the others."""
    undisturbed = {}
    with service.client() as client:
        for name, spec in wanted.items():
            suffix = {"suffix": "base"} if name == "pretrain" else {}
            answer = client.post("/v1/jobs", json=spec | suffix)
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
                undisturbed[name] = truth.outcome(s, found)
    return wanted, undisturbed


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
                say(f"{faults.kills} kills, {work.count_ended()} jobs came to their end")
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


def report(asked: Campaign, faults: Faults, verdict: Verdict, figures: dict[str, float]) -> int:
    """A table for people on stderr, one line of JSON on stdout."""
    say(f"\n{'fault':<34} times")
    for name, count in sorted(faults.done.items()):
        say(f"{name:<34} {count:>5}")
    for name, reason in faults.skipped().items():
        say(f"{name:<34}  none: {reason}")
    say(f"\n{'what was looked at':<34} count")
    for name, count in verdict.counts.items():
        say(f"{name:<34} {count:>5}")
    say(f"\n{'what must not be':<34} found")
    for name, found in verdict.wrong.items():
        say(f"{name:<34} {len(found):>5}")
    for name, found in verdict.wrong.items():
        for fault in found[:5]:
            say(f"  {name}: {fault}")
    wrong = {name: len(found) for name, found in verdict.wrong.items()}
    told = asked._asdict() | {
        "faults": dict(faults.done),
        "struck": faults.kills,
        "lost_to_power_cuts": faults.lost_blobs,
    }
    sys.stdout.write(json.dumps(told | verdict.counts | figures | {"wrong": wrong}) + "\n")
    return int(any(wrong.values()))


def say(line: str) -> None:
    sys.stderr.write(line + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--profile", choices=["embedded", "scaled"], default="embedded")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bug", choices=list(BUGS), help="break the service in this way: the campaign has to notice")
    parser.add_argument("--keep", action="store_true", help="leave the folder of the service, with its logs")
    return run(Campaign(**vars(parser.parse_args())))


if __name__ == "__main__":
    sys.exit(main())
