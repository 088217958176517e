"""Run the engine on this machine, in its own process: torch and numpy stay out of this one."""

import json
import subprocess
import sys
from typing import Any

from cli.errors import CommandError, Exit


def made_by(module: str, *arguments: object) -> dict[str, Any]:
    """Run `python -m MODULE ...` and return the JSON of its last line.

    Raises:
        CommandError: its input is invalid, or it failed.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        code = Exit.INVALID if done.returncode == Exit.INVALID else Exit.UNEXPECTED
        raise CommandError(done.stderr.strip()[-2000:] or f"{module} ended with {done.returncode}", code)
    return json.loads(done.stdout.splitlines()[-1])
