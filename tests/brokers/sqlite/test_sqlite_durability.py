"""Every acknowledged publication is in the file, and a channel continues after a restart."""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import pytest

from hub.brokers.sqlite import reading
from hub.brokers.sqlite.faults import Fault, FileError
from hub.brokers.sqlite.file import HistoryFile
from hub.brokers.sqlite.layout import VERSION, Commit
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import PublishRequest, PublishResult
from hub.core.publication import REMOVES, Position
from hub.errors import ConflictError, NotPublishedError, OutcomeUnknownError, UnavailableError
from tests.brokers.sqlite.nodes import StoredNode
from tests.core.fakes import FakeClock
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("quick_retries")


@pytest.fixture
async def node(path: Path) -> AsyncGenerator[StoredNode]:
    async with StoredNode(path) as made:
        yield made


def as_it_lies(path: Path, where: Path) -> Path:
    """The files as a power cut would leave them now: without what only processes know."""
    where.mkdir()
    for name in (path.name, f"{path.name}-wal"):
        if (path.parent / name).exists():
            shutil.copy(path.parent / name, where / name)
    return where / path.name


async def test_everything_goes_on_after_a_restart(path: Path) -> None:
    """Epochs, offsets, history with all its fields, and what a channel without use was told."""
    async with StoredNode(path) as node:
        promised = (await node.history("unused")).head
        await node.broker.publish(
            PublishRequest("a", b'"x"', "p", key="k", sender="ann", skip_connection="c", trace="t")
        )
        second = await node.publish("a", b'{"b":"\xc3\xa9\\n"}')
        bare = await node.publish("none:a")
        before = await node.history("a")
    async with StoredNode(path, clock=node.clock) as node:
        assert await node.history("a") == before
        assert (await node.history("unused")).head == promised
        assert (await node.publish("a")).position == Position(second.epoch, second.offset + 1)
        assert (await node.publish("none:a")).position == Position(bare.epoch, bare.offset + 1)
        assert await node.subscribe("a") == Position(second.epoch, 3)


async def test_a_retry_after_a_restart_is_not_published_again(path: Path) -> None:
    """Nor with other data; and no longer than the key is remembered."""
    async with StoredNode(path) as node:
        first = await node.publish(data=b'"x"', key="k", idempotency_key="i")
    clock = node.clock
    clock.advance(200)
    async with StoredNode(path, clock=clock) as node:
        again = await node.publish(data=b'"x"', key="k", idempotency_key="i")
        assert (again.position, again.duplicate) == (first.position, True)
        with pytest.raises(ConflictError):
            await node.publish(data=b'"y"', key="k", idempotency_key="i")
        clock.advance(101)
        assert not (await node.publish(data=b'"x"', key="k", idempotency_key="i")).duplicate


async def test_acknowledged_publications_are_in_a_copy_taken_at_any_moment_after(
    path: Path, tmp_path: Path
) -> None:
    """Of file and WAL as they lie, while other publications are under way."""
    async with StoredNode(path) as node:
        for round_ in range(12):
            under_way = [
                asyncio.create_task(node.publish(f"long:{number % 5}", b'"%d"' % number))
                for number in range(40)
            ]
            done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            copied = as_it_lies(path, tmp_path / f"cut-{round_}")
            await asyncio.wait(under_way)
            async with StoredNode(copied) as after:
                for task in done:
                    position = task.result().position
                    name = f"long:{under_way.index(task) % 5}"
                    page = await after.history(name, limit=1000)
                    assert page.head.epoch == position.epoch
                    assert page.head.offset >= position.offset
                    found = [each.offset for each in page.publications]
                    assert found == list(range(1, page.head.offset + 1))


async def test_several_in_one_call_share_a_commit_and_keep_their_order(node: StoredNode) -> None:
    """Each publication has its own outcome."""
    await node.subscribe("a")
    before = node.stored._writer.commits
    requests = [PublishRequest("a", b"%d" % n, "p", idempotency_key="i") for n in range(2)]
    requests += [PublishRequest("a", b"%d" % n, "p") for n in range(2, 500)]
    outcomes = await node.stored.publish_many(requests)
    assert node.stored._writer.commits == before + 1
    assert isinstance(outcomes[1], ConflictError)
    made = [each for each in outcomes if isinstance(each, PublishResult)]
    assert [each.offset for each in made] == list(range(1, 500))
    assert [p.data for p in node.delivered] == [b"0", *(b"%d" % n for n in range(2, 500))]


