"""The file and what it costs are bounded: in bytes, number and age; commits wait for nothing."""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import cast

import orjson
import pytest

from hub.brokers.sqlite import commits, intake, restoring, tending
from hub.brokers.sqlite import file as file_module
from hub.brokers.sqlite.file import VACUUM_PAGES, HistoryFile, Victim
from hub.brokers.sqlite.intake import StoredLogs
from hub.brokers.sqlite.reading import FileReader
from hub.brokers.sqlite.recent import Recent
from hub.brokers.sqlite.tending import Tending
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import PublishRequest
from hub.errors import NotPublishedError
from tests.brokers.sqlite.nodes import StoredNode
from tests.core.fakes import FakeClock
from tests.support.waiting import eventually

KIB = 1024


def blocks(node: StoredNode) -> int:
    file = node.stored._writer.file
    assert file is not None
    with closing(FileReader(file)) as reader:
        [count] = reader._db.execute("SELECT count(*) FROM block").fetchone()
    return int(count)


async def settled(node: StoredNode) -> None:
    """Until there is nothing to do any more, a second having passed for the node."""
    node.a_second_passes()
    writer, upkeep = node.stored._writer, node.stored._tending
    await eventually(lambda: writer.settled and not upkeep._checkpointing)


async def publish(node: StoredNode, name: str, count: int, size: int = 1000) -> None:
    data = b'"' + b"x" * (size - 2) + b'"'
    await node.stored.publish_many([PublishRequest(name, data, "p")] * count)


async def test_the_file_stays_within_its_bound_and_the_oldest_go_first(tmp_path: Path) -> None:
    """The bound is over all channels, in the order of arrival; a session that
    resumes from before is told."""
    path, bound = tmp_path / "hub.db", 2_000 * KIB
    async with StoredNode(path, history_total_bytes=bound) as node:
        await node.publish("long:first")
        for round_ in range(60):
            await publish(node, f"long:{round_ % 3}", 100)
        await settled(node)
        assert path.stat().st_size <= bound
        assert 0 < node.stored.record().history_bytes <= bound
        page = await node.history("long:first")
        assert (page.oldest, page.head.offset, page.publications) == (2, 1, ())
        for name in ("long:0", "long:1", "long:2"):
            page = await node.history(name, limit=1)
            held = node.stored.held(name)
            assert held is not None
            assert 1 < page.oldest == page.publications[0].offset
            assert held[1] == page.head.offset - page.oldest + 1
            assert page.head.offset == 2000


async def test_a_bound_below_what_an_empty_file_takes_keeps_nothing(tmp_path: Path) -> None:
    """The hub still numbers publications, and keeps none of them."""
    async with StoredNode(tmp_path / "hub.db", history_total_bytes=KIB) as node:
        for offset in range(1, 4):
            assert (await node.publish()).offset == offset
            await settled(node)
        assert blocks(node) == 0


async def test_publications_beyond_the_number_go_from_the_file_too(tmp_path: Path) -> None:
    """A few more may lie there, which nobody gets to read."""
    async with StoredNode(tmp_path / "hub.db") as node:
        for _ in range(400):
            await node.publish()
        await settled(node)
        assert blocks(node) <= 5 + tending._SLACK + 1
        assert await node.offsets() == [396, 397, 398, 399, 400]


async def test_publications_that_are_too_old_go_from_the_file_without_being_asked_for(
    tmp_path: Path,
) -> None:
    """Each namespace has its own time, and the space is used again."""
    namespaces = Namespaces(
        ChannelOptions(history_size=1000, history_ttl_seconds=60),
        {"days": ChannelOptions(history_size=1000, history_ttl_seconds=86_400)},
    )
    path = tmp_path / "hub.db"
    async with StoredNode(path, namespaces=namespaces) as node:
        await publish(node, "days:a", 50)
        await publish(node, "a", 600)
        await settled(node)
        before = path.stat().st_size
        node.clock.advance(61)
        await settled(node)
        assert blocks(node) == 2
        assert (await node.history("a")).oldest == 601
        assert len(await node.offsets("days:a")) == 50
        await publish(node, "a", 500)
        await settled(node)
        assert path.stat().st_size <= before + 64 * KIB


