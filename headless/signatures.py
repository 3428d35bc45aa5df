"""When is a node's result still good? Equal signature, equal result: class, constants, fingerprint, all ancestors.

The node's id does not count, so two equal nodes run once, as in ComfyUI; `not_idempotent` nodes are never shared.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
from collections.abc import Iterable
from typing import Any

from .api_node import overrides
from .calls import Values, call_all
from .graph import Plan, PlannedNode
from .session import Session

_log = logging.getLogger("sora_dit")
_never_equal = itertools.count()


def dependency_order(plan: Plan, start: Iterable[str]) -> list[str]:
    """Ids so that sources come before their consumers, one output's branch after the other (depth first)."""
    order: list[str] = []
    seen: set[str] = set()
    for output in start:
        stack = [(output, False)]
        while stack:
            node_id, leaving = stack.pop()
            if leaving:
                order.append(node_id)
            elif node_id not in seen:
                seen.add(node_id)
                stack.append((node_id, True))
                sources = [link.source for link in plan.nodes[node_id].links.values()]
                stack += [(source, False) for source in reversed(sources)]
    return order


async def signatures(plan: Plan, order: Iterable[str], session: Session) -> dict[str, str]:
    """{node id: signature} for the ids in `order` (sources first)."""
    surroundings = [session.device, session.dtype, str(session.output_dir), str(session.input_dir)]
    surroundings += map(str, session.models_dirs)
    known: dict[str, str] = {}
    for node_id in order:
        node = plan.nodes[node_id]
        parts = {
            "class": node.class_type,
            "constants": node.constants,
            "links": {name: [known[link.source], link.slot] for name, link in node.links.items()},
            "fingerprint": await _fingerprint(node, session),
            "id": node_id if node.schema.not_idempotent else None,
            "session": surroundings,
        }
        text = json.dumps(parts, sort_keys=True, default=repr)
        known[node_id] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return known


async def _fingerprint(node: PlannedNode, session: Session) -> Any:
    """What `fingerprint_inputs` says about the constants; NaN or an exception never equals anything."""
    if not overrides(node.cls, "fingerprint_inputs"):
        return None
    values: Values = {name: [None] for name in node.links} | {k: [v] for k, v in node.constants.items()}
    try:
        answers = await call_all(node, "fingerprint_inputs", values, session)
    except Exception as error:  # as in ComfyUI: the node then simply runs again
        _log.debug("%s: fingerprint_inputs failed: %s", node.name, error)
        return f"never {next(_never_equal)}"
    if any(isinstance(one, float) and math.isnan(one) for one in answers):
        return f"never {next(_never_equal)}"
    return [repr(one) for one in answers]
