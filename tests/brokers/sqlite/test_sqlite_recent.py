"""Recent commits: many together do what they do one by one, and are read meanwhile."""

import random
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

import orjson
import pytest

from hub.brokers.sqlite import recent, tending
from hub.brokers.sqlite.file import HistoryFile
from hub.brokers.sqlite.layout import Block, Commit, Stored, packed, record, records, unpacked
from hub.brokers.sqlite.reading import _Page
from hub.brokers.sqlite.recent import Recent, changed, merged, steps
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import HistoryPage, PublishRequest
from hub.core.publication import Publication
from tests.brokers.sqlite.nodes import StoredNode
from tests.support.waiting import eventually

TAKEN_MS, TTL_MS = 1_000_000, 300_000


def commit(number: int, *channels: tuple[int, int], taken_ms: int = TAKEN_MS) -> Commit:
    """One publication for each channel and offset."""
    blocks: list[Block] = []
    parts: list[bytes] = []
    at = 1
    for channel, offset in channels:
        raw = record(Publication(f"c{channel}", offset, b"%d" % offset, 1))
        size, expires_ms = len(b"%d" % offset), taken_ms + TTL_MS
        blocks.append((channel, offset, offset, taken_ms, expires_ms, size, at, len(raw)))
        parts.append(raw)
        at += len(raw)
    return Commit(
        commits=number,
        clock_ms=taken_ms,
        channels=[(channel, f"c{channel}", "e", offset, taken_ms) for channel, offset in channels],
        blocks=blocks,
        data=b"".join(parts),
    )


def offsets(whole: Commit, channel: int) -> list[list[int]]:
    """By block."""
    found = []
    for block in whole.blocks:
        if block[0] == channel:
            raw = whole.data[block[6] - 1 : block[6] - 1 + block[7]]
            found.append([each.offset for each in records(f"c{channel}", raw)])
            assert (found[-1][0], found[-1][-1]) == (block[1], block[2])
    return found


def test_publications_of_many_commits_share_blocks() -> None:
    """Of 64 publications at most, and none that is much older than another."""
    commits = [commit(n, (1, n), (2, n)) for n in range(1, 101)]
    whole = merged(commits, {})
    assert offsets(whole, 1) == [list(range(1, 65)), list(range(65, 101))]
    assert [channel[3] for channel in whole.channels] == [100, 100]
    assert whole.commits == 100
    apart = [commit(n, (1, n), taken_ms=TAKEN_MS + n * 100) for n in range(1, 7)]
    assert offsets(merged(apart, {}), 1) == [[1, 2, 3], [4, 5, 6]]
    assert [block[3] for block in merged(apart, {}).blocks] == [TAKEN_MS + 300, TAKEN_MS + 600]


def test_publications_that_history_has_no_room_for_are_left_out() -> None:
    whole = merged([commit(n, (1, n)) for n in range(1, 11)], {1: 8})
    assert offsets(whole, 1) == [[8, 9, 10]]


def test_a_channel_that_is_gone_leaves_nothing() -> None:
    """The blocks of the other channel stay."""
    commits = [commit(1, (1, 1), (2, 1)), Commit(commits=2, clock_ms=TAKEN_MS, gone=(1,))]
    whole = merged(commits, {})
    assert [block[0] for block in whole.blocks] == [2]
    assert [channel[0] for channel in whole.channels] == [2]
    assert list(whole.gone) == [1]


def test_a_commit_is_what_its_row_says() -> None:
    whole = Commit(
        commits=7, clock_ms=3, channels=[(1, "a\n", "e", 2, 3)], made=[("p", "s", -5, 4, "e", 2)],
        rows=[(1, "k", 2, 3, 1, 2)], removed=[(1, "z")], gone=[4], ended=[(1, 2)], data=b"a\nb",
    )  # fmt: skip
    again = unpacked(packed(whole))
    assert packed(again) == packed(whole)
    assert (again.commits, again.data, list(again.gone)) == (7, b"a\nb", [4])
    with pytest.raises(ValueError, match=r"cut off|unexpected|EOF"):
        unpacked(packed(whole)[:20])


def test_no_step_has_more_than_its_bounds_unless_it_is_one_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recent, "_STEP_CHANNELS", 10)
    few = [commit(n, *((channel, n) for channel in range(5))) for n in range(1, 9)]
    assert [len(step) for step in steps(few)] == [8]
    others = [commit(n, *((n * 4 + each, 1) for each in range(4))) for n in range(1, 6)]
    assert [len(step) for step in steps(others)] == [2, 2, 1]
    many = commit(9, *((channel, 1) for channel in range(30)))
    assert [len(step) for step in steps([*few, many, *others])] == [8, 1, 2, 2, 1]