async def test_all_that_is_too_old_goes_in_one_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many steps are made as it takes: otherwise more could come in a second than goes."""
    monkeypatch.setattr(file_module, "_TRIM_BYTES", 20 * KIB)
    async with StoredNode(tmp_path / "hub.db") as node:
        await publish(node, "long:a", 500)
        await settled(node)
        assert blocks(node) >= 15
        node.clock.advance(3601)
        await settled(node)
        assert blocks(node) == 0


async def test_age_counts_the_time_that_the_hub_was_away(tmp_path: Path) -> None:
    """By the wall clock, where that has not gone back."""
    async with StoredNode(tmp_path / "hub.db") as node:
        await node.publish()
        node.clock.advance(40)
        await node.publish()
    node.clock.advance(21)
    async with StoredNode(tmp_path / "hub.db", clock=node.clock) as node:
        assert await node.offsets() == [2]


async def test_a_wall_clock_that_jumps_ages_nothing(tmp_path: Path) -> None:
    """While it runs."""
    async with StoredNode(tmp_path / "hub.db") as node:
        jump = 86_400.0
        node.stored._wall_clock = lambda: node.clock.wall() + jump
        await node.publish()
        assert await node.offsets() == [1]
        jump = -86_400.0
        node.clock.advance(59)
        await node.publish()
        assert await node.offsets() == [1, 2]
        node.clock.advance(2)
        assert await node.offsets() == [2]


async def test_a_wall_clock_that_went_back_before_a_restart_brings_nothing_to_life(
    tmp_path: Path,
) -> None:
    """The file's own clock goes on."""
    clock = FakeClock()
    async with StoredNode(tmp_path / "hub.db", clock=clock) as node:
        await node.publish()
        clock.advance(61)
        await node.publish()
        assert await node.offsets() == [2]
    wall = clock.wall
    clock.wall = lambda: wall() - 86_400  # type: ignore[method-assign]  # as if it were set
    async with StoredNode(tmp_path / "hub.db", clock=clock) as node:
        assert await node.offsets() == [2]
        clock.advance(61)
        assert await node.offsets() == []


