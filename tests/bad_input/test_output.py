"""Where results go: folders that cannot be written, names that no file can have, disks that are full."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

import pytest

FOLDERS = [
    # --output, exit code, words
    ("flow.json", 2, ["The output folder flow.json is a file; expected a folder."]),
    ("flow.json/deeper", 2, ["flow.json/deeper", "cannot be written to: a part of the path is a file, not a folder."]),
    ("x" * 300, 2, ["The output folder", "cannot be written to: the name is too long."]),
    ("new/and/deep", 0, []),
]


@pytest.mark.parametrize(("folder", "code", "words"), FOLDERS, ids=[f"{row[0]:.20}" for row in FOLDERS])
def test_folder(desk, folder, code, words):
    desk.does("run", "flow.json", "--output", folder, code=code, words=words)


def test_folder_that_nobody_may_write_to(desk, monkeypatch):
    """As root every folder can be written to, so the system's answer is put in its place."""

    def refused(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    words = ["The output folder", "cannot be written to: permission is denied."]
    desk.does("run", "flow.json", "--output", "models", code=2, words=words)


NAME = 'use a name such as "clip" or "sky/clip".'
PREFIXES = [
    # the file name prefix, exit code, words
    ("", 2, ["Save video (node 9), filename_prefix: The file name prefix", "expected a name such as"]),
    ("  ", 2, ["expected a name such as"]),
    ("sky/", 2, ['"sky/"', "expected a name such as"]),
    ("..", 2, ["expected a name such as"]),
    ("../up", 2, ['"../up" leads out of the output folder', NAME]),
    ("a/../../up", 2, ["leads out of the output folder", NAME]),
    ("/etc/up", 2, ['"/etc/up" leads out of the output folder', NAME]),
    ("C:\\up", 2, ["leads out of the output folder", NAME]),
    ("~/up", 2, ['"~/up" leads out of the output folder', NAME]),
    ("what?", 2, ['"what?" holds ? which not every system takes in a file name']),
    ('<"a:b">', 2, ['holds < > : " which not every system takes']),
    ("two\nlines", 2, ["holds a line break or a control character"]),
    ("zero\0byte", 2, ["holds a line break or a control character"]),
    ("half \ud83d", 2, ["holds a line break or a control character"]),
    ("x" * 300, 2, ["(300 letters)", "is too long: 300 bytes", "180 between two slashes"]),
    ("🎈" * 46, 2, ["is too long: 184 bytes (an English letter is one)"]),
    ("deep/" * 300 + "x", 2, ["is too long: 1501 bytes", "at most 1000 in all"]),
    ("x" * 180, 0, []),
    ("🎈 夕日/%width%x%height%", 0, []),
    ("file/clip", 2, ['The file name prefix is "file/clip", but', "file is a file, not a folder."]),
]


@pytest.mark.parametrize(("prefix", "code", "words"), PREFIXES, ids=[f"{row[0]!a:.24}" for row in PREFIXES])
def test_prefix(desk, prefix, code, words):
    desk.write("out/file", "something else")
    outcome = desk.does("run", "flow.json", "--set", f"Save video.filename_prefix={prefix}", code=code, words=words)
    assert len(outcome.saved) == (code == 0)


# --- Disks -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(desk):
    """`disk("size=8k")`: the folder `disk` is a disk of its own, made with these options of tmpfs."""
    place = desk.folder / "disk"
    place.mkdir()

    def mount(options: str) -> str:
        tools = [shutil.which("mount"), shutil.which("umount")]
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if None in tools or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("needs the right to mount a disk")
        return "disk"

    yield mount
    if os.path.ismount(place):
        left = subprocess.run(["umount", str(place)], capture_output=True, text=True)
        if left.returncode:
            subprocess.run(["umount", "--lazy", str(place)], capture_output=True)
        assert left.returncode == 0, f"a file on the disk is still open, so its space is not free again: {left.stderr}"


def test_read_only_disk(desk, disk):
    words = ["The output folder", "cannot be written to: the file system is read-only."]
    desk.does("run", "flow.json", "--output", disk("ro"), code=2, words=words)
    desk.does("run", "flow.json", "--output", "disk/deeper", code=2, words=words)


def test_disk_that_takes_no_more_files(desk, disk):
    words = ["The output folder", "cannot be written to: the disk is full."]
    desk.does("run", "flow.json", "--output", disk("nr_inodes=1"), code=2, words=words)


@pytest.mark.parametrize("container", ["mp4", "mov", "webm", "mkv", "gif", "webp"])
@pytest.mark.parametrize("free", [0, 4096, 8192])
def test_disk_that_fills_up(desk, disk, container, free):
    """Without a free byte the header cannot be written, with a few the pictures or the end of the file."""
    disk("size=12k")
    desk.write("disk/others", bytes(12288 - free))
    settings = ["--set", f"Save video.container={container}", "--set", "Size.width=256", "--set", "Size.height=256"]
    words = ["Save video (node 9)", f"sky_00001_.{container} cannot be written: the disk is full."]
    desk.does("run", "flow.json", "--output", "disk", *settings, code=1, words=words)


@pytest.fixture
def little_memory(monkeypatch):
    """This process may have 64 GB, and no more is known of the machine."""
    if sys.platform != "linux":
        pytest.skip("needs a limit that holds")
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (64 * 10**9, before[1]))
    monkeypatch.setattr("sora_dit.nodes._checks.machine_memory", lambda: None)
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_memory_that_runs_out(desk, little_memory):
    """Where a system does not say beforehand how much there is, or others have taken it: 269 GB are asked for."""
    settings = ["Size.width=4096", "Size.height=4096", "Size.frames=4001", "Size.batch_size=64"]
    words = ["Size (node 4): there is not enough memory. Use a smaller width, height"]
    desk.does("run", "flow.json", *(part for one in settings for part in ("--set", one)), code=1, words=words)


# --- In a process of its own -----------------------------------------------------------------------------------------

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full and the limits of Linux")


@LINUX
def test_file_that_may_not_grow(desk, process):
    """What a quota does, where no disk can be mounted."""
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))"
    ran = process("run", "flow.json", "--set", "Size.width=256", "--set", "Size.height=256", limit=limit)
    assert ran.returncode == 1 and "Traceback" not in ran.stderr, ran.stderr
    assert "error: Save video (node 9): out/sky_00001_.mp4 cannot be written: the file would be larger" in ran.stderr
    assert sorted(path.name for path in desk.folder.iterdir()) == ["flow.json", "input", "models"]


@LINUX
def test_output_that_nobody_takes(desk, process):
    with open("/dev/full", "w") as full:
        ran = process("convert", "flow.json", stdout=full)
    assert ran.returncode == 1 and "Traceback" not in ran.stderr
    assert "error: the output of this command cannot be written: the disk is full." in ran.stderr


@LINUX
@pytest.mark.parametrize("closed", [1, 2])
def test_output_that_is_closed(desk, process, closed):
    """`>&-` and programs without a terminal start us so."""
    ran = process("check", "flow.json", preexec_fn=lambda: os.close(closed))
    assert ran.returncode == 0 and ran.stderr == "", ran.stderr
    assert ran.stdout == ("" if closed == 1 else "ok: 9 nodes to run, 1 output\n")
