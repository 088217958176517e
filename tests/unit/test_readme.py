"""What the READMEs say about files and specs of this repository."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tests import readme
from tests.readme import ROOT

FOLDERS = "api|benchmarks|cli|db|docker|engine|examples|tests|workers"
READMES = [
    *("README.md", "CONTRIBUTING.md"),
    *(f"{name}/README.md" for name in ("benchmarks", "cli", "docker", "engine", "examples", "workers")),
]


@pytest.mark.parametrize("name", READMES)
def test_every_file_that_a_readme_names_exists(name: str) -> None:
    named = set(re.findall(rf"(?<![\w/.-])(?:{FOLDERS})/[\w.\-/]*\w", (ROOT / name).read_text(encoding="utf-8")))
    made = {"benchmarks/results"}  # a folder, and what a command writes
    assert not [path for path in named - made if not (ROOT / path).exists()]


@pytest.mark.parametrize("name", READMES)
def test_every_link_of_a_readme_leads_somewhere(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        linked = path.parent / file
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_curl_submits_the_spec_of_the_example() -> None:
    body = re.search(r"-d '(\{.*?\})'", readme.quickstart("curl"), re.DOTALL)
    assert body
    spec = yaml.safe_load((ROOT / "examples/sft.yaml").read_text())
    assert json.loads(body[1].replace("'$FILE'", "file")) == spec | {"training_file": "file"}
