"""The quickstart of the README, cut into programs that tests can run."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
_CONTINUED = "    "


def text() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def quickstart(name: str) -> str:
    """Return the program of one of the three ways, "CLI", "curl" or "Python": a shell script or a Python script."""
    found = re.search(rf"<summary>{name}\b.*?</summary>\n\n```(\w+)\n(.*?)```", text(), re.DOTALL)
    assert found, f"the README has no block {name}"
    return found[2] if found[1] == "python" else shell(found[2])


def shell(block: str) -> str:
    """Return the commands of a console block as a script: lines after `$ `, with the indented lines that continue them."""
    kept = [line.removeprefix("$ ") for line in block.splitlines() if line.startswith(("$ ", _CONTINUED))]
    return "".join(f"{line}\n" for line in kept)
