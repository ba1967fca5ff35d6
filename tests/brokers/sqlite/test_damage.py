"""A byte of the history file that a disk has changed never makes another publication."""

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import httpx2 as httpx
import pytest

from hub.brokers.sqlite.checking import damaged
from hub.brokers.sqlite.file import HistoryFile
from hub.core.ports import PublishRequest
from hub.errors import UnavailableError
from tests.brokers.sqlite.nodes import StoredNode
from tests.brokers.sqlite.test_sqlite_backup import hub_backup
from tests.core.fakes import FakeClock
from tests.support.hub_process import HubProcess

CHANNELS = ("long:a", "long:b", "rows:a")
PUBLICATIONS = 90
DAMAGES = 40
GOLDEN = Path(__file__).parent / "golden"

Held = dict[str, dict[int, tuple[bytes, int, str | None]]]


async def fill(path: Path) -> Held:
    """Publish, and return data, time and key by channel and offset."""
    held: Held = {name: {} for name in CHANNELS}
    async with StoredNode(path) as node:
        for number in range(PUBLICATIONS):
            name = CHANNELS[number % len(CHANNELS)]
            key = f"k{number % 7}" if name == "rows:a" else None
            data = b'"%d %b"' % (number, b"x" * (number * 7 % 400))
            await node.publish(name, data, key=key)
            node.clock.advance(0.1)
        for name in CHANNELS:
            for each in (await node.history(name, 0, 1000)).publications:
                held[name][each.offset] = each.data, each.time_ms, each.key
    return held


async def judge(path: Path, held: Held) -> int:
    """Read all that the file still gives, and return how many publications that are.

    Each is one that was published, with its time and key.
    """
    found = 0
    async with StoredNode(path, clock=FakeClock()) as node:
        for name in CHANNELS:
            after = 0
            while True:
                try:
                    page = await asyncio.wait_for(node.history(name, after, 7), 10)
                except UnavailableError:
                    break
                for each in page.publications:
                    assert held[name][each.offset] == (each.data, each.time_ms, each.key)
                    found += 1
                if not page.publications:
                    break
                after = page.last
    return found