async def test_a_file_that_has_become_much_too_large_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is given back in small steps."""
    monkeypatch.setattr(tending, "_FREE_BYTES", 100 * KIB)
    path = tmp_path / "hub.db"
    async with StoredNode(path) as node:
        for number in range(4):
            await publish(node, f"long:{number}", 1000)
        await settled(node)
        size = node.stored._tending
        before = size.used_bytes + size._free_bytes
        node.clock.advance(61 + 300)
        await settled(node)
        for _ in range(3):
            await settled(node)
    assert path.stat().st_size < before / 4


def test_a_step_gives_back_as_many_pages_as_it_says(tmp_path: Path) -> None:
    """One page at a time would take hours for a gigabyte."""
    path = tmp_path / "hub.db"
    with closing(HistoryFile(str(path))) as file:
        file._db.execute("INSERT INTO block VALUES (1, 1, 1, 1, 1, 1, 1, zeroblob(1000000))")
        file._db.execute("DELETE FROM block")
        before = file.size()
        file.vacuum()
        after = file.size()
        assert before.free - after.free == VACUUM_PAGES * 4096
        assert after.used == before.used


async def test_keys_that_are_too_old_go_from_the_file_in_one_second(tmp_path: Path) -> None:
    """Step by step; and none of them is read at a start, also where others of its row are young."""
    path = tmp_path / "hub.db"
    with closing(HistoryFile(str(path))) as file:
        for number in range(30):
            keys = [["p", "00", 1, expires_ms, "e", 1] for expires_ms in (1, number)]
            file._db.execute(
                "INSERT INTO remembered (expires_ms, keys) VALUES (?, ?)",
                (number, orjson.dumps(keys)),
            )
        assert [key.expires_ms for key in file.load_keys(0, 27, 100)] == [28, 29]
    async with StoredNode(path) as node:
        await settled(node)
        found = node.stored._writer.file
        assert found is not None
        with closing(FileReader(found)) as reader:
            assert reader._db.execute("SELECT count(*) FROM remembered").fetchone() == (0,)


def rows_of(node: StoredNode) -> int:
    file = node.stored._writer.file
    assert file is not None
    with closing(FileReader(file)) as reader:
        [count] = reader._db.execute("SELECT count(*) FROM row").fetchone()
    return int(count)


TABLES = Namespaces(
    ChannelOptions(history_size=10, history_ttl_seconds=3600),
    {"table": ChannelOptions(history_size=0, keyed=True, state_ttl_seconds=60)},
)


async def publish_rows(node: StoredNode, name: str, count: int, size: int) -> None:
    data = b'"' + b"x" * (size - 2) + b'"'
    requests = [PublishRequest(name, data, "p", key=str(number)) for number in range(count)]
    await node.stored.publish_many(requests)


async def test_rows_without_room_go_from_the_file_although_nobody_publishes_in_their_channels(
    tmp_path: Path,
) -> None:
    """A publisher that fills one table after another takes the history of no other channel."""
    bound = 4_000 * KIB
    async with StoredNode(
        tmp_path / "hub.db", namespaces=TABLES, history_total_bytes=bound
    ) as node:
        await node.publish("other")
        for number in range(10):
            await publish_rows(node, f"table:{number}", 500, 1000)
            await settled(node)
        await settled(node)
        await settled(node)
        assert rows_of(node) == node.stored.record().state_rows > 1000
        assert node.stored.record().history_bytes <= bound
        assert await node.offsets("other") == [1]


async def test_rows_that_are_too_old_go_from_the_file_within_seconds(tmp_path: Path) -> None:
    """Nobody has to publish in their channel again, and a restart does not bring them back."""
    async with StoredNode(tmp_path / "hub.db", namespaces=TABLES) as node:
        await publish_rows(node, "table:a", 2000, 10)
        await settled(node)
        await settled(node)
        assert rows_of(node) == 2000
        node.clock.advance(61)
        for _ in range(4):
            await settled(node)
        assert rows_of(node) == 0


async def publish_keyed(node: StoredNode, publisher: str, first: int, count: int) -> None:
    """Publish in `none:a` under idempotency keys."""
    await node.stored.publish_many(
        [
            PublishRequest("none:a", b"1", publisher, idempotency_key=str(number))
            for number in range(first, first + count)
        ]
    )


async def test_keys_that_memory_has_forgotten_go_from_the_file_too(tmp_path: Path) -> None:
    """A publisher with many keys takes no room from the history of other channels, and takes no
    other publisher's keys, also over a restart."""
    path = tmp_path / "hub.db"
    async with StoredNode(path, history_total_bytes=2_000 * KIB) as node:
        await node.publish("long:other")
        await publish_keyed(node, "quiet", 0, 10)
        for first in range(0, 40_000, 1000):
            await publish_keyed(node, "busy", first, 1000)
        await settled(node)
        assert node.stored.record().history_bytes < 600 * KIB
        assert await node.offsets("long:other") == [1]
        offset = node.stored.held("none:a")
    async with StoredNode(path, clock=node.clock) as node:
        await publish_keyed(node, "quiet", 0, 10)
        await publish_keyed(node, "busy", 39_500, 500)
        assert node.stored.held("none:a") == offset


def test_a_row_of_keys_is_over_when_the_last_of_those_left_in_it_is(tmp_path: Path) -> None:
    """A start reads rows until one has no young key, so it would miss the keys behind."""
    with closing(HistoryFile(str(tmp_path / "hub.db"))) as file:
        for last_ms in (20, 30):
            keys = [["p", "00", 1, expires_ms, "e", 1] for expires_ms in (10, last_ms)]
            file._db.execute(
                "INSERT INTO remembered (expires_ms, keys) VALUES (?, ?)",
                (last_ms, orjson.dumps(keys)),
            )
        found = file.sift_keys({}, 0, 1)
        assert file.sift_keys({1: found[1][:1]}, 1, 1).keys() == {2}
        assert [key.expires_ms for key in file.load_keys(0, 15, 1)] == [30]


