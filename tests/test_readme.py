"""The README is true: its Python runs as printed, its commands are those of CI."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import sora_dit
from sora_dit.dit_core.training.starter.__main__ import options

ROOT = Path(sora_dit.__file__).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_python_of_the_readme_runs(number, tmp_path):
    for name in ("models", "workflows"):
        (tmp_path / name).symlink_to(ROOT / name)
    done = subprocess.run([sys.executable, "-c", BLOCKS[number]], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    videos = list(tmp_path.glob("*.mp4")) + list(tmp_path.glob("out/*.mp4"))
    assert len(videos) == 1 and videos[0].stat().st_size > 1000


def test_ci_runs_the_commands_of_the_readme():
    ci = (ROOT / ".ci" / "run").read_text().replace("\\\n    ", "")
    main_job = re.search(r'sora-dit run workflows/text_to_video.json --set "Prompt.text=[^"]*"', README).group()
    assert main_job in ci
    assert (
        'install --quiet -c constraints.txt -e ".[dev]"' in ci
        and 'pip install -c constraints.txt -e ".[dev]"' in README
    )
    assert "\npytest\n" in ci and "&& pytest\n" in README


def test_every_file_and_folder_it_names_is_there():
    for name in re.findall(
        r"`((?:dit_core|nodes|headless|workflows|models/starter|benchmarks|docs)/[\w./-]*)`", README
    ):
        assert (ROOT / name).exists(), name


def test_commands_that_rebuild_the_starter_are_understood():
    commands = re.findall(r"^python -m sora_dit\.dit_core\.training\.starter (.*)$", README.replace("\\\n", ""), re.M)
    stages = [options().parse_args(shlex.split(command)).stage for command in commands]
    assert stages == ["autoencoder", "autoencoder", "text", "transformer", "transformer", "transformer", "autoencoder"]
