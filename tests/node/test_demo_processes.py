"""The table of processes, with readings and a hub that are fakes."""

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import orjson
import psutil

from hub.core.ports import StatePage
from hub.core.publication import Position, Publication
from hub.errors import NotPublishedError
from hub.node.demo import (
    CHANNEL,
    ROWS,
    ProcessSample,
    demo_settings,
    rows_of,
    run_processes,
    shown_name,
    take_processes,
)
from hub.settings import Settings
from tests.node.test_demo import FakeLog
from tests.support.background import run_until

POSTGRES = ProcessSample(pid=7, name="postgres", cpu_percent=3.0, memory_bytes=50_000_000)
SHELL = ProcessSample(pid=8, name="bash", cpu_percent=0.0, memory_bytes=4_000_000)


class FakeTable:
    """Keeps rows as a keyed channel does, and remembers what was published."""

    def __init__(self, refuse: Callable[[int], bool] = lambda number: False) -> None:
        self.rows: dict[str, bytes] = {}
        self.published: list[tuple[str, bool]] = []
        """Key, and whether it was removed."""
        self._refuse = refuse
        self._numbers = count(1)

    async def publish(
        self, channel: str, data: object, *, key: str | None = None, remove: bool = False
    ) -> None:
        assert channel == CHANNEL
        assert key is not None
        if self._refuse(next(self._numbers)):
            raise NotPublishedError("the broker is away")
        self.published.append((key, remove))
        if remove:
            del self.rows[key]
        else:
            assert isinstance(data, bytes)
            self.rows[key] = data

    async def state(self, channel: str, after: str = "", limit: int = 100) -> StatePage:
        rows = tuple(
            Publication(channel=channel, offset=1, data=data, time_ms=0, key=key)
            for key, data in sorted(self.rows.items())
        )
        return StatePage(Position("e", 1), rows, None)

    def shown(self) -> dict[str, object]:
        """Names by number."""
        return {key: orjson.loads(data)["name"] for key, data in self.rows.items()}


def one_by_one(*readings: Sequence[ProcessSample]) -> Callable[[], Sequence[ProcessSample]]:
    """Each once, and the last one for ever."""
    left: Iterator[Sequence[ProcessSample]] = iter(readings[:-1])
    return lambda: next(left, readings[-1])


async def kept_until(
    table: FakeTable,
    enough: Callable[[], bool],
    read: Callable[[], Sequence[ProcessSample]],
    log: FakeLog | None = None,
    node: str = "n1",
) -> None:
    """Keep the table without pauses until `enough()`."""
    log = log or FakeLog()
    await run_until(enough, run_processes(table, node=node, log=log, interval_seconds=0, read=read))


def test_the_busiest_are_rows_by_node_and_number() -> None:
    """By CPU first, and by memory among those that rest."""
    rows = rows_of([SHELL, POSTGRES], node="n1", most=1)
    assert orjson.loads(rows["n1:7"]) == {
        "node": "n1",
        "pid": 7,
        "name": "postgres",
        "cpu_percent": 3.0,
        "memory_bytes": 50_000_000,
    }
    assert list(rows_of([SHELL, POSTGRES], node="n1")) == ["n1:7", "n1:8"]
    assert len(rows_of([ProcessSample(n, "x", 0.0, n) for n in range(100)], node="n1")) == ROWS


def test_a_change_smaller_than_is_shown_is_the_same_row() -> None:
    """A process that rests is published once."""
    nearly = ProcessSample(pid=7, name="postgres", cpu_percent=3.04, memory_bytes=50_020_000)
    assert rows_of([POSTGRES], node="n1") == rows_of([nearly], node="n1")


def test_a_name_is_one_word_and_never_the_rest_of_a_command_line() -> None:
    """Some programs write there what they do, or were given."""
    assert shown_name("postgres: ada shop 10.0.0.7(51234) idle") == "postgres"
    assert shown_name("curl --user ada:secret") == "curl"
    assert shown_name("a-name-that-psutil-completed-from-the-command-line") == "a-name-that-psu"
    assert shown_name("") == "?"


def test_no_command_line_or_environment_is_published() -> None:
    """Only what every user of this machine may see."""
    found = {each.pid: each for each in take_processes()}
    assert found[os.getpid()].memory_bytes > 0
    said = b"".join(rows_of(found.values(), node="n1", most=len(found)).values()).decode()
    arguments = [word for word in psutil.Process().cmdline()[1:] if len(word) > 3]
    assert not [word for word in arguments if word in said]


async def test_rows_appear_change_and_are_removed_as_processes_end() -> None:
    """A row that did not change is not published again."""
    table = FakeTable()
    busier = ProcessSample(pid=7, name="postgres", cpu_percent=9.0, memory_bytes=50_000_000)
    readings = one_by_one([POSTGRES, SHELL], [busier, SHELL], [busier])
    await kept_until(table, lambda: len(table.published) >= 4, readings)
    assert table.published == [
        ("n1:7", False),
        ("n1:8", False),
        ("n1:7", False),
        ("n1:8", True),
    ]
    assert table.shown() == {"n1:7": "postgres"}


async def test_rows_of_an_earlier_run_are_removed() -> None:
    """A hub that was killed left them in its file, or in Redis."""
    table = FakeTable()
    table.rows["n1:4711"] = b"{}"
    await kept_until(table, lambda: "n1:7" in table.rows, lambda: [POSTGRES])
    assert table.shown() == {"n1:7": "postgres"}


async def test_two_nodes_on_one_broker_keep_their_rows_side_by_side() -> None:
    """Also of processes with the same number, and of a node whose name begins like the other's."""
    table = FakeTable()
    other = ProcessSample(pid=7, name="redis", cpu_percent=1.0, memory_bytes=8_000_000)
    await kept_until(table, lambda: "n1:7" in table.rows, lambda: [POSTGRES])
    await kept_until(table, lambda: "n1-b:7" in table.rows, lambda: [other], node="n1-b")
    await kept_until(table, lambda: "n1:8" in table.rows, lambda: [POSTGRES, SHELL])
    assert table.shown() == {"n1:7": "postgres", "n1:8": "bash", "n1-b:7": "redis"}
    assert not [key for key, removed in table.published if removed]


async def test_a_publication_that_fails_is_made_up_for_and_said_once() -> None:
    """The next reading is compared with what the hub really has."""
    table, log = FakeTable(refuse=lambda number: number <= 3), FakeLog()
    await kept_until(table, lambda: log.events[-1:] == ["demo_recovered"], lambda: [POSTGRES], log)
    assert table.shown() == {"n1:7": "postgres"}
    assert log.events == ["demo_failing", "demo_recovered"]


def test_the_demos_namespace_is_keyed_whatever_else_is_said_of_it() -> None:
    """An operator's own options of the namespace stay."""
    assert demo_settings(Settings()).namespaces().options(CHANNEL).keyed
    changed = demo_settings(Settings(namespaces={"demo": {"history_size": 5}, "chat": {}}))
    assert changed.namespaces().options(CHANNEL).keyed
    assert changed.namespaces().options(CHANNEL).history_size == 5
    assert changed.namespaces().options(CHANNEL).state_ttl_seconds == 60
    told = Settings(namespaces={"demo": {"state_ttl_seconds": 5}})
    assert demo_settings(told).namespaces().options(CHANNEL).state_ttl_seconds == 5
    assert not changed.namespaces().options("chat:1").keyed