async def test_a_byte_that_a_disk_has_changed_is_never_taken_for_published(tmp_path: Path) -> None:
    """SQLite checks its trees and no payload, so that publications have checksums of their own."""
    source = tmp_path / "whole.db"
    held = await fill(source)
    whole = await judge(Path(shutil.copy(source, tmp_path / "copy.db")), held)
    raw, chance, less = source.read_bytes(), random.Random(26), 0
    for number in range(DAMAGES):
        damaged = bytearray(raw)
        damaged[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        path = tmp_path / f"{number}.db"
        path.write_bytes(damaged)
        less += await judge(path, held) < whole
    assert less, "no damage came where it shows"


@pytest.mark.parametrize(
    ("old", "new", "left", "damaged"),
    [
        (b'"6 data"', b'"6 dat4"', [5, 7, 8, 9], (6,)),
        (b'"key6"', b'"key7"', [5, 7, 8, 9], (6,)),
        (b'"5 data"6 ', b'"5 data"7 ', [5, 7, 8, 9], (7,)),
        (b" data", b" dat4", [65, 66, 67, 68], tuple(range(5, 65))),
    ],
    ids=["data", "key", "offset", "all"],
)
async def test_a_changed_publication_is_left_out_and_named(
    path: Path, old: bytes, new: bytes, left: Sequence[int], damaged: tuple[int, ...]
) -> None:
    """The log names it once, others come, and publishing goes on."""
    async with StoredNode(path) as node:
        requests = [
            PublishRequest("long:a", b'"%d data"' % number, "p", key=f"key{number}")
            for number in range(1, 71)
        ]
        await node.stored.publish_many(requests)
    with closing(HistoryFile(str(path))) as file:
        [(id_, block)] = file._db.execute("SELECT id, data FROM block WHERE first = 1").fetchall()
        assert old in block
        file._db.execute("UPDATE block SET data = ? WHERE id = ?", (block.replace(old, new), id_))
    async with StoredNode(path, clock=node.clock) as node:
        page = await node.history("long:a", 4, 4)
        assert [each.offset for each in page.publications] == left
        assert page.invalid == damaged
        await node.history("long:a", 4, 4)
        assert node.events().count("history_damaged") == 1
        assert node.stored.problems() == ()
        assert (await node.publish("long:a")).offset == 71


def change(path: Path, statement: str) -> None:
    """Change what is in the tables, as a disk may."""
    with closing(HistoryFile(str(path))) as file:
        file._db.execute(statement)


async def test_a_block_of_another_channel_is_not_handed_out(path: Path) -> None:
    """The number of a channel is one byte in the file, and in the index."""
    async with StoredNode(path) as node:
        for name in ("long:a", "long:b"):
            requests = [PublishRequest(name, b'"of %b"' % name.encode(), "p") for _ in range(70)]
            await node.stored.publish_many(requests)
    change(path, "UPDATE block SET channel = 3 - channel")
    async with StoredNode(path, clock=node.clock) as node:
        page = await node.history("long:b", 0, 100)
        assert (page.publications, page.invalid) == ((), tuple(range(1, 71)))


async def test_where_very_many_are_changed_the_page_is_unreadable(path: Path) -> None:
    """The hub does not look through a whole channel for one that is left."""
    async with StoredNode(path) as node:
        requests = [PublishRequest("long:a", b'"data"', "p") for _ in range(400)]
        await node.stored.publish_many(requests)
    change(path, "UPDATE block SET data = replace(data, 'data', 'dat4')")
    async with StoredNode(path, clock=node.clock) as node:
        with pytest.raises(UnavailableError, match="are not as they were written"):
            await node.history("long:a", 0, 3)
        assert node.events().count("history_damaged") == 0


@pytest.mark.parametrize(
    "spoil",
    [
        "replace(data, 'row b', 'row c')",
        "replace(data, '\"b\"', '\"c\"')",
        "substr(data, 1, 4)",
        "x''",
        "data || data",
    ],
    ids=["data", "key", "cut off", "empty", "twice"],
)
async def test_a_changed_row_of_a_table_is_left_out_and_counted(path: Path, spoil: str) -> None:
    """The other rows are there, and readers learn that one was dropped, until it comes anew."""
    async with StoredNode(path) as node:
        for key in ("a", "b", "c"):
            await node.publish("rows:a", b'"row %b"' % key.encode(), key=key)
    change(path, f"UPDATE row SET data = CAST({spoil} AS BLOB) WHERE key = 'b'")
    async with StoredNode(path, clock=node.clock) as node:
        assert node.stored.problems() == ()
        [logged] = [each for each in node.logged.entries if each["event"] == "history_damaged"]
        assert (logged["channel"], logged["keys"]) == ("rows:a", ["b"])
        page = await node.stored.state("rows:a", "", 10)
        assert [(each.key, each.data) for each in page.rows] == [
            ("a", b'"row a"'), ("c", b'"row c"'),
        ]  # fmt: skip
        assert page.dropped == 1
        assert (await node.publish("rows:a", key="a")).offset == 4
    # The commit has deleted the row from the file.
    async with StoredNode(path, clock=node.clock) as node:
        assert (await node.stored.state("rows:a", "", 10)).dropped == 0
        assert node.events().count("history_damaged") == 0


async def test_where_very_many_rows_are_changed_the_file_is_corrupt(path: Path) -> None:
    """The hub does not begin with an empty table."""
    async with StoredNode(path) as node:
        requests = [PublishRequest("rows:a", b"5", "p", key=f"k{each}") for each in range(300)]
        await node.stored.publish_many(requests)
    change(path, "UPDATE row SET data = x'35'")
    async with StoredNode(path, clock=node.clock) as node:
        assert "rows of tables are not as they were written" in node.stored.problems()[0]


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_subscriber_gets_a_gap_in_the_place_of_a_changed_publication(
    path: Path, workers: str
) -> None:
    """The subscriber gets the publications before and behind it, in order, also from a worker."""
    with HubProcess("--workers", workers, HUB_BROKER=f"sqlite://{path}") as hub:
        async with httpx.AsyncClient(base_url=hub.url) as client:
            items = [{"channel": "a", "data": f"number {number}"} for number in range(1, 6)]
            [first, *_] = (await client.post("/api/publish", json=items)).json()
        hub.stop()
        for name in (path, path.with_name(f"{path.name}-wal")):
            if name.exists():
                name.write_bytes(name.read_bytes().replace(b'"number 3"', b'"number 8"'))
        hub.restart()
        async with httpx.AsyncClient(base_url=hub.url) as client:
            since = f"a={first['epoch']}:0"
            answer = await client.get("/poll", params={"channel": "a", "since": since})
    got = [
        (each["op"], each.get("offset"), each.get("from"), each.get("reason"))
        for each in answer.json()["pushes"]
    ]
    assert got == [
        ("message", 1, None, None),
        ("message", 2, None, None),
        ("gap", None, 3, "invalid"),
        ("message", 4, None, None),
        ("message", 5, None, None),
    ]


@pytest.mark.parametrize(
    "keys",
    [
        "x'355d'",
        "'[[1]]'",
        """CAST('[["p","no hex",1,9000000000000,"e",1]]' AS BLOB)""",
        "CAST(substr(keys, 2) AS BLOB)",
    ],
)
async def test_idempotency_keys_that_a_disk_has_changed_are_forgotten(
    path: Path, keys: str
) -> None:
    """The others are known, and the file is in use."""
    clock = FakeClock()
    for key in "abcd":
        async with StoredNode(path, clock=clock) as node:
            await node.publish(idempotency_key=key)
    change(path, f"UPDATE remembered SET keys = {keys} WHERE id IN (2, 3)")
    async with StoredNode(path, clock=clock) as node:
        [logged] = [each for each in node.logged.entries if each["event"] == "history_damaged"]
        assert logged["rows_of_keys"] == 2
        again = [(await node.publish(idempotency_key=key)).duplicate for key in "abcd"]
        assert again == [True, False, False, True]
        assert node.stored.problems() == ()


async def test_an_offset_comes_not_again_where_a_disk_has_changed_the_head_of_a_channel(
    path: Path,
) -> None:
    """The blocks say how far the channel has come too."""
    async with StoredNode(path) as node:
        requests = [PublishRequest("long:a", b"5", "p") for _ in range(70)]
        await node.stored.publish_many(requests)
    change(path, "UPDATE channel SET offset = 6")
    async with StoredNode(path, clock=node.clock) as node:
        assert (await node.publish("long:a")).offset == 71
        page = await node.history("long:a", 68, 9)
        assert [each.offset for each in page.publications] == [69, 70, 71]


@pytest.mark.parametrize("left", ["stopped", "killed"])
async def test_a_backup_names_what_a_disk_has_changed(path: Path, left: str) -> None:
    """It ends with 1, and the copy is there all the same: a hub goes on with it."""
    source, target = path.with_name("source.db"), path.with_name("copy.db")
    async with StoredNode(path) as node:
        requests = [PublishRequest("long:a", b'"%d data"' % number, "p") for number in range(1, 71)]
        await node.stored.publish_many(requests)
        for key in ("a", "b"):
            await node.publish("rows:a", b'"row %b"' % key.encode(), key=key)
        whole = hub_backup(str(target), HUB_BROKER=f"sqlite://{path}")
        assert (whole.returncode, whole.stderr.count("\n")) == (0, 1)
        for suffix in ("", "-wal") if left == "killed" else ():
            shutil.copy(f"{path}{suffix}", f"{source}{suffix}")
    if left == "stopped":
        HistoryFile(str(path)).close()  # moves the commits into the tables
        shutil.copy(path, source)
    with closing(sqlite3.connect(source)) as db:
        for table in ("block", "row", "recent"):
            for old, new in (('"5 data', '"5 dat4'), ('"6 data', '"6 dat4'), ("row b", "row c")):
                changed = f"CAST(replace(data, '{old}', '{new}') AS BLOB)"
                db.execute(f"UPDATE {table} SET data = {changed}")
        db.commit()
    ran = hub_backup(str(target), "--force", HUB_BROKER=f"sqlite://{source}")
    assert ran.returncode == 1
    named = [line.strip() for line in ran.stderr.splitlines() if line.startswith("\t")]
    assert named == ["long:a 5-6", "rows:a row b"]
    async with StoredNode(target, clock=node.clock) as node:
        page = await node.history("long:a", 4, 3)
        assert ([each.offset for each in page.publications], page.invalid) == ([7, 8, 9], (5, 6))


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_copy_of_a_file_without_checksums_has_nothing_to_look_at(
    tmp_path: Path, version: int
) -> None:
    path, target = tmp_path / "hub.db", tmp_path / "copy.db"
    shutil.copy(GOLDEN / f"version-{version}.db", path)
    ran = hub_backup(str(target), HUB_BROKER=f"sqlite://{path}")
    assert ran.returncode == 0, ran.stderr


async def test_a_block_that_cannot_be_read_is_named_as_a_whole(path: Path) -> None:
    async with StoredNode(path) as node:
        requests = [PublishRequest("long:a", b"5", "p") for _ in range(70)]
        await node.stored.publish_many(requests)
    change(path, "UPDATE block SET data = substr(data, 1, 20) WHERE first = 65")
    assert damaged(str(path)) == ["long:a 65-70"]
