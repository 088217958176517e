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
    log = (run_dir / "events.jsonl").open("a")
    seq = 0
    for action, value in json.loads((run_dir / "script.json").read_text()):
        if action == "event":
            seq += 1
            log.write(json.dumps({"seq": seq, "time": time.time(), **value}) + "\n")
        elif action == "raw":
            log.write(value)
        elif action == "files":
            for path, text in value.items():
                (run_dir / path).parent.mkdir(parents=True, exist_ok=True)
                (run_dir / path).write_text(text)
        elif action == "say":
            print(value, flush=True)
        elif action == "sleep":
            time.sleep(value)
        elif action == "ignore":
            signal.signal(getattr(signal, value), signal.SIG_IGN)
        elif action == "die":
            os.kill(os.getpid(), getattr(signal, value))
        elif action == "exit":
            log.flush()
            os._exit(value)
        log.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
