"""The templates in a real editor: opened, run, played, and brought back from the file that was made.

Runs when COMFYUI_URL says where a ComfyUI with this pack is running and playwright is installed; skips otherwise.
CHROMIUM names an installed browser. Screenshots: `python tests/comfyui/browser.py --pictures DIR`.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

URL = os.environ.get("COMFYUI_URL")
pytestmark = [
    pytest.mark.skipif(not URL, reason="COMFYUI_URL is not set"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="playwright is not installed"),
]


def test_every_template_opens_runs_plays_and_comes_back(tmp_path):
    spec = importlib.util.spec_from_file_location("browser", Path(__file__).with_name("browser.py"))
    browser = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(browser)
    seen = browser.tour(URL, tmp_path)
    assert seen.pop("page errors") == []
    assert len(seen) >= 3
    for name, what in seen.items():
        assert what["status"] == "success" and what["missing"] == [], (name, what)
        assert what["videos"] >= 1 and what["files"], (name, what)
        assert what["restored"] is True, (name, what)
        assert (tmp_path / f"{name}.png").stat().st_size > 20_000
