"""The same workflow in both formats: `workflows/NAME.json` for the editor, `workflows/api/NAME.json` for the API.

The second is made from the first by our own converter and must be what it makes today:

    SORA_DIT_UPDATE=1 pytest tests/nodes/test_workflow_twins.py

ComfyUI lists as templates only what lies directly in `workflows/`, so the twins do not show up there.
"""

from __future__ import annotations

import io
import json
import math
import os
from pathlib import Path

import pytest
import sora_dit
from PIL import Image
from sora_dit.headless.cli import main

FOLDER = Path(sora_dit.__file__).parent / "workflows"
TEMPLATES = sorted(FOLDER.glob("*.json"))
TITLE_BAR, GROUP_TITLE = 30, 34
RENEW = "this makes it: SORA_DIT_UPDATE=1 pytest tests/nodes/test_workflow_twins.py"
NAMES = [path.stem for path in TEMPLATES]


def twin_of(path: Path) -> Path:
    return path.parent / "api" / path.name


@pytest.mark.parametrize("path", TEMPLATES, ids=NAMES)
def test_the_twin_is_what_the_converter_makes(path, tmp_path, capsys):
    made = tmp_path / path.name
    assert main(["convert", str(path), "-o", str(made)]) == 0
    assert capsys.readouterr().err == "", "the converter had to assume something"
    if os.environ.get("SORA_DIT_UPDATE"):
        twin_of(path).parent.mkdir(exist_ok=True)
        twin_of(path).write_bytes(made.read_bytes())
    assert twin_of(path).exists(), "no twin yet; " + RENEW
    assert json.loads(made.read_text()) == json.loads(twin_of(path).read_text()), "the twin is out of date; " + RENEW


def test_no_twin_is_left_behind():
    assert {path.name for path in (FOLDER / "api").iterdir()} == {path.name for path in TEMPLATES}


def test_a_twin_is_checked_as_the_editor_file_is(tmp_path):
    for path in (FOLDER / "text_to_video.json", FOLDER / "api" / "text_to_video.json"):
        assert main(["check", str(path), "--input", str(tmp_path)]) == 0


# --- The picture that the template browser shows -----------------------------------------------------------------


@pytest.mark.parametrize("path", TEMPLATES, ids=NAMES)
def test_every_template_has_a_thumbnail(path):
    thumbnail = path.with_suffix(".jpg")
    assert thumbnail.exists(), "this makes it: python benchmarks/thumbnails.py"
    data = thumbnail.read_bytes()
    assert len(data) < 60_000
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "JPEG" and 128 <= max(picture.size) <= 512
        assert picture.convert("L").getextrema()[1] > 60, "the picture is black"


def test_no_thumbnail_is_left_behind():
    assert {path.stem for path in FOLDER.glob("*.jpg")} == set(NAMES)


# --- How a template is laid out ----------------------------------------------------------------------------------


def box(node) -> tuple[float, float, float, float]:
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE_BAR, x + width, y + height


def contains(group, node) -> bool:
    x, y, width, height = group["bounding"]
    left, top, right, bottom = box(node)
    return x <= left and y + GROUP_TITLE <= top and right <= x + width and bottom <= y + height


@pytest.mark.parametrize("path", TEMPLATES, ids=NAMES)
def test_every_node_lies_in_exactly_one_named_group(path):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    assert all(group["title"].strip() and group["color"].startswith("#") for group in workflow["groups"])
    for node in workflow["nodes"]:
        inside = [group["title"] for group in workflow["groups"] if contains(group, node)]
        assert len(inside) == 1, f"{node['title']} lies in {inside or 'no group'}"


@pytest.mark.parametrize("path", TEMPLATES, ids=NAMES)
def test_no_group_is_empty_and_none_overlap(path):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    groups = workflow["groups"]
    assert len({group["id"] for group in groups}) == len(groups)
    for i, group in enumerate(groups):
        assert any(contains(group, node) for node in workflow["nodes"]), f"{group['title']} is empty"
        x, y, width, height = group["bounding"]
        for other in groups[i + 1 :]:
            x2, y2, width2, height2 = other["bounding"]
            apart = x + width <= x2 or x2 + width2 <= x or y + height <= y2 or y2 + height2 <= y
            assert apart, f"{group['title']} overlaps {other['title']}"


@pytest.mark.parametrize("path", TEMPLATES, ids=NAMES)
def test_nodes_do_not_overlap_and_are_as_high_as_the_editor_draws_them(path):
    """A node saved too small grows when it is opened, and then covers the next one."""
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    for i, node in enumerate(nodes):
        left, top, right, bottom = box(node)
        for other in nodes[i + 1 :]:
            left2, top2, right2, bottom2 = box(other)
            apart = right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top
            assert apart, f"{node['title']} covers {other['title']}"
        sockets = max(len([one for one in node["inputs"] if "widget" not in one]), len(node["outputs"]))
        least = 20 * sockets + 24 * len(node["widgets_values"]) + 6
        assert node["size"][1] >= least, f"{node['title']} is {node['size'][1]} high, the editor makes it {least}"


# --- Wires a person can follow -----------------------------------------------------------------------------------

SLOT, FIRST_SLOT, POINTS = 20, 14, 200


def wire(workflow, link) -> list[tuple[float, float]]:
    """Points of a link as the editor draws it: a spline whose ends are level, each pulled out by a quarter of the
    distance."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    _, source, slot, target, place, _ = link
    sockets = [i for i, one in enumerate(nodes[target]["inputs"]) if "widget" not in one]
    row = sockets.index(place) if place in sockets else len(sockets)  # on a widget: below the sockets
    x, y = nodes[source]["pos"][0] + nodes[source]["size"][0], nodes[source]["pos"][1] + FIRST_SLOT + SLOT * slot
    x2, y2 = nodes[target]["pos"][0], nodes[target]["pos"][1] + FIRST_SLOT + SLOT * row
    pull = math.dist((x, y), (x2, y2)) / 4
    found = []
    for t in (k / POINTS for k in range(POINTS + 1)):
        a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
        found.append((a * x + b * (x + pull) + c * (x2 - pull) + d * x2, (a + b) * y + (c + d) * y2))
    return found


def hidden_wires(workflow) -> list[str]:
    """Links that run behind a node: behind another one, or back behind one of their own."""
    found = []
    for link in workflow["links"]:
        points = wire(workflow, link)[1:-1]
        for node in workflow["nodes"]:
            left, top, right, bottom = box(node)
            if any(left < x < right and top < y < bottom for x, y in points):
                found.append(f"link {link[0]} ({link[5]}) runs behind {node['title']}")
    return found


@pytest.mark.parametrize("path", TEMPLATES, ids=NAMES)
def test_no_wire_runs_behind_a_node(path):
    """The editor draws nodes over wires; what comes out on the other side cannot be followed."""
    assert hidden_wires(json.loads(path.read_text(encoding="utf-8"))) == []


def test_a_wire_behind_a_node_is_found():
    workflow = json.loads((FOLDER / "text_to_video.json").read_text(encoding="utf-8"))
    nodes = {node["title"]: node for node in workflow["nodes"]}
    x, y = nodes["Decode"]["pos"]
    nodes["Assemble video"]["pos"] = [x, y + 150]  # stacked: the wire between them goes back behind both
    assert {line.split(" behind ")[1] for line in hidden_wires(workflow)} >= {"Decode", "Assemble video"}
