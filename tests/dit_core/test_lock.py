"""The lock of a folder where the disk does not go along; who holds whom off is tested with trainings and caches."""

from __future__ import annotations

import pytest
from sora_dit.dit_core.lock import FolderInUse, folder_lock


def test_a_full_disk_stops_nobody_who_only_wants_in(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    reached = []
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # not a byte can be written
    try:
        with folder_lock(tmp_path, "a training"):
            reached.append("inside")
            with pytest.raises(FolderInUse, match="in use by another process"), folder_lock(tmp_path, "another"):
                pass
        reached.append("out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert reached == ["inside", "out"]
