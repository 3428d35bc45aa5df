"""Drives a headless Chromium against a running ComfyUI that has the pack; used by test_editor.py, or by hand:

    python tests/comfyui/browser.py --url http://127.0.0.1:8188 --pictures docs/editor

For every template of the pack: load it, run it, wait for its video or pictures, take a screenshot; then drop the video
file back on the editor and see the workflow come back. Needs playwright; CHROMIUM names a browser that is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

READY = "() => window.app?.graph && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 100"
FIT = """() => {  // everything in view, with a small margin
    const nodes = app.graph._nodes, ds = app.canvas.ds, view = app.canvas.canvas
    const left = Math.min(...nodes.map(n => n.pos[0])), top = Math.min(...nodes.map(n => n.pos[1] - 60))
    const right = Math.max(...nodes.map(n => n.pos[0] + n.size[0]))
    const bottom = Math.max(...nodes.map(n => n.pos[1] + n.size[1]))
    const ratio = window.devicePixelRatio || 1, wide = view.width / ratio - 130, high = view.height / ratio - 190
    ds.scale = Math.min(wide / (right - left), high / (bottom - top))
    ds.offset = [-left + 90 / ds.scale, -top + 140 / ds.scale]  // clear of the bars
    app.canvas.setDirty(true, true)
}"""


class Editor:
    """One page of the editor."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(url)
        page.wait_for_function(READY, timeout=60_000)

    def get(self, path: str) -> Any:
        """JSON from the server."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def templates(self, pack: str) -> list[str]:
        """Names of the example workflows that the pack offers."""
        return sorted(self.get("/api/workflow_templates")[pack])

    def load(self, workflow: dict[str, Any]) -> None:
        """Open a workflow as the template dialog does."""
        self.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
        self.page.wait_for_timeout(500)
        self.page.evaluate(FIT)

    def run(self, timeout: float = 300.0) -> dict[str, Any]:
        """Queue what is open and wait; returns its entry in the history."""
        before = set(self.get("/history"))
        self.page.evaluate("() => app.queuePrompt(0, 1)")
        if errors := self.page.evaluate("() => app.lastNodeErrors"):
            return {"status": {"status_str": "refused"}, "outputs": {}, "errors": errors}
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            done = {key: entry for key, entry in self.get("/history").items() if key not in before}
            if done:
                self.page.wait_for_timeout(1500)  # the video is fetched by the node
                return next(iter(done.values()))
            self.page.wait_for_timeout(300)
        raise TimeoutError(f"no result after {timeout:g} s")

    def node_types(self) -> list[str]:
        """Types of the nodes on the canvas, sorted."""
        return sorted(self.page.evaluate("() => app.graph._nodes.map(n => n.type)"))

    def missing(self) -> list[str]:
        """Types on the canvas that this editor does not know."""
        known = set(self.page.evaluate("() => Object.keys(LiteGraph.registered_node_types)"))
        return [one for one in self.node_types() if one not in known]

    def drop(self, name: str, content: bytes) -> None:
        """Drop a file on the canvas."""
        self.page.evaluate(
            """([name, bytes]) => app.handleFile(new File([new Uint8Array(bytes)], name,
                {type: name.endsWith('.png') ? 'image/png' : 'video/mp4'}))""",
            [name, list(content)],
        )
        self.page.wait_for_timeout(1000)

    def clear(self) -> None:
        """An empty canvas."""
        self.page.evaluate("() => app.graph.clear()")

    def picture(self, path: Path) -> None:
        """Save a screenshot."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.evaluate(FIT)
        self.page.wait_for_timeout(700)
        self.page.screenshot(path=str(path))


@contextmanager
def editor(url: str, chromium: str | None = None, size: tuple[int, int] = (1600, 900)) -> Iterator[Editor]:
    """The editor of the ComfyUI at `url` in a headless browser."""
    from playwright.sync_api import sync_playwright

    request = urllib.request.Request(url + "/api/settings/Comfy.TutorialCompleted", b"true", method="POST")
    request.add_header("Content-Type", "application/json")
    urllib.request.urlopen(request, timeout=30).close()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium or os.environ.get("CHROMIUM"), args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            page = browser.new_page(viewport={"width": size[0], "height": size[1]})
            yield Editor(page, url)
        finally:
            browser.close()


def output_files(entry: dict[str, Any]) -> list[dict[str, str]]:
    """Saved files of a history entry."""
    lists = (files for outputs in entry["outputs"].values() for files in outputs.values() if isinstance(files, list))
    return [one for files in lists for one in files if isinstance(one, dict) and one.get("type") == "output"]


def fetch(url: str, file: dict[str, str]) -> bytes:
    """Content of an output file."""
    query = urllib.parse.urlencode({name: file[name] for name in ("filename", "subfolder", "type")})
    with urllib.request.urlopen(f"{url}/view?{query}", timeout=60) as answer:
        return answer.read()


def preview(ed: Editor, workflow: dict[str, Any], path: Path, steps: int = 120) -> None:
    """Screenshot of a run on its way, with the latent's preview on the denoise node (--preview-method latent2rgb)."""
    ed.load(workflow)
    ed.page.evaluate(
        """steps => { for (const node of app.graph._nodes) for (const widget of node.widgets ?? [])
            if (widget.name === "steps") widget.value = steps }""",
        steps,
    )
    ed.page.evaluate("() => app.queuePrompt(0, 1)")
    ed.page.wait_for_timeout(6000)
    ed.picture(path)
    urllib.request.urlopen(urllib.request.Request(ed.url + "/interrupt", b"{}", method="POST"), timeout=30).close()
    ed.page.wait_for_timeout(1000)


def tour(url: str, pictures: Path, pack: str = "", chromium: str | None = None) -> dict[str, Any]:
    """Run every template of the pack; screenshots `<template>.png`. Returns what was seen, by template."""
    seen: dict[str, Any] = {}
    with editor(url, chromium) as ed:
        pack = pack or next(name for name in ed.get("/api/workflow_templates") if "sora" in name.lower())
        names = ed.templates(pack)
        found = {name: ed.get(f"/api/workflow_templates/{pack}/{urllib.parse.quote(name)}.json") for name in names}
        for name, workflow in sorted(found.items(), key=lambda one: "LoadVideo" in json.dumps(one[1])):
            ed.load(workflow)  # those that make clips first: others take one up
            types, missing = ed.node_types(), ed.missing()
            entry = ed.run()
            ed.picture(pictures / f"{name}.png")
            files = output_files(entry)
            shown = ed.page.evaluate("() => document.querySelectorAll('video').length")
            restored = None
            if files:
                ed.clear()
                ed.drop(files[0]["filename"], fetch(url, files[0]))
                restored = ed.node_types() == types
            if name == "text_to_video":
                preview(ed, workflow, pictures / "preview.png")
            seen[name] = {"status": entry["status"]["status_str"], "missing": missing, "videos": shown,
                          "files": [one["filename"] for one in files], "restored": restored}  # fmt: skip
        seen["page errors"] = ed.errors
    return seen


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default=os.environ.get("COMFYUI_URL", "http://127.0.0.1:8188"))
    parser.add_argument("--pictures", type=Path, default=Path("editor_pictures"))
    parser.add_argument("--chromium", default=os.environ.get("CHROMIUM"))
    given = parser.parse_args()
    json.dump(tour(given.url, given.pictures, chromium=given.chromium), sys.stdout, indent=1)
