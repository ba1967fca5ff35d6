"""Which channels and members the other nodes had at a moment, so that one node tells of a change.

What is told, and to whom, is not known here.
"""

from collections.abc import Sequence

from hub.admin.requests import Admin, AdminRequest, Everywhere, Handlers
from hub.errors import HubError
from hub.hooks.spans import Spans


class HeldAt(AdminRequest[list[bool]], frozen=True, tag="held_at"):
    """Of each name and moment, whether this node had it then."""

    moments: list[tuple[str, float]]


class Held:
    """Carries it out at this node, and asks the others."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    def handlers(self) -> Handlers:
        return {HeldAt: self._held}

    async def _held(self, asked: HeldAt) -> list[bool]:
        return [self._spans.held(name, at_seconds) for name, at_seconds in asked.moments]


async def held_elsewhere(admin: Admin, moments: Sequence[tuple[str, float]]) -> Sequence[bool]:
    """Of each moment, whether a node had it; what nobody answers for was had by nobody.

    This node answers too: what begins or ends at a moment was not there before it.
    """
    try:
        answers = await admin.call(HeldAt(list(moments)), Everywhere())
    except HubError:
        return [False] * len(moments)
    if not answers.by_tag:
        return [False] * len(moments)
    return [any(held) for held in zip(*answers.by_tag.values(), strict=True)]
