"""A live node shows its tasks, stalls and memory, and never shows a value."""

import asyncio
import io
import time
import tracemalloc
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
import structlog

from hub.admin.debugging import (
    DebuggingHandlers,
    GetLogLevels,
    GetMemory,
    GetStalls,
    GetTasks,
    SetLogLevels,
    TraceMemory,
)
from hub.admin.requests import AdminRequest
from hub.errors import BadRequestError, ConflictError
from hub.observe import inspection
from hub.observe.inspection import count_objects, look_at_tasks
from hub.observe.logs import make_logger
from hub.observe.loop_lag import LoopLag, Stall
from tests.support.waiting import eventually

SECRET = "s3cret-payload"


@dataclass(frozen=True, slots=True)
class LogChoice:
    log_level: str = "info"
    log_format: str = "json"
    node: str = "n1"


class Rig:
    """A node's debugging without the node."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        log = make_logger(LogChoice(), self.stream)
        self.lag = LoopLag(log, interval_seconds=0.001, stall_seconds=0.02)
        self.tasks: list[asyncio.Task[None]] = []
        debugging = DebuggingHandlers(lag=self.lag, log=log, spawn=self._spawn)
        self._handlers = debugging.handlers()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        async def run() -> None:
            await work

        self.tasks.append(asyncio.create_task(run()))

    async def ask(self, request: AdminRequest[Any]) -> Any:
        return await self._handlers[type(request)](request)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    for task in rig.tasks:
        task.cancel()
    await asyncio.gather(*rig.tasks, return_exceptions=True)
    assert not tracemalloc.is_tracing()


# -- tasks -------------------------------------------------------------------------------------


async def waiting_inside(event: asyncio.Event, _secret: str) -> None:
    await event.wait()


async def waiting(event: asyncio.Event, secret: str) -> None:
    await waiting_inside(event, secret)


async def test_tasks_are_shown_by_where_they_wait(rig: Rig) -> None:
    """A row leads from the task's own coroutine down to the line that waits;
    equal tasks are one row."""
    event = asyncio.Event()
    tasks = [asyncio.create_task(waiting(event, SECRET), name=f"w{n}") for n in range(5)]
    await asyncio.sleep(0)
    told = await rig.ask(GetTasks())
    event.set()
    await asyncio.gather(*tasks)
    (row,) = [row for row in told["tasks"] if row["coroutine"] == "waiting"]
    assert row["count"] == 5
    assert len(row["names"]) == 3
    assert set(row["names"]) <= {f"w{n}" for n in range(5)}
    where = [line.split(" ")[1] for line in row["waits_at"]]
    assert where == ["waiting", "waiting_inside", "Event.wait"]
    assert row["waits_at"][0].startswith("tests/admin/test_debugging.py:")
    assert told["total"] == told["looked_at"] >= 6
    assert SECRET not in repr(told)


async def test_a_look_at_tasks_is_bounded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most `MAX_TASKS` tasks are looked at, and the loop serves others in between."""
    monkeypatch.setattr("hub.observe.inspection.MAX_TASKS", 1000)
    event, turns = asyncio.Event(), 0
    tasks = [asyncio.create_task(waiting(event, "")) for _ in range(1500)]
    looking = asyncio.create_task(look_at_tasks())
    while not looking.done():
        turns += 1
        await asyncio.sleep(0)
    event.set()
    await asyncio.gather(*tasks)
    told: Any = looking.result()
    assert (told["total"], told["looked_at"]) == (1502, 1000)
    assert turns > 3


async def test_of_tasks_200_rows_are_told_and_of_objects_50_types(rig: Rig) -> None:
    """Of tasks those at the most frequent places."""
    event = asyncio.Event()
    places: dict[str, Any] = {}
    for number in range(201):
        exec(f"async def place_{number}(event): await event.wait()", places)
    tasks = [asyncio.create_task(places[f"place_{number}"](event)) for number in range(201)]
    await asyncio.sleep(0)
    told = await rig.ask(GetTasks())
    event.set()
    await asyncio.gather(*tasks)
    assert len(told["tasks"]) == 200
    objects: Any = await count_objects(time.monotonic)
    assert len(objects["objects"]) == 50


# -- stalls ------------------------------------------------------------------------------------


def hold_the_loop(rig: Rig) -> None:
    """Until the watchdog has seen it."""
    deadline = time.monotonic() + 20
    while "event_loop_blocked" not in rig.stream.getvalue() and time.monotonic() < deadline:
        time.sleep(0.001)


