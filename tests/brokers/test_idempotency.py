"""Idempotency keys are bounded; at the bound whoever has most gives way, and nobody is refused."""

import random
import time
import tracemalloc

import pytest

from hub.brokers import idempotency
from hub.brokers.idempotency import IdempotencyKeys
from hub.core.ports import PublishRequest
from hub.core.publication import Position
from tests.brokers.conftest import memory_rig
from tests.core.fakes import FakeClock


class Keys:
    """Idempotency keys as a broker uses them: it looks for one, publishes, and remembers it."""

    def __init__(self, max_keys: int) -> None:
        self.clock = FakeClock()
        self.keys = IdempotencyKeys(ttl_seconds=300, clock=self.clock, max_keys=max_keys)
        self._offset = 0

    def use(self, publisher: str, key: str) -> bool:
        """Publish under a key; whether that was a repeat."""
        request = PublishRequest("a", b"1", publisher, idempotency_key=key)
        if (made := self.keys.find(request)) is not None:
            return made.duplicate
        self._offset += 1
        self.keys.remember(request, Position("e", self._offset))
        return False

    def knows(self, publisher: str, key: str) -> bool:
        request = PublishRequest("a", b"1", publisher, idempotency_key=key)
        return self.keys.find(request) is not None


async def test_at_the_bound_the_publishers_oldest_key_goes_and_nobody_is_refused() -> None:
    """The newest are remembered: a retry comes soon or not at all."""
    rig = memory_rig(max_keys=3)
    for number in range(10):
        assert not (await rig.publish(idempotency_key=str(number))).duplicate
    for number in (7, 8, 9):
        again = await rig.publish(idempotency_key=str(number))
        assert (again.duplicate, again.position.offset) == (True, number + 1)
    assert not (await rig.publish(idempotency_key="6")).duplicate


def test_a_publisher_that_floods_pushes_out_nobody_elses_keys() -> None:
    """A publisher with fewer keys loses none."""
    keys = Keys(100)
    for number in range(30):
        keys.use("backend", str(number))
    for number in range(5000):
        keys.use("flood", str(number))
    assert all(keys.knows("backend", str(number)) for number in range(30))
    assert all(keys.knows("flood", str(number)) for number in range(4930, 5000))
    assert len(keys.keys) == 100


def test_a_publisher_with_more_than_its_share_gives_way_to_one_with_less() -> None:
    """Alone, a publisher may have all; with others it keeps its newest."""
    keys = Keys(10)
    for number in range(10):
        keys.use("one", str(number))
    for number in range(8):
        keys.use("two", str(number))
    assert [keys.knows("one", str(number)) for number in range(10)] == [False] * 5 + [True] * 5
    assert [keys.knows("two", str(number)) for number in range(8)] == [False] * 3 + [True] * 5


def test_many_small_publishers_leave_a_share_to_each_other() -> None:
    """No publisher with fewer keys than its share loses one to a publisher with more."""
    keys, chance = Keys(200), random.Random(3)
    made: dict[str, list[str]] = {}
    for number in range(20_000):
        # Few that publish much, many that publish little.
        publisher = str(min(chance.randrange(40), chance.randrange(40)) // 2)
        keys.use(publisher, str(number))
        made.setdefault(publisher, []).append(str(number))
        assert len(keys.keys) <= 200
    share = 200 // len(made)
    for publisher, names in made.items():
        newest = names[-(share // 2) :]
        assert all(keys.knows(publisher, name) for name in newest)


def test_a_key_is_forgotten_after_its_time_also_of_who_never_comes_again() -> None:
    """The memory of whoever is gone goes without being asked for."""
    keys = Keys(10_000)
    for number in range(1000):
        keys.use(f"gone-{number}", "x")
    keys.clock.advance(299)
    keys.keys.sweep()
    assert len(keys.keys) == 1000
    keys.clock.advance(2)
    for _ in range(11):
        keys.keys.sweep()
    assert len(keys.keys) == 0
    assert keys.keys._by_publisher == {}
    assert not any(keys.keys._by_rank)


def test_a_key_takes_the_same_memory_however_long_it_is() -> None:
    """A key takes no more than the figure beside the setting."""
    sizes = []
    for length in (10, 500):
        keys = Keys(100_000)
        tracemalloc.start()
        for number in range(20_000):
            keys.use("p", str(number).rjust(length, "k"))
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        sizes.append(taken / 20_000)
    assert abs(sizes[0] - sizes[1]) < 10
    assert max(sizes) < 280


def test_room_is_found_without_looking_at_all_publishers() -> None:
    """With 20,000 of them a key more costs what it costs with a few."""

    def seconds(publishers: int) -> float:
        keys = Keys(publishers * 2)
        for number in range(publishers * 2):
            keys.use(str(number % publishers), str(number))
        best = 1.0
        for attempt in range(5):
            begin = time.process_time()
            for number in range(2000):
                keys.use(str(number % publishers), f"{attempt}-{number}")
            best = min(best, time.process_time() - begin)
        return best

    assert seconds(20_000) < seconds(20) * 10


def test_an_answer_that_is_given_anew_is_as_old_as_that() -> None:
    """The channel's epoch was over, so the retry was published: a retry of that may come too."""
    keys = Keys(100)
    keys.use("p", "early")
    for epoch in ("f", "g", "h"):
        keys.clock.advance(100)
        request = PublishRequest("a", b"1", "p", idempotency_key="early")
        assert keys.keys.find(request, epoch=epoch) is None
        keys.keys.remember(request, Position(epoch, 1))
    keys.use("p", "late")
    keys.clock.advance(299)
    assert keys.knows("p", "early")
    assert keys.knows("p", "late")
    keys.clock.advance(2)
    assert not keys.knows("p", "early")
    assert not keys.knows("p", "late")
    assert len(keys.keys) == 0


def test_very_many_keys_that_are_over_go_some_in_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them counts any more, also where it has not gone yet."""
    monkeypatch.setattr(idempotency, "EXPIRED_AT_ONCE", 4)
    keys = Keys(100)
    for number in range(10):
        keys.use(f"p{number % 2}", str(number))
    keys.clock.advance(301)
    left = []
    while len(keys.keys):
        keys.keys.sweep()
        left.append(len(keys.keys))
    assert left == [6, 2, 0]
    for number in range(10):
        keys.use("p", str(number))
    keys.clock.advance(301)
    assert not keys.knows("p", "9")
    assert len(keys.keys) == 6
