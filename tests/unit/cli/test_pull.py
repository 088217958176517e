"""Where downloaded files may land."""

from pathlib import Path

import pytest

from cli.errors import CommandError
from cli.pull import inside


def test_a_file_in_a_subfolder_is_fine(tmp_path: Path) -> None:
    assert inside(tmp_path, "state/rng.json") == tmp_path.resolve() / "state" / "rng.json"


@pytest.mark.parametrize("name", ["../key", "/etc/passwd", "a/../../key"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CommandError, match="leads out of"):
        inside(tmp_path, name)