async def test_keys_go_from_the_file_while_each_commit_brings_as_many_as_it_takes(
    tmp_path: Path,
) -> None:
    """A commit waits for one step at most, and the rounds do not fall behind."""
    async with StoredNode(tmp_path / "hub.db", history_total_bytes=8_000 * KIB) as node:
        calls = [publish_keyed(node, "busy", first, 2000) for first in range(0, 90_000, 2000)]
        await asyncio.gather(*calls)
        file = node.stored._writer.file
        assert file is not None
        with closing(FileReader(file)) as reader:
            rows = reader._db.execute("SELECT keys FROM remembered").fetchall()
        assert sum(len(orjson.loads(keys)) for (keys,) in rows) < 10_000


async def test_a_long_history_that_is_cleared_does_not_hold_commits_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes in steps; and what is published meanwhile stays."""
    monkeypatch.setattr(file_module, "_TRIM_BYTES", 1)
    async with StoredNode(tmp_path / "hub.db") as node:
        await publish(node, "long:a", 1000)
        await settled(node)
        assert blocks(node) >= 30
        clearing = asyncio.create_task(node.broker.clear("long:a"))
        await node.publish()
        await node.publish("long:a")
        assert not clearing.done()
        await clearing
        assert await node.offsets("long:a") == [1001]
        assert (await node.history("long:a")).oldest == 1001
        assert await node.offsets() == [1]


async def test_a_lowered_bound_does_not_hold_commits_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit waits for as much room as it takes, and not until gigabytes are trimmed."""
    path, bound = tmp_path / "hub.db", 1_000 * KIB
    async with StoredNode(path) as node:
        for number in range(8):
            await publish(node, f"long:{number}", 1000)
    before = path.stat().st_size
    monkeypatch.setattr(file_module, "_TRIM_BYTES", 20 * KIB)
    trims = 0
    trim_oldest = HistoryFile.trim_oldest

    def counted(file: HistoryFile) -> Sequence[Victim]:
        nonlocal trims
        trims += 1
        return trim_oldest(file)

    async with StoredNode(path, clock=node.clock, history_total_bytes=bound) as node:
        await eventually(lambda: node.stored._writer.settled)
        monkeypatch.setattr(HistoryFile, "trim_oldest", counted)
        await publish(node, "long:0", 1000)
        for number in range(5):
            trims = 0
            assert (await node.publish("long:new")).offset == number + 1
            assert trims <= 3
        trims = 0
        await publish(node, "long:new", 40)
        assert trims <= 2 * 1.3 * 2 + 2
        await settled(node)
        assert node.stored.record().history_bytes <= bound
    assert before > 8 * bound


async def test_a_lowered_number_empties_the_file_too(tmp_path: Path) -> None:
    """Also of channels where nothing is published any more."""
    many, few = (
        Namespaces(ChannelOptions(history_size=size, history_ttl_seconds=600))
        for size in (1000, 10)
    )
    async with StoredNode(tmp_path / "hub.db", namespaces=many) as node:
        for number in range(3):
            await publish(node, f"c{number}", 900)
        await publish(node, "small", 20)
        await settled(node)
        assert blocks(node) > 40
    async with StoredNode(tmp_path / "hub.db", clock=node.clock, namespaces=few) as node:
        await settled(node)
        assert blocks(node) == 3 * 2 + 1
        assert await node.offsets("c0") == list(range(891, 901))


