"""Check what no engine is here to build: Dockerfiles, compose files, and the pins that both stand on."""

import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DOCKER = Path(__file__).parent
TOOLS = Path(sys.executable).parent
DOCKERFILES = ("Dockerfile.api", "Dockerfile.worker")
COMPOSE_FILES = ("compose.yaml", "compose.gpu.yaml")


def stale_pins() -> list[str]:
    """What pyproject.toml asks for and constraints.txt does not hold, as sentences."""
    lines = (DOCKER / "constraints.txt").read_text().splitlines()
    locked = dict(line.split("==") for line in lines if not line.startswith("#"))
    project = tomllib.loads((DOCKER.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    stale = []
    for line in [*project["dependencies"], *extras["train"], *extras["dev"], *extras["page"]]:
        wanted = Requirement(line)
        version = locked.get(canonicalize_name(wanted.name))
        if version is None or version not in wanted.specifier:
            stale.append(f"docker/constraints.txt has {wanted.name} {version}, pyproject.toml wants {line}")
    return stale


def main() -> int:
    """0 when everything holds; what does not is told on stdout."""
    runs = [
        [TOOLS / "hadolint", *(DOCKER / name for name in DOCKERFILES)],
        [TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec"]
        + [DOCKER / name for name in COMPOSE_FILES],
    ]
    failed = [run[0].name for run in runs if subprocess.run(run, check=False).returncode]
    stale = stale_pins()
    for sentence in stale:
        print(f"{sentence}; run docker/lock.py in the environment that passes the tests")
    if failed or stale:
        return 1
    print(f"{len(DOCKERFILES)} Dockerfiles, {len(COMPOSE_FILES)} compose files and the pins hold")
    return 0


if __name__ == "__main__":
    sys.exit(main())
