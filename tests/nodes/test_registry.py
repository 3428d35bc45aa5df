"""What ComfyUI's registry and pip take from the repository is complete, and no more than users need."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sora_dit
from PIL import Image

tomllib = pytest.importorskip("tomllib", reason="part of Python from 3.11 on")

ROOT = Path(sora_dit.__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COMFY = PROJECT["tool"]["comfy"]
# What users get, and what stays in the repository.
SHIPPED = {
    "LICENSE", "README.md", "__init__.py", "constraints.txt", "dit_core", "headless", "locales", "models", "nodes",
    "pyproject.toml", "web", "workflows",
}  # fmt: skip
LEFT_OUT = {".ci", ".comfyignore", ".gitignore", "benchmarks", "docs", "tests"}
NEVER_COMMITTED = re.compile(r"^(\.git|.*cache.*|.*\.egg-info|build|dist|out|output|input|\.venv|\.hypothesis)$")


def picture(url: str) -> Image.Image:
    """The picture that a raw-file address of our repository leads to."""
    owner = PROJECT["project"]["urls"]["Repository"].removeprefix("https://github.com/")
    found = re.fullmatch(rf"https://raw\.githubusercontent\.com/{owner}/main/(.+)", url)
    assert found, f"{url} is no file of this repository"
    return Image.open(ROOT / found.group(1))


def test_the_entry_is_complete():
    assert COMFY["PublisherId"] and COMFY["DisplayName"]
    assert re.fullmatch(r">=\d+\.\d+\.\d+", COMFY["requires-comfyui"])
    project = PROJECT["project"]
    assert "comfyui" not in project["name"].lower(), "the registry wants no ComfyUI in the name"
    assert 40 < len(project["description"]) < 200
    for name in ("Repository", "Documentation", "Bug Tracker"):
        assert project["urls"][name].startswith(project["urls"]["Repository"])
    assert any(one.startswith("Operating System ::") for one in project["classifiers"])


def test_icon_and_banner_have_the_shape_that_the_registry_asks_for():
    with picture(COMFY["Icon"]) as icon, picture(COMFY["Banner"]) as banner:
        assert icon.width == icon.height <= 400
        assert banner.width * 9 == banner.height * 21


def test_everything_is_either_shipped_or_left_out():
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert all(line.startswith("/") for line in patterns), "without / at the start docs/ also leaves out web/docs/"
    assert {line.strip("/") for line in patterns} == LEFT_OUT
    there = {path.name for path in ROOT.iterdir() if not NEVER_COMMITTED.match(path.name)}
    assert there - SHIPPED - LEFT_OUT == set(), "new at the top: to be shipped, or for .comfyignore?"
    assert SHIPPED - there == set()


@pytest.mark.parametrize("folder", ["locales", "web", "workflows", "models"])
def test_pip_installs_every_file_that_is_no_python(folder):
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["sora_dit"]
    installed = {path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}
    there = {path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert there <= installed, "not in [tool.setuptools.package-data]"


def test_every_package_is_installed():
    packages = set(PROJECT["tool"]["setuptools"]["packages"])
    rooms = ("nodes", "headless", "dit_core")
    there = {path.parent for room in rooms for path in (ROOT / room).rglob("__init__.py")}
    assert {".".join(["sora_dit", *path.relative_to(ROOT).parts]) for path in there} <= packages
