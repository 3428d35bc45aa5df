"""The editor's texts in other languages: `locales/LANGUAGE/nodeDefs.json` covers the schemas, no more and no less.

English is the schemas' own text, written out so that translators have something to translate:

    SORA_DIT_UPDATE=1 pytest tests/nodes/test_locales.py

The other languages are written by hand; the tests say what is missing.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import sora_dit
from sora_dit.headless.object_info import object_info
from sora_dit.nodes import node_classes

FOLDER = Path(sora_dit.__file__).parent / "locales"
LANGUAGES = sorted(path.name for path in FOLDER.iterdir())
# Older editors read these as their own message syntax: @ is a link, | a plural, {} a value.
SYNTAX = re.compile(r"[@|{}]")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
# Names that Chinese users know in Latin letters.
LATIN_NAMES = {"VAE", "CLIP", "CFG", "Sigmas"}


def schema_texts() -> dict[str, dict]:
    """What the schemas say, in the layout of nodeDefs.json."""
    found = {}
    for cls in node_classes():
        schema = cls.GET_SCHEMA()
        entry = {"display_name": schema.display_name, "description": schema.description}
        for kind, members in (("inputs", schema.inputs), ("outputs", schema.outputs)):
            texts = [{"name": one.display_name or one.id, "tooltip": one.tooltip} for one in members]
            keys = [one.id for one in members] if kind == "inputs" else map(str, range(len(texts)))
            if texts:
                entry[kind] = dict(zip(keys, texts, strict=True))
        found[schema.node_id] = entry
    return found


def leaves(tree: dict, path: str = "") -> dict[str, str]:
    """`node/inputs/steps/tooltip` -> text."""
    found = {}
    for key, value in tree.items():
        where = f"{path}/{key}" if path else key
        found |= leaves(value, where) if isinstance(value, dict) else {where: value}
    return found


def without_syntax(tree: dict) -> dict:
    """The tree without the texts that the editor would not show as they are: it falls back to the schema for them."""
    found = {key: without_syntax(value) if isinstance(value, dict) else value for key, value in tree.items()}
    return {key: value for key, value in found.items() if isinstance(value, dict) or not SYNTAX.search(value)}


def texts(language: str, name: str) -> dict:
    return json.loads((FOLDER / language / f"{name}.json").read_text(encoding="utf-8"))


def test_english_is_what_the_schemas_say():
    expected = without_syntax(schema_texts())
    path = FOLDER / "en" / "nodeDefs.json"
    if os.environ.get("SORA_DIT_UPDATE"):
        path.write_text(json.dumps(expected, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    renew = "the schemas have changed; renew with SORA_DIT_UPDATE=1 pytest tests/nodes/test_locales.py"
    assert texts("en", "nodeDefs") == expected, renew


@pytest.mark.parametrize("language", [one for one in LANGUAGES if one != "en"])
def test_a_translation_covers_exactly_the_schemas(language):
    there, wanted = leaves(texts(language, "nodeDefs")), leaves(schema_texts())
    assert sorted(set(wanted) - set(there)) == [], "not translated yet"
    assert sorted(set(there) - set(wanted)) == [], "not in any schema"


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_hold_nothing_that_the_editor_takes_for_its_own_syntax(language):
    for name in ("main", "nodeDefs"):
        for where, text in leaves(texts(language, name)).items():
            assert text.strip() and not SYNTAX.search(text), where


@pytest.mark.parametrize("language", LANGUAGES)
def test_ranges_are_those_of_the_schemas(language):
    known = leaves(texts(language, "nodeDefs"))
    for node, info in object_info(node_classes()).items():
        for name, (kind, extra) in {**info["input"].get("required", {}), **info["input"].get("optional", {})}.items():
            tooltip = known.get(f"{node}/inputs/{name}/tooltip", "")
            for bound in ("min", "max"):
                if kind in ("INT", "FLOAT") and tooltip:
                    shown = str(extra[bound]) if kind == "INT" else f"{extra[bound]:g}"
                    assert shown in tooltip, f"{language}: the {bound} of {node}.{name} is {shown}"


def test_chinese_is_chinese():
    for where, text in leaves(texts("zh", "nodeDefs")).items():
        assert CHINESE.search(text) or (where.endswith("/name") and text in LATIN_NAMES), f"{where}: {text}"


def test_categories_and_socket_types_of_our_own_have_names_in_every_language():
    english = leaves(texts("en", "main"))
    classes = [cls.GET_SCHEMA() for cls in node_classes()]
    own = {one.io_type for schema in classes for one in schema.outputs if one.io_type.startswith("SORA_")}
    assert {f"dataTypes/{kind}" for kind in own} <= set(english)
    assert {schema.category.split("/")[0] for schema in classes} == {"Sora DiT"}
    assert "nodeCategories/Sora DiT" in english
    for language in LANGUAGES:
        assert set(leaves(texts(language, "main"))) == set(english)
