"""A node answers an operator's "why did it not come?"; the cases are in
`hub.core.forensics.explaining`."""

from typing import Any

import pytest
from msgspec import to_builtins

from hub.admin.explain import MAX_RANGE, Explain, Explaining
from hub.core.ports import HistoryPage
from hub.errors import UnavailableError
from tests.core.small_node import SmallNode
from tests.core.subscribers import Subscriber


class Asked:
    """A node, one subscriber of `a` that got 1 and 2, and the handler that explains."""

    def __init__(self) -> None:
        self.node = SmallNode()
        self.reader = Subscriber(self.node, "a")
        self.reader.publish("a", 2)
        self.explaining = Explaining(self.node.evidence())

    async def why(self, offset: int, epoch: str | None = None) -> Any:
        asked = Explain(self.reader.session.id, "a", offset, epoch)
        return to_builtins(await self.explaining.explain(asked))


async def test_the_head_is_told_of_the_epoch_of_now_only() -> None:
    """The head of another epoch is not known, and nothing is guessed."""
    asked = Asked()
    told = await asked.why(1)
    assert (told["answer"], told["head"]) == ("written", 2)
    told = await asked.why(1, "nonsense")
    assert told["answer"] == "unknown"
    assert "head" not in told


async def test_without_its_broker_a_node_answers_for_what_came_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The node knows what it wrote itself; about any other offset it answers
    that the broker is away."""
    asked = Asked()

    async def away(*_: object) -> HistoryPage:
        raise UnavailableError("the broker is away")

    monkeypatch.setattr(asked.node.memory, "history", away)
    assert (await asked.why(2))["answer"] == "written"
    with pytest.raises(UnavailableError):
        await asked.why(3)


async def test_a_range_of_offsets_is_answered_in_stretches() -> None:
    """One question for a page of them; each as if it were asked by itself."""
    asked = Asked()
    asked.reader.block()
    asked.reader.publish("a", 3)
    told = to_builtins(
        await asked.explaining.explain(Explain(asked.reader.session.id, "a", 1, None, 7))
    )
    assert told["answer"] == "written"
    by_offset = {
        offset: each["answer"]
        for each in told["stretches"]
        for offset in range(each["first"], each["last"] + 1)
    }
    assert by_offset == {n: (await asked.why(n))["answer"] for n in range(1, 8)}
    assert {"written", "queued", "not_published"} == set(by_offset.values())
    assert "stretches" not in await asked.why(1)
    most = await asked.explaining.explain(Explain("nobody", "a", 1, None, 10**9))
    assert [(each.answer, each.last) for each in most.stretches or ()][-1] == (
        "not_published",
        MAX_RANGE,
    )
