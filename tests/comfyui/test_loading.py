"""The pack is loaded by a real ComfyUI: quickly, quietly, touching nothing; and the zip of the registry as well."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import sora_dit

COMFYUI, PYTHON = os.environ.get("COMFYUI_PATH"), os.environ.get("COMFY_PYTHON", sys.executable)
PACK = Path(sora_dit.__file__).parent


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> dict:
    """What `loading.py` saw while it loaded the pack in ComfyUI's Python, the second time: compiled already."""
    base = tmp_path_factory.mktemp("loading")
    load(PACK, base)
    return load(PACK, base)


def load(pack: Path, base: Path) -> dict:
    """Load `pack` in a ComfyUI whose folders lie in `base`."""
    command = [PYTHON, str(Path(__file__).with_name("loading.py")), COMFYUI, str(pack), str(base)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env["PYTHONPYCACHEPREFIX"] = str(base / "compiled")
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, env=env)
    line = next((one for one in done.stdout.splitlines() if one.startswith("RESULT ")), None)
    assert line, done.stdout[-1000:] + done.stderr[-3000:]
    return json.loads(line[7:])


def test_no_warning_and_every_node(watched):
    assert watched["said"] == [] and watched["warnings"] == []
    assert len(watched["nodes"]) >= 12 and watched["loaded"] is True


def test_in_a_third_of_a_second(watched):
    assert watched["cpu seconds"] < 0.3


def test_no_cuda_call_no_file_written_and_no_torch_work(watched):
    assert watched["cuda"] == [] and watched["written"] == []


def test_no_package_beyond_those_of_comfyui(watched):
    assert watched["new packages"] == []


def test_a_broken_node_module_does_not_take_the_others_along(tmp_path):
    copy = tmp_path / "custom_nodes" / "comfyui-sora-dit"
    left = shutil.ignore_patterns(".git", "tests", "docs", "*.pyc", "__pycache__", "models")
    shutil.copytree(PACK, copy, ignore=left)
    (copy / "models" / "starter").mkdir(parents=True)
    (copy / "nodes" / "load_video.py").write_text("import a_package_that_is_not_there\n")
    found = load(copy, tmp_path)
    assert found["loaded"] is True and "SoraDiTLoadVideo" not in found["nodes"]
    assert {"SoraDiTLoadModel", "SoraDiTDenoise", "SoraDiTSaveVideo"} <= set(found["nodes"])
    assert any("load_video" in line and "a_package_that_is_not_there" in line for line in found["said"])


def test_the_server_serves_help_locales_and_templates(comfy):
    kinds = sorted(name for name in comfy.kinds if name.startswith("SoraDiT"))
    assert all(comfy.kinds[name]["python_module"] == "custom_nodes.comfyui-sora-dit" for name in kinds)
    for name in kinds:
        for place in (f"{name}.md", f"{name}/zh.md"):
            page = comfy.fetch_page(f"/extensions/comfyui-sora-dit/docs/{place}")
            assert page.startswith("# ") and "](" in page, place
            for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page):
                assert comfy.fetch_page(f"/extensions/comfyui-sora-dit/docs/{picture}", False), picture
    words = comfy.call("/api/i18n")
    assert all(set(kinds) <= set(words[language]["nodeDefs"]) for language in ("en", "zh"))
    offered = comfy.call("/api/workflow_templates")["comfyui-sora-dit"]
    assert sorted(offered) == sorted(path.stem for path in (PACK / "workflows").glob("*.json"))
    for name in offered:
        assert comfy.fetch_page(f"/api/workflow_templates/comfyui-sora-dit/{name}.jpg", False)[:2] == b"\xff\xd8"


def test_the_log_of_a_server_says_nothing_but_the_time(comfy):
    log = comfy.log.read_text().split("To see the GUI go to")[0]
    assert "IMPORT FAILED" not in log and "Cannot import" not in log
    lines = [line for line in log.splitlines() if "comfyui-sora-dit" in line]
    assert len(lines) == 1 and re.match(r"\s*\d+\.\d seconds: ", lines[0]), lines


@pytest.mark.skipif(not os.environ.get("COMFY_CLI"), reason="COMFY_CLI does not name comfy-cli's command")
def test_comfy_cli_packs_what_users_need_and_the_zip_runs(tmp_path, another):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(PACK), str(clone)], check=True)
    env = os.environ | {"DO_NOT_TRACK": "1", "HOME": str(tmp_path)}
    env["PATH"] = f"{Path(os.environ['COMFY_CLI']).parent}:{env['PATH']}"
    for words in (["node", "validate"], ["node", "pack"]):
        command = [os.environ["COMFY_CLI"], "--skip-prompt", "--no-enable-telemetry", *words]
        done = subprocess.run(command, cwd=clone, env=env, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(clone.glob("*.zip"))) as packed:
        names = packed.namelist()
        packed.extractall(tmp_path / "unpacked")
    tops = {name.split("/")[0] for name in names}
    assert tops <= {"__init__.py", "LICENSE", "README.md", "constraints.txt", "pyproject.toml", "nodes", "dit_core",
                    "headless", "locales", "models", "web", "workflows"}  # fmt: skip
    server = another(tmp_path / "unpacked")
    graph = server.graph()
    at = graph.start("sora-dit-starter.safetensors", 5)
    server.run(graph.show(at, graph.sample(at)))
