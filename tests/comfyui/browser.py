"""The editor of a running ComfyUI in a headless Chromium; used by test_editor.py and screenshots.py.

Needs playwright; CHROMIUM names a browser that is installed.
"""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

READY = "() => window.app?.graph && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 100"
BOUNDS = """(() => {  // left, top, right, bottom of all groups and nodes
    const groups = app.graph._groups.map(g => [g._pos[0], g._pos[1], g._size[0], g._size[1]])
    const boxes = [...groups, ...app.graph._nodes.map(n => [n.pos[0], n.pos[1] - 30, n.size[0], n.size[1] + 30])]
    return [Math.min(...boxes.map(b => b[0])), Math.min(...boxes.map(b => b[1])),
            Math.max(...boxes.map(b => b[0] + b[2])), Math.max(...boxes.map(b => b[1] + b[3]))]
})()"""
SIDE, ABOVE, BELOW, MARGIN = 80, 125, 80, 30  # pixels of the page for the bars of the editor, and around
FIT = f"""() => {{  // everything in view
    const [left, top, right, bottom] = {BOUNDS}, ds = app.canvas.ds, view = app.canvas.canvas
    const ratio = window.devicePixelRatio || 1, wide = view.width / ratio - {SIDE + MARGIN}
    ds.scale = Math.min(wide / (right - left), (view.height / ratio - {ABOVE + BELOW}) / (bottom - top))
    ds.offset = [-left + {SIDE} / ds.scale, -top + {ABOVE} / ds.scale]
    app.canvas.setDirty(true, true)
}}"""
ALONE = """async () => {  // closes the tabs of all workflows but the one in view
    const tabs = app.extensionManager.workflow
    for (const one of tabs.openWorkflows.filter(w => w.path !== tabs.activeWorkflow.path)) await tabs.closeWorkflow(one)
}"""
OUTSIDE = """() => app.graph._nodes.filter(n => {  // nodes that do not lie inside exactly one group, with their title
    const inside = app.graph._groups.filter(g => g._pos[0] <= n.pos[0] && g._pos[1] <= n.pos[1] - 30
        && n.pos[0] + n.size[0] <= g._pos[0] + g._size[0] && n.pos[1] + n.size[1] <= g._pos[1] + g._size[1])
    return inside.length != 1
}).map(n => `${n.type}: ${n.pos} ${n.size}`)"""
PLAYING = """async () => {  // seconds of each video on the canvas that can be played
    const found = []
    for (const video of document.querySelectorAll('video')) {
        for (let i = 0; i < 30 && video.readyState < 2; i++) await new Promise(r => setTimeout(r, 100))
        if (video.readyState >= 2 && !video.error) found.push(video.duration)
    }
    return found
}"""
DROP = """([name, type, text]) => {  // as if a person had dropped the file on the empty canvas
    const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0)), carried = new DataTransfer()
    carried.items.add(new File([bytes], name, {type}))
    app.canvas.canvas.dispatchEvent(new DragEvent('drop', {dataTransfer: carried, bubbles: true, cancelable: true}))
}"""
# What a browser takes each ending for
TYPES = {"mp4": "video/mp4", "webm": "video/webm", "mkv": "video/x-matroska", "webp": "image/webp", "png": "image/png",
         "latent": ""}  # fmt: skip