def content(path: Path) -> tuple[Stored, Sequence[object], Sequence[object], int]:
    """Channels, publications and rows, wherever blocks begin; and how many blocks there are.

    Blocks of channels that are gone are trimmed later.
    """
    file = HistoryFile(str(path))
    try:
        stored = file.load()
        blocks = file._db.execute(
            "SELECT channel, name, data FROM block JOIN channel ON channel.id = channel "
            "ORDER BY channel, last"
        )
        found = [
            (channel, each.offset, each.data, each.key)
            for channel, name, data in blocks
            for each in records(name, data)
        ]
        rows = file.load_rows((0, ""), 1000)
        keys = [(each.publisher, each.scope, each.offset) for each in file.load_keys(0, 0, 1000)]
        (count,) = file._db.execute("SELECT count(*) FROM block").fetchone()
        return stored, found, [*rows, *keys], count
    finally:
        file.close()


def random_commits(chance: random.Random) -> Sequence[Commit]:
    commits: list[Commit] = []
    heads: dict[int, int] = {}
    next_id = 1
    for number in range(1, 60):
        gone = tuple(id_ for id_ in heads if chance.random() < 0.03)
        for id_ in gone:
            del heads[id_]
        if len(heads) < 6:
            heads[next_id], next_id = 0, next_id + 1
        places = []
        for id_, head in heads.items():
            last_offset = head + chance.choice((0, 0, 1, 3))
            places += [(id_, offset) for offset in range(head + 1, last_offset + 1)]
        heads.update(places)
        plain = commit(number, *places)
        last = {channel[0]: channel for channel in plain.channels}
        rows, removed, data = [], [], plain.data
        for id_ in last:
            key = chance.choice("abc")
            if chance.random() < 0.4:
                removed.append((id_, key))
            else:
                rows.append((id_, key, heads[id_], TAKEN_MS, len(data) + 1, 3))
                data += b"%03d" % number
        commits.append(
            Commit(
                commits=number, clock_ms=TAKEN_MS + number, channels=list(last.values()),
                blocks=plain.blocks, rows=rows, removed=removed, gone=gone,
                made=[("p", f"{number:02}", 1, TAKEN_MS, "e", number)],
                ended=[(number % 5, number)], data=data,
            )
        )  # fmt: skip
    return commits


@pytest.mark.parametrize("seed", range(3))
def test_many_together_do_what_they_do_one_by_one(tmp_path: Path, seed: int) -> None:
    """Moved one by one, in steps of any length, or by the next process."""
    chance = random.Random(seed)
    commits = random_commits(chance)
    together, one_by_one = tmp_path / "together.db", tmp_path / "one.db"
    file = HistoryFile(str(one_by_one))
    line = file._fact("line"), file._fact("secret")
    for each in commits:
        file.commit(each)
        file.move([each], {})
    file.close()
    file = HistoryFile(str(together))
    for name, value in zip(("line", "secret"), line, strict=True):
        file._db.execute("UPDATE fact SET value = ? WHERE name = ?", (value, name))
    waiting: list[Commit] = []
    for each in commits:
        file.commit(each)
        waiting.append(each)
        if chance.random() < 0.2:
            file.move(waiting, {})
            # To move them twice changes nothing.
            file.move(waiting, {})
            waiting = []
    file.close()
    one, many = content(one_by_one), content(together)
    assert many[:3] == one[:3]
    assert many[3] < one[3]


