"""The fields of a job."""

import pytest

from cli.jobs import listing


@pytest.mark.parametrize(
    ("base", "shown"),
    [
        (None, ""),
        ({"id": "model-1", "name": "house", "version": 3}, "house/3"),
        ({"id": "ckpt-1", "name": None, "version": None}, "ckpt-1"),
    ],
)
def test_a_base_is_shown_by_its_name_or_else_its_id(base: dict | None, shown: str) -> None:
    assert dict(listing.FIELDS)["base"]({"base": base}) == shown
