"""Judges what a subscriber sees of one channel, as it comes: the promise, in one place.

    view = View("ann")
    view.feed({"op": "subscribed", "position": "e:0"})
    view.feed({"op": "message", "offset": 2, "data": 1})
    assert view.faults == ["ann: ... after ('e', 0)"]

Every offset behind the position that a subscription began at comes once and in order, or a gap
names it; only a reset leads to another epoch, and never back to one. The view reads pushes as they
came over the wire. It does not know the publications, nor whether a loss is justified:
`tests.multi_node.checker` and `tests.core.streams` judge that by the views.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Push = dict[str, Any]
Place = tuple[str, int]
"""Epoch and offset."""


def place(position: str) -> Place:
    epoch, _, offset = position.rpartition(":")
    return epoch, int(offset)


@dataclass
class View:
    """One subscriber in one channel, through all its connections."""

    name: str
    position: Place | None = None
    delivered: dict[Place, object] = field(default_factory=dict)
    announced: dict[Place, str] = field(default_factory=dict)
    """Offsets that gaps said would not come, with the reason."""
    began: Place | None = None
    left: dict[str, int] = field(default_factory=dict)
    """Epochs that a reset ended, and how far the view had come in each ..."""
    left_at: dict[str, float] = field(default_factory=dict)
    """... and when."""
    entered: dict[str, int] = field(default_factory=dict)
    """Epochs that a reset began, and after which offset the view went on."""
    faults: list[str] = field(default_factory=list)
    reset_due: Place | None = None
    """A resume was answered with another position: the next push has to be a reset to it."""
    may_skip: Callable[[Place], bool] = field(default=lambda _: False, kw_only=True)
    """Whether the subscriber asked not to get what stands there, such as its own publications."""

    def feed(self, push: Push) -> None:
        """Take the next push of the channel, or the answer to a subscribe."""
        match push["op"]:
            case "subscribed":
                self._subscribed(place(push["position"]))
            case "message":
                self._message(push)
            case "gap" if push["reason"] == "reset":
                self._reset(place(push["position"]))
            case "gap":
                self._gap(push)

    def check(self) -> None:
        """Raise `AssertionError` where anything was wrong."""
        assert not self.faults, self.faults[:5]

    def _fault(self, text: str) -> None:
        self.faults.append(f"{self.name}: {text}")

    def _subscribed(self, start: Place) -> None:
        if self.position is None:
            self.position = self.began = start
        elif start != self.position:
            self.reset_due = start

    def _next(self, offset: int, push: Push) -> str:
        """The epoch of what begins at `offset`, which has to be the next one."""
        if self.position is None:
            self._fault(f"{push} came before the subscription")
            self.position = ("", 0)
        if self.reset_due is not None:
            self._fault(f"resumed {self.position}, got {self.reset_due} and no reset")
        epoch, before = self.position
        if offset <= before or self.silent(offset):
            self._fault(f"{push} after {self.position}")
        return epoch

    def silent(self, offset: int) -> list[int]:
        """Offsets between the view's position and `offset` that should have come or been named."""
        assert self.position is not None
        epoch, before = self.position
        return [at for at in range(before + 1, offset) if not self.may_skip((epoch, at))]

    def _message(self, push: Push) -> None:
        epoch, offset = self._next(push["offset"], push), int(push["offset"])
        if "position" in push and place(push["position"]) != (epoch, offset):
            self._fault(f"{push} in epoch {epoch}")
        self.delivered[epoch, offset] = push["data"]
        self.position = (epoch, offset)

    def _gap(self, push: Push) -> None:
        epoch = self._next(push["from"], push)
        if push["epoch"] != epoch:
            self._fault(f"{push} in epoch {epoch}")
        if push["to"] < push["from"]:
            self._fault(f"{push} has no range")
        for offset in range(push["from"], push["to"] + 1):
            self.announced[epoch, offset] = push["reason"]
        self.position = (epoch, int(push["to"]))

    def _reset(self, start: Place) -> None:
        if self.position is not None:
            epoch, offset = self.position
            if self.reset_due is None and epoch == start[0]:
                self._fault(f"reset to {start} in its own epoch")
            self.left[epoch] = offset
            self.left_at[epoch] = time.monotonic()
        if start[0] in self.left:
            self._fault(f"back in epoch {start[0]}, which a reset had ended")
        self.reset_due = None
        self.entered[start[0]] = start[1]
        self.position = start

    def owes(self, at: Place) -> bool:
        """Whether what stands there was this subscriber's, and it was not told of its loss."""
        epoch, offset = at
        starts = dict(self.entered)
        if self.began is not None:
            starts.setdefault(*self.began)
        if epoch not in starts or offset <= starts[epoch] or offset > self.left.get(epoch, offset):
            return False
        return at not in self.delivered and at not in self.announced

    def passed_over(self, at: Place) -> bool:
        """Whether a reset began its epoch behind what stands there, which never came."""
        epoch, offset = at
        known = at in self.delivered or at in self.announced
        return not known and epoch != self._first_epoch and offset <= self.entered.get(epoch, 0)

    @property
    def _first_epoch(self) -> str:
        return "" if self.began is None else self.began[0]
