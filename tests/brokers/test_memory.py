"""The memory broker has bounds, housekeeping and new epochs of its own."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.brokers.memory import MemoryBroker
from hub.brokers.memory_cost import cost_bytes
from hub.core.ports import PublishRequest, PublishResult
from hub.core.publication import Position, Publication
from hub.errors import ConflictError, HubError, UnavailableError
from tests.brokers.conftest import memory_rig
from tests.brokers.rig import Rig

WEEK_SECONDS = 7 * 86400
DATA = b'"' + b"x" * 198 + b'"'


def memory(rig: Rig) -> MemoryBroker:
    assert isinstance(rig.broker, MemoryBroker)
    return rig.broker


async def test_a_restart_begins_a_new_epoch_in_every_channel() -> None:
    """An offset is never given to different data in one epoch."""
    epochs = [(await memory_rig().publish()).position.epoch for _ in range(20)]
    assert len(set(epochs)) == 20


async def test_a_quiet_channel_keeps_its_epoch_for_the_position_ttl() -> None:
    """Seven days after its last use without a subscriber it is forgotten."""
    rig = memory_rig()
    epoch = (await rig.publish()).position.epoch
    rig.clock.advance(WEEK_SECONDS - 1)
    memory(rig).sweep()
    assert memory(rig).held("a") == (Position(epoch, 1), 0)
    rig.clock.advance(2)
    memory(rig).sweep()
    assert memory(rig).held("a") is None
    assert (await rig.publish()).position.epoch != epoch


async def test_a_subscribed_channel_is_never_forgotten() -> None:
    """However long it is quiet."""
    rig = memory_rig()
    head = await rig.subscribe("a")
    rig.clock.advance(WEEK_SECONDS * 3)
    memory(rig).sweep()
    assert (await rig.publish()).position == Position(head.epoch, 1)


async def test_being_used_prolongs_the_life_of_a_position() -> None:
    """Asking for history is a use: somebody is about to resume."""
    rig = memory_rig()
    head = (await rig.publish()).position
    for _ in range(3):
        rig.clock.advance(WEEK_SECONDS - 1)
        await rig.history()
        memory(rig).sweep()
    assert (await rig.history()).head == head


async def test_at_the_bound_the_channel_unused_longest_is_forgotten() -> None:
    """Its subscribers would come back to a reset."""
    rig = memory_rig(max_channels=3)
    for name in "abc":
        await rig.publish(name)
    await rig.history("a")
    await rig.publish("d")
    assert memory(rig).names() == ("c", "a", "d")


async def test_a_channel_in_use_is_not_forgotten_at_the_bound() -> None:
    """With nothing else to forget, the new one is refused and nothing changes."""
    rig = memory_rig(max_channels=2)
    await rig.subscribe("a")
    await rig.subscribe("b")
    with pytest.raises(UnavailableError, match="2 channels in use"):
        await rig.publish("c")
    rig.broker.unsubscribe("a")
    await rig.publish("c")
    assert set(memory(rig).names()) == {"b", "c"}


async def test_sweeping_lets_old_publications_go_without_being_asked() -> None:
    """Memory is freed although nobody reads the history."""
    rig = memory_rig()
    await rig.publish()
    log = memory(rig)._logs["a"]
    rig.clock.advance(61)
    assert len(log) == 1
    memory(rig).sweep()
    assert len(log) == 0


async def test_sweeping_gets_through_all_channels_in_parts() -> None:
    """Each call forgets four hundred."""
    rig = memory_rig(max_channels=5000)
    for number in range(1000):
        await rig.publish(f"c{number}")
    rig.clock.advance(WEEK_SECONDS + 1)
    left = []
    for _ in range(3):
        memory(rig).sweep()
        left.append(len(memory(rig).names()))
    assert left == [600, 200, 0]


async def test_a_long_history_does_not_grow_with_what_was_let_go() -> None:
    """The list behind it is cut now and then."""
    rig = memory_rig()
    for _ in range(5000):
        await rig.publish()
    assert len(memory(rig)._logs["a"]._kept) < 600
    assert await rig.offsets() == [4996, 4997, 4998, 4999, 5000]


async def test_reading_what_nobody_used_makes_nothing_and_costs_nobody_anything() -> None:
    """Other channels keep their state however many names are read, and what was told stays true."""
    rig = memory_rig(max_channels=3)
    published = (await rig.publish("a")).position
    told = {f"b{n}": (await rig.history(f"b{n}")).head for n in range(320)}
    assert memory(rig).names() == ("a",)
    assert (await rig.history("a")).head == published
    assert len(set(told.values())) == 320
    assert (await rig.publish("b7")).position == Position(told["b7"].epoch, 1)
    assert (await rig.subscribe("b8")) == told["b8"]


async def test_subscribing_to_what_nobody_uses_costs_nobody_anything() -> None:
    """A channel that was only subscribed to is forgotten first; a subscriber that comes
    back finds the same epoch."""
    rig = memory_rig(max_channels=3)
    epoch = (await rig.publish("a")).position.epoch
    for number in range(50):
        head = await rig.subscribe(f"b{number}")
        rig.broker.unsubscribe(f"b{number}")
        assert await rig.subscribe(f"b{number}") == head
        rig.broker.unsubscribe(f"b{number}")
    assert memory(rig).held("a") == (Position(epoch, 1), 1)
    assert memory(rig).names() == ("b48", "b49", "a")
    rig.clock.advance(301)
    memory(rig).sweep()
    assert memory(rig).names() == ("a",)
    assert await rig.subscribe("b49") == head


async def test_at_the_bound_a_channel_without_history_is_forgotten_first() -> None:
    """Also where what has history was used longer ago; it goes last."""
    rig = memory_rig(max_channels=3)
    await rig.publish("held")
    await rig.publish("none:1")
    await rig.publish("none:2")
    await rig.publish("none:3")
    assert memory(rig).names() == ("none:2", "none:3", "held")
    rig.clock.advance(61)
    await rig.publish("new")
    await rig.history("held")
    for name in ("none:4", "none:5", "none:6"):
        await rig.publish(name)
    assert memory(rig).names() == ("none:5", "none:6", "new")


async def test_a_forgotten_channel_never_gets_its_epoch_again() -> None:
    """Its offsets begin anew, so nobody may take them for those before."""
    rig = memory_rig(max_channels=1)
    epochs = []
    for number in range(30):
        epochs.append((await rig.publish("a")).position.epoch)
        assert (await rig.history("a")).head.epoch == epochs[-1]
        await rig.publish(f"b{number}")
        assert memory(rig).held("a") is None
    assert len(set(epochs)) == 30


async def test_a_wall_clock_that_jumps_ages_no_history() -> None:
    """The clock may jump forward or back: history follows the time that passes."""
    rig = memory_rig()
    jump = 0.0
    memory(rig)._wall_clock = lambda: rig.clock.wall() + jump
    await rig.publish()
    jump = 86_400.0
    await rig.publish()
    assert await rig.offsets() == [1, 2]
    jump = -86_400.0
    await rig.publish()
    rig.clock.advance(59)
    assert await rig.offsets() == [1, 2, 3]
    rig.clock.advance(2)
    assert await rig.offsets() == []


async def test_data_and_key_do_not_run_into_each_other_in_a_conflict_check() -> None:
    """The same bytes split otherwise are other data."""
    rig = memory_rig()
    await rig.publish(data=b'"ab"', key=None, idempotency_key="i")
    with pytest.raises(ConflictError):
        await rig.publish(data=b'"a', key='b"', idempotency_key="i")


_REQUESTS = st.lists(
    st.builds(
        PublishRequest,
        st.sampled_from(["a", "long:b", "c"]),
        st.sampled_from([b"1", b'"' + b"x" * 300 + b'"']),
        st.sampled_from(["backend", "other"]),
        key=st.sampled_from([None, "k"]),
        skip_connection=st.sampled_from([None, "me"]),
        idempotency_key=st.sampled_from([None, None, None, "one", "two"]),
    ),
    max_size=30,
)


@given(_REQUESTS, st.booleans())
def test_many_at_once_are_published_as_one_after_another(
    requests: list[PublishRequest], subscribed: bool
) -> None:
    """The same results, deliveries and history; each channel has its own epoch in each broker."""
    one, many = memory_rig(max_channels=2), memory_rig(max_channels=2)
    for rig in (one, many):
        if subscribed:
            asyncio.run(rig.subscribe("a"))
    expected = [_told(memory(one)._outcome(request)) for request in requests]
    assert [_told(each) for each in memory(many).publish_many_now(requests)] == expected
    assert [_content(each) for each in many.delivered] == [_content(e) for e in one.delivered]
    assert memory(many).names() == memory(one).names()
    assert memory(many).record() == memory(one).record()
    for name in memory(one).names():
        pages = [asyncio.run(rig.history(name, limit=1000)) for rig in (many, one)]
        assert [_content(e) for e in pages[0].publications] == [
            _content(e) for e in pages[1].publications
        ]


def _told(outcome: PublishResult | HubError) -> object:
    if isinstance(outcome, HubError):
        return outcome.code
    return outcome.offset, outcome.duplicate


def _content(publication: Publication) -> Publication:
    """All but the time, which goes on between two of them."""
    return replace(publication, time_ms=0)


@given(st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=12), max_size=12))
def test_a_budget_counts_what_many_at_once_leave(batches: list[list[str]]) -> None:
    """Never more than its bound, and what is held is the newest of each channel."""
    bound = 4000
    rig = memory_rig(history_total_bytes=bound)
    for batch in batches:
        memory(rig).publish_many_now(
            [PublishRequest(f"long:{name}", DATA, "backend") for name in sorted(batch)]
        )
        held = 0
        for name in "ab":
            page = asyncio.run(rig.history(f"long:{name}", limit=1000))
            offsets = [each.offset for each in page.publications]
            assert offsets == list(range(page.oldest, page.head.offset + 1))
            held += sum(cost_bytes(each) for each in page.publications)
        assert memory(rig).record().history_bytes == held <= bound


def test_many_for_which_there_is_no_room_are_all_refused() -> None:
    rig = memory_rig(max_channels=1)
    asyncio.run(rig.subscribe("a"))
    asked = [PublishRequest(name, b"1", "backend") for name in ("b", "b", "a", "a")]
    assert [_told(each) for each in memory(rig).publish_many_now(asked)] == [
        UnavailableError.code, UnavailableError.code, (1, False), (2, False),
    ]  # fmt: skip
