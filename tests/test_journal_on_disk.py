"""`HUB_JOURNAL_PATH` with real processes: tickets of yesterday, and disks that take nothing."""

import json
import sqlite3
from pathlib import Path

import pytest

from tests.cli.operating import TOKEN_KEY, OperatedHub, environment, publish, run, subscribed
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(240)


async def test_publications_that_a_subject_got_are_known_after_a_restart(tmp_path: Path) -> None:
    """By subject and by connection: the epoch of the channel has ended with the process."""
    with OperatedHub(HUB_TOKEN_KEYS=TOKEN_KEY, HUB_JOURNAL_PATH=str(tmp_path)) as hub:
        variables = environment(hub.url)
        async with subscribed(hub, "orders", subject="ada") as peer:
            await publish(hub, "orders", 1, 2)
            await run("disconnect", peer.id, **variables)
            await peer.connection.wait_closed()
        hub.restart()
        by_subject = await run("explain", "--subject", "ada", "orders", "2", **variables)
        by_connection = await run("explain", peer.id, "orders", "2", "--json", **variables)
    assert (by_subject.code, by_subject.err) == (0, "")
    assert by_subject.out.startswith("written: written to its connection when it came (")
    assert peer.id in by_subject.out.splitlines()[0]
    assert "4403 disconnected by operator" in by_subject.out
    told = json.loads(by_connection.out)
    assert (told["answer"], told["offset"]) == ("written", 2)
    assert "head" not in told


async def test_a_hub_that_was_killed_remembers_who_was_there(tmp_path: Path) -> None:
    """The answer says that the connection was cut with its node, and
    that what it got is unknown."""
    with OperatedHub(HUB_TOKEN_KEYS=TOKEN_KEY, HUB_JOURNAL_PATH=str(tmp_path)) as hub:
        async with subscribed(hub, "orders", subject="ada") as peer:
            await publish(hub, "orders", 1)
            store = sqlite3.connect(next(tmp_path.glob("*.sqlite3")))

            def is_noted() -> bool:
                query = "SELECT count(*) FROM notes WHERE kind = 'opened'"
                return bool(store.execute(query).fetchone()[0])

            await eventually(is_noted, what="the connection in the file")
            store.close()
            hub.kill()
        hub.start()
        told = await run("explain", "--subject", "ada", "--json", **environment(hub.url))
        asked = await run("explain", "--subject", "ada", "orders", "1", **environment(hub.url))
    (visit,) = json.loads(told.out)["connections"]
    assert (visit["connection"], visit["code"]) == (peer.id, 1006)
    assert (visit["reason"], visit["complete"]) == ("its node ended without a word", False)
    assert asked.out.startswith("unknown: ")


async def test_a_path_that_cannot_be_written_to_is_one_line_and_no_outage(tmp_path: Path) -> None:
    """The hub serves, and says what it remembers."""
    (tmp_path / "file").write_text("")
    path = str(tmp_path / "file" / "below")
    with OperatedHub(HUB_TOKEN_KEYS=TOKEN_KEY, HUB_JOURNAL_PATH=path) as hub:
        variables = environment(hub.url)
        async with subscribed(hub, "orders", subject="ada"):
            await publish(hub, "orders", 1)
            told = await run("explain", "--subject", "ada", "orders", "1", **variables)
        log = hub.stderr
    assert told.out.startswith("written: ")
    assert log.count("journal_not_written") == 1
