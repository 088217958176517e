"""Write docker/constraints.txt: the exact versions of all direct and transitive requirements in this environment.

Run it in the environment in which the tests passed: `.venv/bin/python docker/lock.py`.
"""

import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

DOCKER = Path(__file__).parent
HEADER = "# The tree that was tested together, transitive packages too. Written by docker/lock.py.\n"
EXTRAS = ("train", "dev", "page", "peers")
BY_TORCH = ("nvidia-", "cuda-", "triton")
"""Packages that a CUDA build of torch pins itself and a CPU build does not have."""


def closure(wanted: list[Requirement]) -> dict[str, str]:
    """Map the names of the requirements and of all that they require to their installed versions."""
    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen or name.startswith(BY_TORCH):
                continue
            seen.add((name, extra))
            installed = distribution(name)
            versions[name] = Version(installed.version).public  # torch 2.13.0+cpu and 2.13.0 are one release
            needs = [Requirement(line) for line in installed.requires or ()]
            wanted += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return versions


def main() -> None:
    """Write the file."""
    project = tomllib.loads((DOCKER.parent / "pyproject.toml").read_text())["project"]
    named = project["dependencies"] + [line for extra in EXTRAS for line in project["optional-dependencies"][extra]]
    requirements = [Requirement(line) for line in named]
    versions = closure([r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})])
    lines = [f"{name}=={versions[name]}\n" for name in sorted(versions)]
    (DOCKER / "constraints.txt").write_text(HEADER + "".join(lines))
    print(f"{len(lines)} packages in docker/constraints.txt")


if __name__ == "__main__":
    main()