def test_recent_commits_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds are in bytes and in changes."""
    monkeypatch.setattr(recent, "MOVED_CHANGES", 5)
    kept = Recent(moved_bytes=100)
    for number in range(1, 5):
        kept.add(commit(number, (number, 1)))
    assert not kept.due
    kept.add(commit(5, (5, 1)))
    assert kept.due
    kept.moved(1)
    assert not kept.due
    kept.add(Commit(commits=6, clock_ms=1, data=b"x" * 100))
    assert kept.due
    assert (kept.oldest, kept.newest, kept.first(1), kept.first(2)) == (2, 6, None, 1)
    kept.clear()
    assert not kept.due
    assert (kept.oldest, len(kept)) == (0, 0)


LONG = Namespaces(ChannelOptions(history_size=100_000, history_ttl_seconds=300))


async def test_history_is_whole_wherever_its_publications_lie(tmp_path: Path) -> None:
    """History has no hole from any offset on, whether its publications lie in blocks, in
    recent commits or in memory."""
    async with StoredNode(tmp_path / "hub.db", namespaces=LONG) as node:
        memory = node.stored._commits.memory
        assert memory is not None
        memory._history.max_bytes = 2000
        for _ in range(3):
            for _ in range(20):
                await node.publish()
            node.a_second_passes()
            await eventually(lambda: node.stored._writer.settled)
            assert not node.stored._commits.recent
            for _ in range(10):
                await node.publish()
            assert len(node.stored._commits.recent) == 10
        for after in range(91):
            assert await node.offsets("a", after, 1000) == list(range(after + 1, 91))
            assert (await node.history("a", after)).oldest == 1
            assert await node.offsets("a", after, 7) == list(range(after + 1, min(after + 8, 91)))


async def one_in_the_file(node: StoredNode) -> None:
    """Publish one that is in the file and no more in memory."""
    memory, writer = node.stored._commits.memory, node.stored._writer
    assert memory is not None
    memory._history.max_bytes = 0
    await node.publish()
    node.a_second_passes()
    await eventually(lambda: writer.settled)


def move_behind_reads(node: StoredNode, patch: pytest.MonkeyPatch, moving: list[int]) -> None:
    """Move so many commits into the file behind each of the next reads of it."""
    kept, pages, writer = node.stored._commits.recent, node.stored._pages, node.stored._writer
    read = pages._from_file

    async def read_and_move(page: _Page) -> HistoryPage:
        found = await read(page)
        if moving:
            commits, file = kept.all()[: moving.pop(0)], writer.file
            assert file is not None
            await writer.by_thread(partial(file.move, commits, {}))
            node.stored._tending.moved(commits, [])
        return found

    patch.setattr(pages, "_from_file", read_and_move)


async def test_a_page_has_no_hole_where_commits_are_moved_while_the_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of the file does not have them yet, and memory has them no more."""
    async with StoredNode(tmp_path / "hub.db", namespaces=LONG) as node:
        await one_in_the_file(node)
        for _ in range(4):
            await node.publish()
        move_behind_reads(node, monkeypatch, [1, 2])
        assert await node.offsets() == [1]
        assert await node.offsets("a", 1) == [2]
        assert await node.offsets() == [1, 2, 3, 4, 5]


async def test_a_page_has_no_hole_where_all_blocks_were_too_old_when_the_file_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is complete although the first recent commit moves into the
    file while the page is read."""
    async with StoredNode(tmp_path / "hub.db", namespaces=LONG) as node:
        await one_in_the_file(node)
        node.clock.advance(200)
        await node.publish()
        await node.publish()
        node.clock.advance(101)
        move_behind_reads(node, monkeypatch, moving := [1])
        assert (await node.offsets())[:1] == [2]
        assert not moving


async def test_recent_publications_are_there_when_all_blocks_are_too_old(tmp_path: Path) -> None:
    """The file's page is empty then, and says nothing of them."""
    async with StoredNode(tmp_path / "hub.db", namespaces=LONG) as node:
        memory = node.stored._commits.memory
        assert memory is not None
        memory._history.max_bytes = 0
        await node.publish()
        node.a_second_passes()
        await eventually(lambda: node.stored._writer.settled)
        node.clock.advance(200)
        await node.publish()
        await node.publish()
        node.clock.advance(101)
        page = await node.history("a")
        assert (page.oldest, [each.offset for each in page.publications]) == (2, [2, 3])


async def test_blocks_of_a_channel_that_was_forgotten_before_they_were_moved_go(
    tmp_path: Path,
) -> None:
    """They belong to nobody, and do not wait for their age."""
    async with StoredNode(tmp_path / "hub.db", namespaces=LONG) as node:
        await node.publish("gone")
        commits, writer = node.stored._commits.recent.all(), node.stored._writer
        (channel,) = changed(commits)
        file = writer.file
        assert file is not None
        await writer.by_thread(partial(file.move, commits, {}))
        node.forget("gone")
        # Only now the loop hears of it.
        node.stored._tending._dead.clear()
        node.stored._tending.moved(commits, [channel])
        node.a_second_passes()
        await eventually(lambda: writer.settled and not node.stored._tending._dead)
        with closing(sqlite3.connect(tmp_path / "hub.db")) as db:
            assert db.execute("SELECT count(*) FROM block").fetchone() == (0,)


