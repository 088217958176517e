"""Run the engine on this machine, in its own process: torch and numpy stay out of this one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cli.errors import CommandError, Exit
from cli.place import PACKAGES_DIR


def made_by(module: str, *arguments: object) -> dict[str, Any]:
    """Run `python -m MODULE ...` and return the JSON of its last line. Paths may be relative to the user's folder.

    Raises:
        CommandError: its input is invalid, or it failed.
    """
    command = [sys.executable, "-m", module, *(str(_absolute(argument)) for argument in arguments)]
    # `-m engine` must find our package, not an `engine` in the user's folder.
    done = subprocess.run(command, cwd=PACKAGES_DIR, capture_output=True, text=True, check=False)
    if done.returncode:
        code = Exit.INVALID if done.returncode == Exit.INVALID else Exit.UNEXPECTED
        raise CommandError(done.stderr.strip()[-2000:] or f"{module} ended with {done.returncode}", code)
    return json.loads(done.stdout.splitlines()[-1])


def _absolute(argument: object) -> object:
    return argument.absolute() if isinstance(argument, Path) else argument
