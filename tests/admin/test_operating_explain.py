"""What a node answers an operator who asks why, beside what `hub.core.explaining` knows."""

import pytest

from hub.admin.drain import Drainer
from hub.admin.operating import Operations, Windows
from hub.core.ports import HistoryPage
from hub.errors import UnavailableError
from tests.core.small_node import SmallNode
from tests.core.subscribers import Subscriber


class Asked:
    """A node, one subscriber of `a` that got 1 and 2, and who asks about it."""

    def __init__(self) -> None:
        self.node = SmallNode()
        self.reader = Subscriber(self.node, "a")
        self.reader.publish("a", 2)
        self.operations = Operations(
            engine=self.node.engine,
            journal=self.node.journal,
            subscribing=self.node.subscribing,
            broker=self.node.memory,
            drainer=Drainer(self.node.engine, self.is_alone),
            windows=Windows(0, 0),
        )

    async def is_alone(self) -> bool:
        return True

    async def why(self, offset: int, epoch: str | None = None) -> dict[str, object]:
        asked: dict[str, str | int | None] = {
            "connection": self.reader.session.id,
            "channel": "a",
            "offset": offset,
        }
        asked["epoch"] = epoch
        return dict(await self.operations.carry_out("explain", asked))


async def test_the_head_is_told_of_the_epoch_of_now_only() -> None:
    """Of another one it is not known, and nothing is guessed."""
    asked = Asked()
    told = await asked.why(1)
    assert (told["answer"], told["head"]) == ("written", 2)
    told = await asked.why(1, "nonsense")
    assert told["answer"] == "unknown"
    assert "head" not in told


async def test_without_its_broker_a_node_answers_for_what_came_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And for nothing else: whether that was ever published it cannot know."""
    asked = Asked()

    async def away(*_: object) -> HistoryPage:
        raise UnavailableError("the broker is away")

    monkeypatch.setattr(asked.node.memory, "history", away)
    assert (await asked.why(2))["answer"] == "written"
    with pytest.raises(UnavailableError):
        await asked.why(3)
