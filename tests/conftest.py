"""Two processes share the machine (see pyproject.toml): each of them, and what it starts, gets one thread."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported
