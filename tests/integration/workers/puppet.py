"""An engine without a model: does what `script.json` in its run directory says, in order.

For what the real engine does not do on demand: to write half a line, to ignore a signal, to die.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path


def main(run_dir: Path) -> None:
    seq = 0
    for action, value in json.loads((run_dir / "script.json").read_text()):
        if action == "event":
            seq += 1
            write(run_dir, json.dumps({"seq": seq, "time": time.time(), **value}) + "\n")
        elif action == "raw":
            write(run_dir, value)
        elif action == "files":
            for path, text in value.items():
                (run_dir / path).parent.mkdir(parents=True, exist_ok=True)
                (run_dir / path).write_text(text)
        elif action == "await":
            while not (run_dir / value).exists():
                time.sleep(0.02)
        else:
            _ACTS[action](value)


def write(run_dir: Path, text: str) -> None:
    with (run_dir / "events.jsonl").open("a") as log:
        log.write(text)


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


def grow_within(limit: str) -> None:
    """Ask for more memory than a control group of this process's own has."""
    group = Path(limit)
    (group / "cgroup.procs").write_text(str(os.getpid()))
    time.sleep(2.0)  # its worker looks once a second
    bytearray(2**30)


_ACTS = {
    "grow within": grow_within,
    "say": say,
    "sleep": time.sleep,
    "exit": os._exit,
    "ignore": lambda name: signal.signal(getattr(signal, name), signal.SIG_IGN),
    "die": lambda name: os.kill(os.getpid(), getattr(signal, name)),
}

if __name__ == "__main__":
    main(Path(sys.argv[1]))
