"""The README's main job, split by node.

python benchmarks/starter_run.py [WORKFLOW.json] [--runs 3]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from machine import describe, table
from sora_dit.headless import run_workflow

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workflow", nargs="?", type=Path, default=ROOT / "workflows" / "text_to_video.json")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    results, whole = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.runs):
            started = time.perf_counter()
            results.append(run_workflow(args.workflow, output=f"{folder}/{number}"))
            whole.append(time.perf_counter() - started)
    titles = {node_id: node.get("_meta", {}).get("title", node_id) for node_id, node in results[0].prompt.items()}
    rows = [[titles[node]] + [result.seconds[node] for result in results] for node in results[0].seconds]
    rows.append(["whole run in this process", *whole])
    print(table(["node", *(f"run {n + 1}, s" for n in range(args.runs))], rows))
    print(describe())


if __name__ == "__main__":
    main()