@pytest.mark.parametrize("what", ["trimming", "giving back"])
async def test_the_wal_begins_anew_while_much_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Pages that are given free are in it too, and those that are moved."""
    monkeypatch.setattr(tending, "_CHECKPOINT_BYTES", 100 * KIB)
    monkeypatch.setattr(tending, "_FREE_BYTES", 100 * KIB if what == "giving back" else 1 << 40)
    monkeypatch.setattr(file_module, "_TRIM_BYTES", 50 * KIB)
    path = tmp_path / "hub.db"
    async with StoredNode(path) as node:
        for number in range(8):
            await publish(node, f"long:{number}", 1000)
    HistoryFile(str(path)).close()  # moves the last commits into the tables
    async with StoredNode(path, clock=node.clock, history_total_bytes=500 * KIB) as node:
        await settled(node)
        assert node.stored.record().history_bytes <= 500 * KIB
        assert Path(f"{path}-wal").stat().st_size < 600 * KIB


class CheckpointCounter:
    """A file of which only checkpoints are asked."""

    def __init__(self) -> None:
        self.checkpoints = 0

    def checkpoint(self) -> None:
        self.checkpoints += 1


def test_the_writing_thread_finishes_a_checkpoint_alone() -> None:
    """Two at a time would shut each other out, and the WAL would never be all in the file."""
    upkeep, counter = Tending(1 << 30, StoredLogs(1), Recent(), max_keys=1000), CheckpointCounter()
    file = cast(HistoryFile, counter)
    upkeep.opened()
    for _ in range(tending._MAX_ROUNDS):
        assert upkeep.checkpoint_due()
        assert not upkeep.checkpoint_due()
        upkeep.written(2 * tending._CHECKPOINT_BYTES)
        assert upkeep.next(file, 0) is None, "upkeep would make the WAL longer still"
        upkeep.checkpointed()
    assert upkeep.checkpoint_due()
    upkeep.written(2 * tending._CHECKPOINT_BYTES)
    upkeep.checkpointed()
    upkeep.written(2 * tending._CHECKPOINT_BYTES)
    assert not upkeep.checkpoint_due()
    step = upkeep.urgent(file, 0, 100)
    assert step is not None
    step()()
    assert counter.checkpoints == 1
    assert upkeep.next(file, 0) is not None
    # What came while it waited for its turn is a reason for the next one.
    assert upkeep.checkpoint_due()


async def test_the_wal_begins_anew_under_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although there is always something to write."""
    monkeypatch.setattr(tending, "_CHECKPOINT_BYTES", 500 * KIB)
    path = tmp_path / "hub.db"
    async with StoredNode(path, history_total_bytes=4_000 * KIB) as node:

        async def one(number: int) -> None:
            for _ in range(300):
                await publish(node, f"long:{number}", 1)

        await asyncio.gather(*(one(number) for number in range(8)))
        # 300 commits of some 20 pages.
        assert (tmp_path / "hub.db-wal").stat().st_size < 300 * 20 * 4 * KIB / 4


async def test_trimming_has_its_turn_under_load(tmp_path: Path) -> None:
    """Trimming removes old blocks although commits never pause."""
    async with StoredNode(tmp_path / "hub.db") as node:

        async def one(number: int) -> None:
            for _ in range(200):
                await publish(node, f"c{number}", 1)

        await asyncio.gather(*(one(number) for number in range(4)))
        assert blocks(node) < 4 * 200 * 0.8


@pytest.mark.parametrize("tagged", [False, True], ids=["data", "tags"])
async def test_publications_that_wait_for_the_file_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tagged: bool
) -> None:
    """A publication above the bound is not published, and its publisher gets `not_published`."""
    monkeypatch.setattr(intake, "MAX_WAITING_BYTES", 5000)
    text = b'"' + b"x" * 991 + b'"'
    data, tags = (b"1", b'{"a":' + text + b"}") if tagged else (text + b" " * 7, None)
    async with StoredNode(tmp_path / "hub.db") as node:
        answers = await asyncio.gather(
            *(node.publish("long:a", data, tags=tags) for _ in range(8)),
            return_exceptions=True,
        )
        refused = [each for each in answers if isinstance(each, NotPublishedError)]
        assert len(refused) == 3
        assert "limits are" in refused[0].message
        assert (await node.history("long:a")).head.offset == 5


