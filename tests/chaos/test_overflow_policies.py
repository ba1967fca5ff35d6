"""A reader that stops loses messages by the rule of its namespace, by
limit, or by its own choice."""

import time
from collections.abc import Iterator

import pytest

from tests.chaos.operator import becomes_true, check_complete, operating
from tests.chaos.stalling import narrowly_subscribed, stall
from tests.support.hub_process import HubProcess

MAX_BYTES = 200_000
# Long enough that a busy machine publishes a hundred messages within it.
MAX_AGE_SECONDS = 3.0
KEYS = 20


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(
        HUB_OUTBOX_MAX_BYTES=str(MAX_BYTES),
        HUB_NAMESPACES=(
            '{"keyed":{"overflow":"latest_per_key"},"strict":{"overflow":"disconnect"},'
            '"kept":{"history_size":10000}}'
        ),
    ) as hub:
        yield hub


@pytest.fixture(scope="module")
def aging_hub() -> Iterator[HubProcess]:
    with HubProcess(HUB_OUTBOX_MAX_AGE_SECONDS=str(MAX_AGE_SECONDS)) as hub:
        yield hub


async def test_latest_per_key_leaves_the_newest_of_every_key(
    hub: HubProcess, transport: str
) -> None:
    """The messages that newer ones with their key replaced are announced as
    conflated, and none as slow."""
    name = f"keyed:{transport}"
    async with (
        operating(hub) as operator,
        narrowly_subscribed(hub.port, transport, name) as stalled,
    ):
        await stall(operator, stalled, [name])
        heads = await operator.flood([name], 1500, key=lambda number: f"key{number % KEYS}")
        head = heads[name]
        await stalled.read_until(lambda: stalled.reached(name, head))

        gaps = check_complete(stalled, name, head)
        assert {gap["reason"] for gap in gaps} == {"conflated"}
        newest = [push["offset"] for push in stalled.of("message") if push["offset"] > head - KEYS]
        assert newest == list(range(head - KEYS + 1, head + 1))


async def test_latest_per_key_without_keys_drops_the_oldest(
    hub: HubProcess, transport: str
) -> None:
    """Where keys do not help, the bytes limit holds all the same."""
    name = f"keyed:without-{transport}"
    async with (
        operating(hub) as operator,
        narrowly_subscribed(hub.port, transport, name) as stalled,
    ):
        await stall(operator, stalled, [name])
        heads = await operator.flood([name], 500)
        record = await operator.connection(stalled)
        assert record is not None
        assert record["outbox_bytes"] <= MAX_BYTES
        await stalled.read_until(lambda: stalled.reached(name, heads[name]))
        gaps = check_complete(stalled, name, heads[name])
        assert [gap["reason"] for gap in gaps] == ["slow"]


async def test_disconnect_closes_with_4508_instead_of_dropping(
    hub: HubProcess, transport: str
) -> None:
    """Up to its end the stream has no hole, and the end says why."""
    name = f"strict:{transport}"
    async with (
        operating(hub) as operator,
        narrowly_subscribed(hub.port, transport, name) as stalled,
    ):
        await stall(operator, stalled, [name])
        await operator.flood([name], 200)
        assert await operator.connection(stalled) is None
        await stalled.read_to_end()
        assert stalled.goodbye is not None
        assert stalled.goodbye["code"] == stalled.close_code == 4508
        assert stalled.between_frames
        check_complete(stalled, name, len(stalled.of("message")))


async def test_fill_reads_what_was_missed_from_history(hub: HubProcess, transport: str) -> None:
    """A subscription that asks for it gets everything, in order, and its outbox holds nothing."""
    names = [f"kept:{transport}-{index}" for index in range(2)]
    async with (
        operating(hub) as operator,
        narrowly_subscribed(hub.port, transport, *names, fill="true") as stalled,
    ):
        heads = await operator.flood(names, 1000)
        record = await operator.connection(stalled)
        assert record is not None
        assert record["outbox_messages"] == 0
        await stalled.read_until(lambda: all(stalled.reached(n, 500) for n in names))
        heads = await operator.flood(names, 10)
        await stalled.read_until(lambda: all(stalled.reached(n, heads[n]) for n in names))
        for name in names:
            assert check_complete(stalled, name, heads[name]) == []


async def test_fill_announces_what_history_let_go(hub: HubProcess, transport: str) -> None:
    """With 100 publications of history and 1,000 missed, what is between is `expired`."""
    name = f"short-{transport}"
    async with (
        operating(hub) as operator,
        narrowly_subscribed(hub.port, transport, name, fill="true") as stalled,
    ):
        heads = await operator.flood([name], 1000)
        await stalled.read_until(lambda: stalled.reached(name, heads[name]))
        gaps = check_complete(stalled, name, heads[name])
        assert {gap["reason"] for gap in gaps} == {"expired"}


async def test_bytes_limit_takes_from_the_channel_owed_most(
    hub: HubProcess, transport: str
) -> None:
    """A quiet channel beside a loud one loses nothing when the session's bytes are short."""
    loud, quiet = f"loud-{transport}", f"quiet-{transport}"
    async with (
        operating(hub) as operator,
        narrowly_subscribed(hub.port, transport, loud, quiet) as stalled,
    ):
        await stall(operator, stalled, [loud])
        await operator.flood([quiet], 20, size=100)
        await operator.flood([loud], 500)
        heads = await operator.flood([loud, quiet], 1, size=100)
        record = await operator.connection(stalled)
        assert record is not None
        assert record["outbox_bytes"] <= MAX_BYTES
        await stalled.read_until(lambda: all(stalled.reached(n, heads[n]) for n in heads))
        assert len(check_complete(stalled, loud, heads[loud])) == 1
        assert check_complete(stalled, quiet, heads[quiet]) == []


async def test_age_limit_drops_what_is_old_and_only_that(
    aging_hub: HubProcess, transport: str
) -> None:
    """The old channel's head is a gap; the fresh one, though owed more bytes, is whole."""
    old, fresh = f"old-{transport}", f"fresh-{transport}"
    async with (
        operating(aging_hub) as operator,
        narrowly_subscribed(aging_hub.port, transport, old, fresh) as stalled,
    ):
        began = time.monotonic()
        await stall(operator, stalled, [old])
        all_are_old = MAX_AGE_SECONDS + time.monotonic() - began

        async def is_old() -> bool:
            record = await operator.connection(stalled)
            return record is not None and record["outbox_age_seconds"] > all_are_old

        await becomes_true(is_old)
        await operator.flood([fresh], 100)
        heads = await operator.flood([old, fresh], 5)
        record = await operator.connection(stalled)
        assert record is not None
        owed = {each["channel"]: each["outbox_messages"] for each in record["subscriptions"]}
        assert owed == {old: 5, fresh: 105}, "not dropped as soon as it was too old"
        await stalled.read_until(lambda: all(stalled.reached(n, heads[n]) for n in heads))
        assert check_complete(stalled, fresh, heads[fresh]) == []
        gaps = check_complete(stalled, old, heads[old])
        assert [(gap["reason"], gap["to"]) for gap in gaps] == [("slow", heads[old] - 5)]
