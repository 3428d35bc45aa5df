"""The help pages that the editor shows (`web/docs/NODE.md`, `web/docs/NODE/LOCALE.md`) say what the nodes are."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
import sora_dit
from PIL import Image
from sora_dit.headless.object_info import object_info
from sora_dit.headless.session import Session, use
from sora_dit.nodes import node_classes

DOCS = Path(sora_dit.__file__).parent / sora_dit.WEB_DIRECTORY / "docs"
LOCALES = Path(sora_dit.__file__).parent / "locales"
CLASSES = {cls.GET_SCHEMA().node_id: cls for cls in node_classes()}
INFO = object_info(CLASSES.values())
ENGLISH = [DOCS / f"{node}.md" for node in CLASSES]
TRANSLATED = sorted(DOCS.glob("*/*.md"))
PAGES = ENGLISH + TRANSLATED
LONGEST_PICTURE, ALL_PICTURES = 60_000, 900_000


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).with_suffix("").as_posix()


def node_of(page: Path) -> str:
    return name_of(page).split("/")[0]


def read(page: Path) -> str:
    assert page.exists(), f"the help page web/docs/{name_of(page)}.md is missing"
    return page.read_text(encoding="utf-8")


def sections(text: str) -> list[str]:
    """What stands below each `## ` heading: inputs, outputs, example, errors."""
    return re.split(r"^## .*$", text, flags=re.M)[1:]


def rows(section: str) -> dict[str, list[str]]:
    """Id -> the other cells, of a table whose first cells hold the id in backticks."""
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in section.splitlines() if line.startswith("|")]
    found = [[one.strip() for one in line] for line in cells[2:]]
    return {re.findall(r"`(\w+)`", line[0])[0]: line[1:] for line in found}


def inputs_of(node: str) -> dict[str, tuple[str, dict]]:
    declared = INFO[node]["input"]
    return {**declared.get("required", {}), **declared.get("optional", {})}


def test_there_is_a_page_for_each_node_and_for_nothing_else():
    assert {path.stem for path in DOCS.glob("*.md")} == set(CLASSES)
    assert {path.parent.name for path in TRANSLATED} <= set(CLASSES)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_it_has_what_a_page_needs(page):
    text = read(page)
    assert text.startswith("# ") and len(sections(text)) == 4
    assert len(sections(text)[2].strip()) > 30 and re.search(r"`\w|\d", sections(text)[2]), "no example with values"
    assert re.findall(r"^> .+", sections(text)[3], flags=re.M), "no errors"
    assert re.findall(r"!\[[^\]]{8,}\]\(", text), "no picture with a description"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_input_is_explained_as_it_is(page):
    table, declared = rows(sections(read(page))[0]), inputs_of(node_of(page))
    assert list(table) == list(declared)
    for name, (kind, extra) in declared.items():
        type_cell, default_cell, meaning = table[name]
        assert len(meaning) > 8, f"{name} is not explained"
        if kind in ("INT", "FLOAT"):
            numbers = re.findall(r"-?\d+(?:\.\d+)?", type_cell)
            assert [float(one) for one in numbers] == [float(extra["min"]), float(extra["max"])], f"the range of {name}"
            assert float(default_cell.strip("`")) == extra["default"], f"the default of {name}"
        elif kind in ("COMBO", "STRING"):
            assert default_cell.strip("`") == str(extra.get("default", "")), f"the default of {name}"
        else:
            assert set(kind.split(",")) <= set(re.findall(r"\w+", type_cell)), f"the type of {name}"
        if kind == "COMBO" and not any(key.endswith("_upload") for key in extra):
            files = any(str(one).endswith(".safetensors") for one in extra["options"])
            told = [one for one in extra["options"] if one in meaning]
            assert files or len(told) >= len(extra["options"]) // 2, f"the choices of {name} are not told"


def labelled(page: Path, kind: str) -> dict[str, str]:
    """Id -> how the page's first column must name an input or output (`kind`): as the editor does in the page's
    language, with the id in brackets where it is another word."""
    language = page.stem if page in TRANSLATED else "en"
    named = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))[node_of(page)].get(kind, {})
    schema = CLASSES[node_of(page)].GET_SCHEMA()
    ids = {one.id: one.id for one in schema.inputs}
    if kind == "outputs":
        ids = {one.id: str(number) for number, one in enumerate(schema.outputs)}
    labels = {name: named.get(key, {}).get("name", name) for name, key in ids.items()}
    return {name: f"`{name}`" if label == name else f"{label} (`{name}`)" for name, label in labels.items()}


def first_cells(section: str) -> list[str]:
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [line.split("|")[1].strip() for line in lines[2:]]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tables_name_things_as_the_editor_shows_them(page):
    inputs, outputs = sections(read(page))[:2]
    assert first_cells(inputs) == list(labelled(page, "inputs").values())
    assert first_cells(outputs) == list(labelled(page, "outputs").values())


def test_labels_are_another_word_often_enough_to_be_worth_the_test():
    """If nothing were read from the locales, every id would be its own label, and the test above told nothing."""
    page = DOCS / "SoraDiTTrainModel.md"
    assert labelled(page, "inputs")["sample_every"] == "sample every (`sample_every`)"
    assert labelled(page, "inputs")["batch"] == "`batch`"
    chinese = labelled(DOCS / "SoraDiTTrainModel" / "zh.md", "inputs")
    assert len(set(chinese.values()) & {f"`{name}`" for name in chinese}) < len(chinese) / 2


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_output_is_explained(page):
    schema, section = CLASSES[node_of(page)].GET_SCHEMA(), sections(read(page))[1]
    table = rows(section) if "|" in section else {}
    assert {name: cells[0] for name, cells in table.items()} == {one.id: one.io_type for one in schema.outputs}
    assert all(len(cells[1]) > 4 for cells in table.values())


def pictures_in(text: str) -> list[str]:
    return re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pictures_are_there_and_small(page):
    """The editor takes links of every page, translated ones too, as relative to docs/."""
    for link in pictures_in(read(page)):
        data = (DOCS / link).read_bytes()
        assert len(data) < LONGEST_PICTURE, link
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.width <= 1000 and picture.convert("L").getextrema()[0] < 200, f"{link} is empty"


def test_no_picture_is_left_behind_and_all_are_small_together():
    used = {link for page in PAGES for link in pictures_in(read(page))}
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*") if path.suffix in (".webp", ".png", ".jpg")}
    assert used == there
    assert sum((DOCS / link).stat().st_size for link in there) < ALL_PICTURES


@pytest.mark.parametrize("page", TRANSLATED, ids=name_of)
def test_a_translation_quotes_the_same_errors(page):
    def quoted(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.startswith("> ")]

    assert quoted(read(page)) == quoted(read(DOCS / f"{node_of(page)}.md"))


def test_quoted_errors_are_what_the_nodes_say(tmp_path):
    """Sentences that can be had without a model; a person searches the page for what the screen says."""
    said = {}
    with use(Session(output_dir=tmp_path, input_dir=tmp_path, models_dirs=[tmp_path])):
        for node, values in (
            ("SoraDiTEmptyLatent", {"width": 100}),
            ("SoraDiTEmptyLatent", {"frames": 16}),
            ("SoraDiTSaveVideo", {"filename_prefix": "../x"}),
            ("SoraDiTSaveVideo", {"container": "mp4", "codec": "vp9"}),
            ("SoraDiTLoadVideo", {"video": "nope.mp4"}),
            ("SoraDiTLoadModel", {"model": "sora-dit-startr.safetensors"}),
            ("SoraDiTLoadLora", {"lora": "my_baloons.safetensors"}),
            ("SoraDiTClipDataset", {"folder": "my_clip"}),
            ("SoraDiTClipDataset", {"frames": 24}),
            ("SoraDiTSkyDataset", {"width": 100}),
            ("SoraDiTSkyDataset", {"fps": 0.0}),
            ("SoraDiTNewModel", {"width": 250, "heads": 4}),
            ("SoraDiTTrainModel", {"sample_prompts": "a\nb\nc\nd\ne"}),
            ("SoraDiTTrainingView", {"run": " "}),
        ):
            said.setdefault(node, []).append(CLASSES[node].validate_inputs(**values))
    for page in PAGES:
        quotes = re.findall(r"^> (.+)", sections(read(page))[3], flags=re.M)
        for sentence in said.get(node_of(page), []):
            assert any(quote in sentence for quote in quotes), f"{name_of(page)} does not quote: {sentence}"