async def test_a_repeat_within_one_commit_gets_the_first_answer(node: StoredNode) -> None:
    """Although the first is not written yet when it comes."""
    results = await asyncio.gather(*(node.publish(idempotency_key="i") for _ in range(5)))
    assert [each.duplicate for each in results] == [False, True, True, True, True]
    assert {each.offset for each in results} == {1}


async def test_nothing_is_delivered_before_it_is_on_the_disk(
    node: StoredNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subscriber never has what a crash could take back."""
    await node.subscribe("a")
    committed = HistoryFile.commit
    seen: list[int] = []

    def commit(file: HistoryFile, what: Commit) -> None:
        committed(file, what)
        seen.append(len(node.delivered))

    monkeypatch.setattr(HistoryFile, "commit", commit)
    await node.publish()
    assert seen == [0]
    assert len(node.delivered) == 1


@pytest.mark.parametrize("fault", [Fault.FULL, Fault.IO, Fault.LOCKED, Fault.READ_ONLY])
async def test_a_commit_that_fails_publishes_nothing_and_gives_no_number_out(
    node: StoredNode, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """All that waited are told, the node is not ready, and goes on by itself when it may."""
    await node.publish("a", b'"before"')
    await node.subscribe("a")
    committed, checked, broken = HistoryFile.commit, HistoryFile.check, True

    def commit(file: HistoryFile, what: Commit) -> None:
        if broken:
            raise FileError(fault, file.path)
        committed(file, what)

    def check(file: HistoryFile) -> None:
        if broken:
            raise FileError(fault, file.path)
        checked(file)

    monkeypatch.setattr(HistoryFile, "commit", commit)
    monkeypatch.setattr(HistoryFile, "check", check)
    answers = await asyncio.gather(
        *(node.publish(name) for name in ("a", "b", "a")), return_exceptions=True
    )
    assert {type(each) for each in answers} == {NotPublishedError}
    assert "hub.db" in node.stored.problems()[0]
    assert node.stored.record().unwritable_servers == 1
    with pytest.raises(NotPublishedError):
        await node.publish()
    assert (await node.history()).head.offset == 1
    assert await node.offsets() == [1]
    broken = False
    await eventually(lambda: not node.stored.problems())
    assert (await node.publish()).offset == 2
    assert (await node.publish("b")).offset == 1
    assert [each.offset for each in node.delivered] == [2]
    assert node.events().count("history_not_written") == 1
    assert node.events().count("history_written_again") == 1


@pytest.mark.parametrize("stands", [True, False], ids=["it stands", "it does not"])
async def test_a_failed_fsync_has_the_file_read_again_and_its_content_delivered(
    node: StoredNode, monkeypatch: pytest.MonkeyPatch, stands: bool
) -> None:
    """An fsync that fails: the file is read again, and what stands in it is delivered."""
    await node.subscribe("a")
    committed = HistoryFile.commit

    def commit(file: HistoryFile, what: Commit) -> None:
        if stands:
            committed(file, what)
        monkeypatch.setattr(HistoryFile, "commit", committed)
        raise FileError(Fault.IO, file.path, uncertain=True)

    monkeypatch.setattr(HistoryFile, "commit", commit)
    with pytest.raises(OutcomeUnknownError):
        await node.publish(data=b'"x"', idempotency_key="i")
    await eventually(lambda: not node.stored.problems())
    assert [each.data for each in node.delivered] == ([b'"x"'] if stands else [])
    again = await node.publish(data=b'"x"', idempotency_key="i")
    assert (again.duplicate, again.offset) == (stands, 1)
    assert [each.data for each in node.delivered] == [b'"x"']
    assert node.resets == []


async def test_a_second_hub_on_the_same_file_waits_for_the_first(path: Path) -> None:
    """Two would give the same offsets out."""
    async with StoredNode(path) as first:
        await first.publish()
        async with StoredNode(path, clock=first.clock) as second:
            assert "another hub" in second.stored.problems()[0]
            with pytest.raises(NotPublishedError):
                await second.publish()
            await first.stored.stop()
            await eventually(lambda: not second.stored.problems())
            assert (await second.publish()).offset == 2


async def test_a_file_that_was_replaced_begins_new_epochs(path: Path, node: StoredNode) -> None:
    """By an older copy of itself, which has given fewer numbers out: everybody is told."""
    first = await node.publish()
    head = await node.subscribe("a")
    older = as_it_lies(path, path.parent / "older")
    await node.publish()
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        (path.parent / name).unlink(missing_ok=True)
    for lying in older.parent.iterdir():
        shutil.copy(lying, path.parent / lying.name)
    node.a_second_passes()
    await eventually(lambda: node.resets)
    [(channel, position)] = node.resets
    assert (channel, position.offset) == ("a", 1)
    assert position.epoch != head.epoch
    await eventually(lambda: not node.stored.problems())
    assert (await node.publish()).position == Position(position.epoch, 2)
    assert node.delivered[-1].offset == 2
    assert [p.offset for p in (await node.history()).publications] == [1, 2]
    assert first.epoch != position.epoch


@pytest.mark.parametrize("how", ["deleted", "moved"])
async def test_nothing_is_acknowledged_into_a_file_that_is_gone(
    path: Path, node: StoredNode, how: str
) -> None:
    """Not even before the look of each second: a restart would not find the publication."""
    first = await node.publish()
    for each in list(path.parent.glob(f"{path.name}*")):
        if not each.name.endswith("-lock"):
            each.unlink() if how == "deleted" else each.rename(f"{each}.away")
    with pytest.raises(NotPublishedError, match=r"moved away|not there"):
        await node.publish()
    await eventually(lambda: not node.stored.problems())
    assert (await node.publish()).epoch != first.epoch


async def test_a_replaced_file_that_cannot_be_read_at_first_is_known_afterwards(
    path: Path, node: StoredNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub compares the replaced file with the one before it even if its
    first reading of it failed."""
    await node.publish()
    await node.subscribe("a")
    older = as_it_lies(path, path.parent / "older")
    await node.publish()
    load_keys, fails = HistoryFile.load_keys, [True, False]

    def at_first_not(file: HistoryFile, after: int, now_ms: int, limit: int) -> object:
        if fails and fails.pop(0):
            raise FileError(Fault.IO, str(path))
        return load_keys(file, after, now_ms, limit)

    monkeypatch.setattr(HistoryFile, "load_keys", at_first_not)
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        (path.parent / name).unlink(missing_ok=True)
    for lying in older.parent.iterdir():
        shutil.copy(lying, path.parent / lying.name)
    node.a_second_passes()
    await eventually(lambda: not fails and not node.stored.problems())
    [(channel, position)] = node.resets
    assert (channel, position.offset) == ("a", 1)


@pytest.mark.parametrize("kind", ["text", "another program's", "cut", "newer"])
async def test_a_file_that_is_no_history_is_left_alone_and_said(path: Path, kind: str) -> None:
    """The hub comes up not ready, and goes on once somebody has put it right."""
    if kind == "text":
        path.write_bytes(b"not a database at all, but long enough to be read " * 20)
    elif kind == "another program's":
        import sqlite3

        db = sqlite3.connect(path)
        db.execute("CREATE TABLE theirs (x)")
        db.commit()
        db.close()
    elif kind == "cut":
        HistoryFile(str(path)).close()
        os.truncate(path, 5000)
    else:
        import sqlite3

        HistoryFile(str(path)).close()
        db = sqlite3.connect(path)
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
        db.close()
    before = path.read_bytes()
    async with StoredNode(path) as node:
        [problem] = node.stored.problems()
        assert str(path) in problem
        with pytest.raises(NotPublishedError):
            await node.publish()
        assert path.read_bytes() == before
        path.unlink()
        for rest in path.parent.glob("hub.db-*"):
            if not rest.name.endswith("-lock"):
                rest.unlink()
        await eventually(lambda: not node.stored.problems())
        assert (await node.publish()).offset == 1


async def test_a_directory_that_is_missing_is_waited_for(tmp_path: Path) -> None:
    """Such as a volume that is mounted late."""
    path = tmp_path / "later" / "hub.db"
    async with StoredNode(path) as node:
        assert "not there" in node.stored.problems()[0]
        path.parent.mkdir()
        await eventually(lambda: not node.stored.problems())
        await node.publish()


async def test_a_page_that_cannot_be_read_is_said_and_not_made_up(path: Path) -> None:
    """There is garbage in the middle of the file."""
    async with StoredNode(path) as node:
        for _ in range(30):
            await node.publish("long:a", b'"' + b"x" * 3000 + b'"')
    raw = bytearray(path.read_bytes())
    raw[8192:-4096] = os.urandom(len(raw) - 8192 - 4096)
    path.write_bytes(raw)
    async with StoredNode(path, clock=FakeClock()) as node:
        with pytest.raises(Exception, match=r"corrupt|not read|cut") as raised:
            await node.history("long:a")
        assert type(raised.value).__name__ == "UnavailableError"
        await eventually(node.stored.problems)


async def test_a_channel_that_was_forgotten_stays_forgotten(path: Path) -> None:
    """Its next epoch is another one, also when both begin after restarts."""
    async with StoredNode(path) as node:
        first = await node.publish()
        node.forget("a")
        told = (await node.history()).head
    async with StoredNode(path, clock=node.clock) as node:
        again = await node.publish()
        assert again.offset == 1
        assert again.epoch not in {first.epoch, ""}
        assert told.epoch == again.epoch
        assert await node.offsets() == [1]


async def test_more_channels_than_there_may_be_in_one_call(path: Path) -> None:
    """They take several commits, in which each is forgotten for the next, and all are told."""
    async with StoredNode(path, max_channels=3) as node:
        requests = [PublishRequest(f"c{n}", b"1", "p") for n in range(10)]
        outcomes = await node.stored.publish_many(requests)
        assert all(isinstance(each, PublishResult) and each.offset == 1 for each in outcomes)
        assert len(node.stored.names()) == 3
    async with StoredNode(path, clock=node.clock, max_channels=2) as node:
        assert set(node.stored.names()) == {"c8", "c9"}


async def test_rows_of_state_survive_a_restart(path: Path) -> None:
    """Removed rows stay removed, and rows above the bounds of number and age leave the file too."""
    async with StoredNode(path) as node:
        for key in "abcdef":
            await node.publish("rows:a", b'"%b"' % key.encode(), key=key)
            await node.publish("table:a", key=key)
        await node.publish("rows:a", b"null", key="b", marks=REMOVES)
        await node.publish("rows:a", b"2", key="a")
        await node.publish("table:a", key="f")
        rows, table = await node.rows("rows:a"), await node.rows("table:a")
        assert [*rows, *table] == [*"acdef", *"cdef"]
    with closing(HistoryFile(str(path))) as file:
        kept = [row.key for row in file.load_rows((0, ""), 100)]
    assert sorted(kept) == sorted([*"acdef", *"cdef"])
    node.clock.advance(100)
    async with StoredNode(path, clock=node.clock) as node:
        assert (await node.rows("rows:a"), await node.rows("table:a")) == (rows, table)
        assert (await node.publish("rows:a", key="z")).position.offset == 9
        node.clock.advance(30)
        assert await node.rows("table:a") == {}
        assert len(await node.rows("rows:a")) == 6


async def test_an_epoch_that_ends_while_an_earlier_end_is_written_is_written_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are noted at one place: the later one is not taken for the one that was written."""
    committed = HistoryFile.commit
    async with StoredNode(path) as node:
        await node.publish("a")
        noted = node.stored._commits._ended

        def commit(file: HistoryFile, what: Commit) -> None:
            committed(file, what)
            monkeypatch.setattr(HistoryFile, "commit", committed)
            noted.update({place: generation + 1 for place, generation in what.ended})

        monkeypatch.setattr(HistoryFile, "commit", commit)
        node.forget("a")
        ((place, generation),) = noted.items()
        await node.publish("b")
        await node.publish("b")
    with closing(HistoryFile(str(path))) as file:
        assert file.load().ended == {place: generation + 1}


async def test_a_row_that_went_and_came_again_in_one_commit_is_on_disk(tmp_path: Path) -> None:
    """The next commit takes away from the file only rows that are gone now."""
    path = tmp_path / "hub.db"
    two = Namespaces(ChannelOptions(history_size=10, keyed=True, state_max_keys=2))
    async with StoredNode(path, namespaces=two) as node:
        for key in ("a", "b"):
            await node.publish("rows", b'"first"', key=key)
        async with asyncio.TaskGroup() as together:
            for key in ("c", "a"):
                together.create_task(node.publish("rows", b'"again"', key=key))
        await node.publish("other")
        await node.publish("rows", b'"no row"')
    async with StoredNode(path, clock=node.clock, namespaces=two) as node:
        rows = await node.rows("rows")
    assert {key: data for key, (_, data) in rows.items()} == {"a": b'"again"', "c": b'"again"'}


async def test_history_that_is_asked_for_behind_the_end_is_unavailable(path: Path) -> None:
    """The call ends with an error, and its caller's task is not cancelled."""
    async with StoredNode(path) as node:
        await node.publish("long:a")
    async with StoredNode(path, clock=node.clock) as node:
        pass
    with pytest.raises(UnavailableError, match="not open"):
        await node.history("long:a")


async def test_a_fault_while_a_page_is_read_is_no_cancellation(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that is cancelled would end without a word to its peer."""
    async with StoredNode(path) as node:
        await node.publish("long:a")
    async with StoredNode(path, clock=node.clock) as node:
        monkeypatch.setattr(reading.FileReader, "page", Mock(side_effect=RuntimeError))
        with pytest.raises(RuntimeError):
            await node.history("long:a")