async def test_blocks_are_bounded_in_bytes_with_tags(tmp_path: Path) -> None:
    """A reader gets whole blocks, so it would read megabytes for a page of little data."""
    tags = b'{"a":"%b"}' % (b"x" * 10_000)
    async with StoredNode(tmp_path / "hub.db") as node:
        await node.stored.publish_many([PublishRequest("long:a", b"1", "p", tags=tags)] * 30)
        await settled(node)
        assert blocks(node) == 10


async def test_a_long_history_takes_no_memory(tmp_path: Path) -> None:
    """Neither while it is written nor when it is read, a page at a time."""
    import tracemalloc

    namespaces = Namespaces(ChannelOptions(history_size=1_000_000, history_ttl_seconds=1e6))
    memory_bytes = restoring.MEMORY_BYTES
    async with StoredNode(tmp_path / "hub.db", namespaces=namespaces) as node:
        broker = node.stored
        assert broker._commits.memory is not None
        broker._commits.memory._history.max_bytes = 256 * KIB
        await publish(node, "a", 1000)
        tracemalloc.start()
        for _ in range(20):
            await publish(node, "a", 1000)
        after = 0
        while page := (await node.history("a", after, 64)).publications:
            assert page[0].offset == after + 1
            after = page[-1].offset
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert after == 21_000
    assert peak < 6_000 * KIB
    assert memory_bytes <= 64 * KIB * KIB


async def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    """They hold what was published."""
    path = tmp_path / "hub.db"
    async with StoredNode(path) as node:
        await node.publish()
        for each in (path, tmp_path / "hub.db-wal"):
            assert each.stat().st_mode & 0o077 == 0


async def test_many_who_ask_for_the_same_page_share_one_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart, for example, everybody comes back at once."""
    path = tmp_path / "hub.db"
    async with StoredNode(path) as node:
        await publish(node, "long:a", 100)
    reads = 0

    async with StoredNode(path, clock=node.clock) as node:
        read = node.stored._pages._read

        def counted(page: object) -> object:
            nonlocal reads
            reads += 1
            return read(page)  # type: ignore[arg-type]  # what it was given

        monkeypatch.setattr(node.stored._pages, "_read", counted)
        pages = await asyncio.gather(*(node.history("long:a", 10, 20) for _ in range(500)))
        assert {page.last for page in pages} == {30}
        assert reads == 1


async def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    """SQLite's magic, our number, and a format that older hubs refuse."""
    path = tmp_path / "hub.db"
    HistoryFile(str(path)).close()
    raw = path.read_bytes()
    assert raw[:16] == b"SQLite format 3\0"
    assert raw[68:72] == b"hubH"
    assert (tmp_path / "hub.db-lock").exists()


async def test_publications_of_consecutive_turns_of_the_loop_share_a_commit(tmp_path: Path) -> None:
    """While each turn brings more; and no longer than a millisecond."""
    async with StoredNode(tmp_path / "hub.db") as node:
        loop, left = asyncio.get_running_loop(), 0
        outcomes: list[object] = []

        def publish() -> None:
            nonlocal left
            node.stored.publish_soon(PublishRequest("long:a", b"1", "p"), outcomes.append)
            left -= 1
            if left:
                loop.call_soon(publish)

        async def published(count: int) -> int:
            nonlocal left
            before, left = node.stored._writer.commits, count
            publish()
            await eventually(lambda: len(outcomes) == count and node.stored._writer.settled)
            outcomes.clear()
            return node.stored._writer.commits - before

        assert await published(1) == 1
        assert await published(20) == 1
        context = node.stored._commits._context

        def passing() -> float:
            node.clock.advance(commits._GATHER_SECONDS / 4)
            return node.clock()

        node.stored._commits._context = replace(context, clock=passing)
        assert await published(20) > 1
