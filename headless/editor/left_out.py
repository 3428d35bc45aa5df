"""Nodes of a file that its prompt does not have."""

from __future__ import annotations

from dataclasses import dataclass

MUTED, BYPASSED, SUBGRAPH, PRIMITIVE_VALUE = "muted", "bypassed", "a subgraph", "a primitive node"


@dataclass(frozen=True)
class LeftOut:
    """A node that the prompt does not have, by its id in the API format.

    state: MUTED or BYPASSED: it is not run. SUBGRAPH: the nodes inside are there in its stead; PRIMITIVE_VALUE: its
    value is. shows: (inner node id, widget) of what a subgraph shows without an input of its own for it. cuts: (node
    id, input) of what has no source in the prompt because of this node.
    """

    id: str
    type: str
    title: str
    state: str
    shows: tuple[tuple[str, str], ...] = ()
    cuts: tuple[tuple[str, str], ...] = ()

    @property
    def runs(self) -> bool:
        """Whether something stands in the prompt for it."""
        return self.state in (SUBGRAPH, PRIMITIVE_VALUE)
