"""A file of each former format is made one of today's, and keeps all that it had.

The files in `golden` were written by the last code of their format (`golden/make.py`).
"""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hub.brokers.sqlite.layout import UPGRADES, VERSION
from tests.brokers.sqlite.golden.make import CHANNELS, KEYED, content
from tests.brokers.sqlite.nodes import StoredNode

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = range(1, VERSION)


def lying(version: int, where: Path) -> Path:
    return Path(shutil.copy(GOLDEN / f"version-{version}.db", where / "hub.db"))


def test_each_former_format_has_its_upgrade_and_its_file() -> None:
    assert list(UPGRADES) == list(VERSIONS)
    assert {each.name for each in GOLDEN.glob("*.db")} == {f"version-{n}.db" for n in VERSIONS}


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_file_of_a_former_format_keeps_all_that_it_had(
    version: int, tmp_path: Path
) -> None:
    """Epochs, heads, publications with their fields, rows, and what a forgotten channel was
    told."""
    path = lying(version, tmp_path)
    expected = json.loads((GOLDEN / f"version-{version}.json").read_text())
    async with StoredNode(path) as node:
        assert await content(node) == expected
    async with StoredNode(path, clock=node.clock) as node:
        assert await content(node) == expected
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_file_of_a_former_format_goes_on(version: int, tmp_path: Path) -> None:
    """Offsets follow, keys are remembered, and blocks of both formats make one history."""
    path = lying(version, tmp_path)
    expected = json.loads((GOLDEN / f"version-{version}.json").read_text())
    async with StoredNode(path) as node:
        for number in range(7):
            again = await node.publish("none:a", idempotency_key=f"none {number}")
            assert (again.duplicate, again.offset) == (True, number + 1)
        for place, key in enumerate("abcdef", 1):
            data = b'"%b"' % key.encode()
            for name in KEYED:
                again = await node.publish(name, data, key=key, idempotency_key=f"i {key}")
                assert (again.duplicate, again.offset) == (True, place)
        for name in CHANNELS:
            epoch, offset = expected[name]["head"]
            made = await node.publish(name, key="z")
            assert (made.position.epoch, made.offset) == (epoch, offset + 1)
        assert await node.offsets("long:a", limit=1000) == list(range(1, 152))
        node.clock.advance(301)
        node.a_second_passes()
        assert not (await node.publish("none:a", idempotency_key="none 1")).duplicate
    async with StoredNode(path, clock=node.clock) as node:
        assert (await node.publish("long:a")).offset == 152


@pytest.mark.parametrize("version", [each for each in VERSIONS if UPGRADES[each]])
async def test_an_upgrade_that_ends_half_way_is_made_again(version: int, tmp_path: Path) -> None:
    """A power cut within it leaves the former format."""
    path = lying(version, tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        # So that pages go to the WAL before the commit.
        db.execute("PRAGMA cache_size = 1")
        db.executescript(f"BEGIN IMMEDIATE; {UPGRADES[version]}")
        for name in ("hub.db", "hub.db-wal"):
            shutil.copy(tmp_path / name, tmp_path / f"cut-{name}")
        assert (tmp_path / "cut-hub.db-wal").stat().st_size
    expected = json.loads((GOLDEN / f"version-{version}.json").read_text())
    async with StoredNode(tmp_path / "cut-hub.db") as node:
        assert await content(node) == expected