async def test_publications_that_no_history_keeps_are_not_on_the_disk(tmp_path: Path) -> None:
    """Also where it comes in one commit with others."""
    async with StoredNode(tmp_path / "hub.db", namespaces=LONG) as node:
        kept = [PublishRequest("a", b'"kept %d"' % number, "p") for number in range(3)]
        hidden = PublishRequest("a", b'"hidden"', "p", keep_ms=0)
        requests = [kept[0], hidden, kept[1], hidden, kept[2]]
        await node.stored.publish_many(requests)
        assert await node.offsets() == [1, 3, 5]
        lying = b"".join([(tmp_path / name).read_bytes() for name in ("hub.db", "hub.db-wal")])
        assert b"kept 2" in lying
        assert b"hidden" not in lying


async def test_a_cleared_history_stays_cleared_wherever_it_lay(tmp_path: Path) -> None:
    """Also for the next process, which moves what this one has left."""
    path = tmp_path / "hub.db"
    async with StoredNode(path, namespaces=LONG) as node:
        for _ in range(5):
            await node.publish()
        await node.broker.clear("a")
        await node.publish()
        assert await node.offsets() == [6]
        assert (await node.history("a")).oldest == 6
        assert (await node.history("a", 5)).oldest == 6
        (tmp_path / "cut").mkdir()
        for name in ("hub.db", "hub.db-wal"):
            shutil.copy(tmp_path / name, tmp_path / "cut" / name)
    async with StoredNode(tmp_path / "cut" / "hub.db", clock=node.clock, namespaces=LONG) as node:
        assert await node.offsets() == [6]
        assert (await node.publish()).offset == 7


async def test_commits_are_moved_together_under_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one by one, although the writing thread is idle after each."""
    steps_made: list[int] = []
    move = HistoryFile.move

    def counted(file: HistoryFile, commits: Sequence[Commit], oldest: dict[int, int]) -> None:
        steps_made.append(len(commits))
        move(file, commits, oldest)

    monkeypatch.setattr(HistoryFile, "move", counted)
    monkeypatch.setattr(recent, "MOVED_CHANGES", 100)
    async with StoredNode(tmp_path / "hub.db", namespaces=LONG) as node:
        for number in range(400):
            await node.stored.publish(PublishRequest("a", b"1", "p"))
            if number % 25 == 0:
                node.a_second_passes()
    assert 4 <= len(steps_made) <= 40
    assert max(steps_made) > tending._COMMITS_BETWEEN


BLOCK = [1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "line",
    [
        5, None, {}, [], [1] * 9, ["a", 2, [], [], [], [], [], [], []],
        [1, 2, [[1]], [], [], [], [], [], []], [1, 2, [], [], [], [[1, "k"]], [], [], []],
        [1, 2, [], [[*BLOCK, 0, 3]], [], [], [], [], []],
        [1, 2, [], [[*BLOCK, 2, 3]], [], [], [], [], []],
        [1, 2, [], [[*BLOCK, 2, -1]], [], [], [], [], []],
        [1, 2, [], [], [], [[1, "k", 1, 1, 1, 4]], [], [], []],
    ],
)  # fmt: skip
def test_a_row_that_no_hub_has_written_is_no_commit(line: object) -> None:
    with pytest.raises(ValueError, match=r"Expected|no such bytes"):
        unpacked(orjson.dumps(line) + b"\nabc")


@pytest.mark.parametrize("raw", [b"1 1 -1 1\na", b"1 1 0 -9\nabc", b"1 1 -9 0\nabc", b"1 1 2 -1\n"])
def test_a_record_is_never_shorter_than_nothing(raw: bytes) -> None:
    """Else it would be read again and again."""
    with pytest.raises(ValueError, match="cut off"):
        list(islice(records("a", raw), 9))


@pytest.mark.parametrize(
    "spoil",
    [
        "INSERT INTO recent VALUES (99, x'350a')",
        "INSERT INTO recent VALUES (99, 'text')",
        "INSERT INTO row VALUES (1, 'k', 1, 1, 7)",
        "UPDATE fact SET value = 'no hex' WHERE name = 'secret'",
        "UPDATE fact SET value = NULL WHERE name = 'commits'",
        "UPDATE fact SET value = 'x' WHERE name = 'clock_ms'",
        "UPDATE channel SET used_ms = 'x'",
        "UPDATE channel SET epoch = x'35'",
    ],
)  # fmt: skip
async def test_a_file_with_a_row_that_no_hub_has_written_is_said_to_be_corrupt(
    tmp_path: Path, spoil: str
) -> None:
    path = tmp_path / "hub.db"
    async with StoredNode(path) as node:
        await node.publish()
    HistoryFile(str(path)).close()  # moves the commit into the tables
    with closing(sqlite3.connect(path)) as db:
        db.execute(spoil)
        db.commit()
    async with StoredNode(path) as node:
        await eventually(node.stored.problems)
        assert "corrupt" in node.stored.problems()[0]