class Editor:
    """One page of the editor."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(url)
        page.wait_for_function(READY, timeout=60_000)

    def get(self, path: str, data: Any = None) -> Any:
        """JSON from the server, of a POST when there is `data`."""
        body = None if data is None else json.dumps(data).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, body), timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def load(self, workflow: dict[str, Any], name: str | None = None) -> None:
        """Open a workflow as the template dialog does, in a tab called `name`."""
        self.page.evaluate("([workflow, name]) => app.loadGraphData(workflow, true, true, name)", [workflow, name])
        self.page.wait_for_timeout(800)
        self.page.evaluate(FIT)

    def alone(self) -> None:
        """Close the tabs of the other workflows."""
        self.page.evaluate(ALONE)

    def set(self, **widgets: Any) -> None:
        """Set widgets wherever they have these names."""
        self.page.evaluate(
            """given => { for (const node of app.graph._nodes) for (const widget of node.widgets ?? [])
                if (widget.name in given) widget.value = given[widget.name] }""",
            widgets,
        )

    def set_of(self, kinds: dict[str, dict[str, Any]]) -> None:
        """Set widgets of nodes of a type: {type: {widget: value}}."""
        self.page.evaluate(
            """kinds => { for (const node of app.graph._nodes) for (const widget of node.widgets ?? [])
                if (widget.name in (kinds[node.type] ?? {})) widget.value = kinds[node.type][widget.name] }""",
            kinds,
        )

    def queue(self) -> dict[str, Any] | None:
        """Press Run; the errors by node if the server refuses."""
        self.page.evaluate("() => app.queuePrompt(0, 1)")
        return self.page.evaluate("() => app.lastNodeErrors")

    def run(self, timeout: float = 300.0) -> dict[str, Any]:
        """Queue what is open and wait; returns its entry in the history."""
        before = set(self.get("/history"))
        if errors := self.queue():
            return {"status": {"status_str": "refused"}, "outputs": {}, "errors": errors}
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            done = {key: entry for key, entry in self.get("/history").items() if key not in before}
            if done:
                self.page.wait_for_timeout(1500)  # the video is fetched by the node
                return next(iter(done.values()))
            self.page.wait_for_timeout(300)
        raise TimeoutError(f"no result after {timeout:g} s")

    def cancel(self) -> None:
        """Press the cross."""
        self.get("/interrupt", {})
        self.page.wait_for_timeout(1500)

    def node_types(self) -> list[str]:
        """Types of the nodes on the canvas, sorted."""
        return sorted(self.page.evaluate("() => app.graph._nodes.map(n => n.type)"))

    def missing(self) -> list[str]:
        """Types on the canvas that this editor does not know."""
        known = set(self.page.evaluate("() => Object.keys(LiteGraph.registered_node_types)"))
        return [one for one in self.node_types() if one not in known and one not in ("MarkdownNote", "Note")]

    def said(self) -> str:
        """What a person can read about an error: text of the dialogs, or of the list that newer editors have."""
        details = self.page.get_by_text("View details")
        if details.count():
            details.first.click()
            self.page.wait_for_timeout(1000)
            info = "[class*='lucide--info']"
            self.page.evaluate(
                f"() => document.querySelectorAll(\"{info}\").forEach(e => e.closest('button')?.click())"
            )
            self.page.wait_for_timeout(1000)
        return self.page.evaluate(
            """() => [...document.querySelectorAll('.p-dialog, .p-toast, [role=dialog], [role=alert], [role=tooltip],'
                + '[data-testid*=error], [data-testid*=properties]')].map(e => e.innerText).join('\\n')"""
        )

    def drop(self, name: str, content: bytes) -> None:
        """Drop a file on the canvas."""
        import base64

        kind = TYPES[name.rsplit(".")[-1]]
        self.page.evaluate(DROP, [name, kind, base64.b64encode(content).decode()])
        self.page.wait_for_timeout(1500)

    def clear(self) -> None:
        """An empty canvas."""
        self.page.evaluate("() => app.graph.clear()")

    def picture(self, path: Path) -> None:
        """Save a screenshot, as large as what is open needs to be read."""
        path.parent.mkdir(parents=True, exist_ok=True)
        left, top, right, bottom = self.page.evaluate(f"() => {BOUNDS}")
        width = int(min(max(1600, (right - left) * 0.62 + SIDE + MARGIN), 2600))
        height = (width - SIDE - MARGIN) * (bottom - top) / (right - left) + ABOVE + BELOW
        self.page.set_viewport_size({"width": width, "height": int(min(max(height, 480), 1100))})
        self.page.wait_for_timeout(700)
        self.page.evaluate(FIT)
        self.page.wait_for_timeout(2000)  # videos lay out their controls anew
        self.page.screenshot(path=str(path))

    def begin_anew(self) -> None:
        """Load the page again, without the tabs that were open."""
        self.page.evaluate("() => { sessionStorage.clear(); localStorage.clear() }")
        self.page.goto(self.url)
        self.page.wait_for_function(READY, timeout=120_000)
        self.page.wait_for_timeout(1000)


@contextmanager
def editor(url: str, chromium: str | None = None, size: tuple[int, int] = (1600, 900)) -> Iterator[Editor]:
    """The editor of the ComfyUI at `url` in a headless browser, without its first-run dialog and its frame
    counter, small writing drawn."""
    from playwright.sync_api import sync_playwright

    settings = {"Comfy.TutorialCompleted": b"true", "Comfy.Minimap.Visible": b"false",
                "Comfy.Graph.CanvasInfo": b"false", "LiteGraph.Canvas.MinFontSizeForLOD": b"0"}  # fmt: skip
    for setting, value in settings.items():
        request = urllib.request.Request(f"{url}/api/settings/{setting}", value, method="POST")
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
