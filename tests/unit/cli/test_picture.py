"""The picture of the demo's curves."""

import xml.etree.ElementTree as ET

import pytest

from cli.picture import Panel, draw

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*panels: Panel) -> ET.Element:
    return ET.fromstring(draw(panels))  # noqa: S314 - made by us


def test_every_point_of_the_series_is_drawn() -> None:
    picture = drawn(Panel("sft", [(step, 8 - step / 50) for step in range(1, 101)], [(50, 7.1), (100, 6.2)]))
    line = picture.find(f".//{SVG}polyline")
    assert line is not None
    assert len(line.attrib["points"].split()) == 100
    assert len(picture.findall(f".//{SVG}circle")) == 2


@pytest.mark.parametrize("losses", [[2.0], [2.0, 2.0], [1e-4, 2e-4], [0.0, 1200.0], [-1.0, 1.0]])
def test_every_range_of_losses_stays_inside_the_picture(losses: list[float]) -> None:
    picture = drawn(Panel("a", list(enumerate(losses)), []))
    line = picture.find(f".//{SVG}polyline")
    assert line is not None
    heights = [float(point.split(",")[1]) for point in line.attrib["points"].split()]
    assert all(0 < y < 240 for y in heights)


def test_a_title_with_markup_is_text() -> None:
    assert "<b>" not in draw([Panel("<b>", [(1, 2.0)], [])])