async def test_stalls_are_told_with_their_stack_newest_first(rig: Rig) -> None:
    """Stalls that the log held back are shown too."""
    rig.lag.start(asyncio.get_running_loop())
    try:
        hold_the_loop(rig)
        told = await eventually(lambda: rig.ask(GetStalls()), what="an answer")
        told = await eventually(lambda: _with_stalls(rig), what="a stall")
    finally:
        rig.lag.stop()
    assert "in hold_the_loop" in told["stalls"][-1]["stack"]
    assert told["stalls"][-1]["lag_seconds"] >= 0.02
    assert told["stalls"][-1]["at_ms"] > 1_700_000_000_000
    assert told["total"] >= len(told["stalls"])


async def _with_stalls(rig: Rig) -> Any:
    told = await rig.ask(GetStalls())
    return told if told["stalls"] else None


async def test_no_more_stalls_are_kept_than_there_is_room_for(rig: Rig) -> None:
    """The oldest goes."""
    for number in range(60):
        rig.lag.recent.append(Stall(number, 0.1, ""))
    told = await rig.ask(GetStalls())
    assert [stall["at_ms"] for stall in told["stalls"]] == list(range(59, 9, -1))


# -- memory ------------------------------------------------------------------------------------


class Hoarded:
    """The object that the test allocates, with a secret in it."""

    def __init__(self) -> None:
        self.secret = SECRET * 2


async def test_memory_is_traced_for_a_while_and_then_no_more(rig: Rig) -> None:
    """Memory is shown by line and by type; the answer comes at once, and the result afterwards."""
    assert (await rig.ask(GetMemory()))["last"] is None
    assert await rig.ask(TraceMemory(0.2)) == {"tracing": True, "seconds": 0.2}
    await eventually(tracemalloc.is_tracing)
    hoard = [Hoarded() for _ in range(50_000)]
    with pytest.raises(ConflictError):
        await rig.ask(TraceMemory(1))
    assert (await rig.ask(GetMemory()))["tracing"]
    await eventually(lambda: all(task.done() for task in rig.tasks), what="the end of it")
    told = await rig.ask(GetMemory())
    assert not told["tracing"]
    assert not tracemalloc.is_tracing()
    last = told["last"]
    assert last["objects_counted"] == last["objects_total"] >= len(hoard)
    mine = [row for row in last["allocations"] if "test_debugging.py" in row["line"]]
    assert max(row["blocks"] for row in mine) >= len(hoard)
    counts = {row["type"]: row["count"] for row in last["objects"]}
    assert max(count for name, count in counts.items() if name.endswith("Hoarded")) == len(hoard)
    assert last["rss_bytes"] > 1_000_000
    assert SECRET not in repr(told)


async def test_tracing_ends_with_the_node(rig: Rig) -> None:
    """Cancelling the trace switches tracing off."""
    await rig.ask(TraceMemory(60))
    await eventually(tracemalloc.is_tracing)
    rig.tasks[0].cancel()
    await asyncio.gather(*rig.tasks, return_exceptions=True)
    assert not tracemalloc.is_tracing()
    assert not (await rig.ask(GetMemory()))["tracing"]


async def test_tracing_that_somebody_else_began_is_left_alone(rig: Rig) -> None:
    """PYTHONTRACEMALLOC is an example of such tracing."""
    tracemalloc.start()
    try:
        with pytest.raises(ConflictError):
            await rig.ask(TraceMemory(1))
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("seconds", [0, -1, 61])
async def test_seconds_have_bounds(rig: Rig, seconds: float) -> None:
    with pytest.raises(BadRequestError, match="at most 60"):
        await rig.ask(TraceMemory(seconds))
    assert not tracemalloc.is_tracing()


async def test_counting_objects_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer says how many objects there are and how many of them were counted in time."""
    monkeypatch.setattr(inspection, "_OBJECTS_AT_ONCE", 100)
    ticks = iter(range(100))
    told: Any = await inspection.count_objects(lambda: float(next(ticks)))
    assert 0 < told["objects_counted"] < told["objects_total"]


# -- log levels --------------------------------------------------------------------------------


async def test_changed_levels_are_told_and_logged(rig: Rig) -> None:
    """The change of a level is written to the log, so that its reader knows
    why there are more lines."""
    told = await rig.ask(SetLogLevels({"broker": "debug"}))
    assert told == await rig.ask(GetLogLevels())
    assert told["levels"]["broker"] == "debug"
    assert "log_levels_changed" in rig.stream.getvalue()


async def test_a_node_inside_an_application_that_logs_by_itself_says_so() -> None:
    """Its levels are the application's."""
    lag = LoopLag(structlog.get_logger())
    debugging = DebuggingHandlers(
        lag=lag, log=structlog.get_logger(), spawn=lambda work: work.close()
    )
    with pytest.raises(BadRequestError, match="application"):
        await debugging.handlers()[GetLogLevels](GetLogLevels())
