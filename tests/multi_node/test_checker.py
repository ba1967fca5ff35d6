"""The checker finds every kind of fault it is there for: lies told to it by hand."""

from typing import Any

import pytest

from tests.multi_node.checker import Truth, faults
from tests.support.stream import Push, View

SAID = {("e", number): f"data {number}" for number in range(1, 6)}
CALM = Truth(SAID, SAID, ("e", 5), may_lose=False, epochs=1)


def subscribed(offset: int = 0, epoch: str = "e") -> Push:
    return {"op": "subscribed", "position": f"{epoch}:{offset}"}


def message(offset: int, data: object = None) -> Push:
    return {"op": "message", "offset": offset, "data": data or f"data {offset}"}


def gap(first: int, last: int, reason: str = "broker") -> Push:
    return {"op": "gap", "epoch": "e", "from": first, "to": last, "reason": reason}


def reset(epoch: str, offset: int) -> Push:
    return {"op": "gap", "epoch": epoch, "position": f"{epoch}:{offset}", "reason": "reset"}


def judged(*pushes: Push, **truth: Any) -> str:
    view = View("a")
    for push in pushes:
        view.feed(push)
    return "; ".join(faults([view], Truth(**{**_fields(CALM), **truth})))


def _fields(truth: Truth) -> dict[str, Any]:
    return {name: getattr(truth, name) for name in Truth.__dataclass_fields__}


def test_a_whole_stream_has_no_fault() -> None:
    """A resume may be in it, and it may begin in the middle."""
    assert not judged(subscribed(), *map(message, range(1, 6)))
    assert not judged(subscribed(), message(1), subscribed(1), *map(message, range(2, 6)))
    assert not judged(subscribed(3), message(4), message(5))


@pytest.mark.parametrize(
    ("pushes", "fault"),
    [
        ([subscribed(), message(1), message(3), message(4), message(5)], "after ('e', 1)"),
        ([subscribed(), message(2)], "after ('e', 0)"),
        ([subscribed(), message(1), message(1)], "after ('e', 1)"),
        ([subscribed(), message(1), message(2)], "ended at ('e', 2)"),
        ([subscribed(), message(1), message(2)], "('e', 3) was published, is missing"),
        ([subscribed(), gap(1, 5)], "is in history"),
        ([subscribed(), message(1, "other")], "is 'other', elsewhere 'data 1'"),
        ([subscribed(), message(1), message(2, "data 1")], "came twice"),
        ([subscribed(), message(1), subscribed(2), message(3)], "and no reset"),
        ([subscribed(), message(1), reset("e", 1)], "in its own epoch"),
        ([subscribed(), reset("f", 0), message(1)], "ended at ('f', 1)"),
        ([subscribed(), reset("f", 0), reset("e", 0)], "back in epoch e"),
        ([subscribed(), gap(2, 3)], "after ('e', 0)"),
        ([subscribed(), message(1) | {"position": "f:1"}], "in epoch e"),
    ],
)
def test_a_fault_is_named(pushes: list[Push], fault: str) -> None:
    assert fault in judged(*pushes)


def test_a_gap_without_a_cause_is_a_fault_and_with_one_is_none() -> None:
    """Where neither history nor the stream has what it names."""
    pushes = [subscribed(), gap(1, 2), *map(message, range(3, 6))]
    held = {at: data for at, data in SAID.items() if at[1] > 2}
    assert "nothing was wrong" in judged(*pushes, held=held)
    assert not judged(*pushes, held=held, may_lose=True)


def test_a_reset_explains_what_was_lost_behind_it_and_nothing_before() -> None:
    """Publications behind the place where the view left the epoch are explained by the reset."""
    new = {("f", 1): "new"}
    truth = {"acknowledged": SAID | new, "held": new, "head": ("f", 1), "epochs": 2}
    end = [reset("f", 0), message(1, "new")]
    assert not judged(subscribed(), message(1), *end, **truth)
    assert "2 epochs" in judged(subscribed(), message(1), *end, **(truth | {"epochs": 1}))
    assert "f', 1) was published" in judged(subscribed(), reset("f", 0), **truth)
    assert "f', 1) was passed over and is in" in judged(subscribed(), reset("f", 1), **truth)
