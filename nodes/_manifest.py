"""Facts about a result inside ComfyUI, found again when a later node saves it.

ComfyUI caches results, so the node that saves may run without those before it, in another prompt. A node's facts are
therefore kept under a fingerprint of the part of the graph that leads to it: the same part gives the same result.
Outside ComfyUI the session does this.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections import OrderedDict
from typing import Any

_KEPT = 256  # facts of so many nodes; a few hundred bytes each
_facts: OrderedDict[str, dict[str, Any]] = OrderedDict()


def remember(prompt: dict[str, Any] | None, node_id: str | None, facts: dict[str, Any]) -> None:
    """Keep `facts` for node `node_id` of the API-format `prompt`; adds to what it said before."""
    if prompt is None or node_id not in prompt:
        return
    key = _fingerprint(prompt, node_id)
    _facts.setdefault(key, {}).update(facts)
    _facts.move_to_end(key)
    while len(_facts) > _KEPT:
        _facts.popitem(last=False)


def collect(prompt: dict[str, Any] | None, node_id: str | None) -> dict[str, Any]:
    """The manifest of node `node_id`: versions, and the facts of every node that leads to it, by node id."""
    from .. import __version__
    from ..headless.session import package_versions

    packages = {"sora-dit": __version__} | package_versions()
    manifest: dict[str, Any] = {
        "format": "sora_dit_manifest/1",
        "packages": packages,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    nodes = {}
    for name in _ancestors(prompt or {}, node_id):
        if facts := _facts.get(_fingerprint(prompt, name)):
            nodes[name] = dict(facts)
    return manifest | {"nodes": nodes}


def _links(prompt: dict[str, Any], node_id: str) -> dict[str, str]:
    """Input name -> id of the node it comes from."""
    inputs = prompt[node_id].get("inputs", {})
    return {
        name: value[0]
        for name, value in inputs.items()
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and value[0] in prompt
    }


def _ancestors(prompt: dict[str, Any], node_id: str | None) -> list[str]:
    found: list[str] = []
    waiting = [node_id] if node_id in prompt else []
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.append(name)
            waiting += _links(prompt, name).values()
    return sorted(found)


def _fingerprint(prompt: dict[str, Any], node_id: str) -> str:
    """Hash of a node's class, its constants and, by the same rule, all it is linked to; ids do not count."""
    known: dict[str, str] = {}

    def visit(name: str) -> str:
        if name not in known:
            links = _links(prompt, name)
            inputs = {
                key: [visit(links[key]), value[1]] if key in links else value
                for key, value in prompt[name].get("inputs", {}).items()
            }
            text = json.dumps([prompt[name].get("class_type"), inputs], sort_keys=True, default=str)
            known[name] = hashlib.sha256(text.encode()).hexdigest()
        return known[name]

    return visit(node_id)
