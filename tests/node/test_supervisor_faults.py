"""Children misbehave, and the supervisor replaces or reports them; the children are fakes."""

import asyncio
import signal
import socket
from collections.abc import AsyncGenerator, Sequence

import pytest
import structlog

from hub.errors import SettingsError
from hub.node.supervisor import supervisor as module
from hub.node.supervisor.control import RETIRE, Child, ControlSocket, stop_seconds
from hub.node.supervisor.roles import Role
from hub.node.supervisor.supervisor import Supervisor
from hub.settings import Settings
from tests.node.fake_child import FakeChild, slots, supervise
from tests.support.waiting import eventually

NO_PROCESS = "[Errno 11] Resource temporarily unavailable"


class Barren(Child):
    """A process that the system does not start."""

    async def start(self, command: Sequence[str], inherited: Sequence[int]) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")


@pytest.fixture
async def sockets() -> AsyncGenerator[list[socket.socket]]:
    listening = [socket.socket() for _ in range(2)]
    yield listening
    for each in listening:
        each.close()


async def starting(monkeypatch: pytest.MonkeyPatch, supervisor: Supervisor) -> asyncio.Task[int]:
    """With children of which none is up yet."""
    FakeChild.made.clear()
    monkeypatch.setattr(module, "Child", FakeChild)
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: len(FakeChild.made) == 2)
    return running


async def ended(supervisor: Supervisor, running: asyncio.Task[int]) -> int:
    supervisor.stop(signal.SIGTERM)
    for child in FakeChild.made:
        if child.exit_code is None:
            await child.ends(0)
    return await running


# -- the start -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "exit_code"), [(-9, 1), (3, 3)])
async def test_a_child_that_ends_without_a_word_at_the_start_is_named(
    monkeypatch: pytest.MonkeyPatch, sockets: list[socket.socket], code: int, exit_code: int
) -> None:
    """As the kernel ends one where memory is short: the log says which one, and with what code."""
    with structlog.testing.capture_logs() as lines:
        running = await starting(monkeypatch, supervise(sockets))
        first, second = FakeChild.made
        await first.comes_up()
        await second.ends(code)
        await first.ends(0)
        assert await running == exit_code
    assert "worker_ended" not in {line["event"] for line in lines}
    [line] = [line for line in lines if line["event"] == "process_did_not_start"]
    assert (line["worker"], line["exit_code"], line["log_level"]) == (2, code, "error")


async def test_a_system_that_starts_no_process_is_one_line_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, sockets: list[socket.socket]
) -> None:
    monkeypatch.setattr(module, "Child", Barren)
    with pytest.raises(SettingsError, match=r"cannot start a process of the hub: .*unavailable"):
        await supervise(sockets).run()


async def test_a_hangup_during_the_start_replaces_the_workers_behind_it(
    monkeypatch: pytest.MonkeyPatch, sockets: list[socket.socket]
) -> None:
    """They may have read the file before it was changed."""
    supervisor = supervise(sockets)
    supervisor._has_terminal = False
    running = await starting(monkeypatch, supervisor)
    supervisor.hang_up()
    await FakeChild.made[0].comes_up()
    await asyncio.sleep(0)
    assert len(FakeChild.made) == 2
    await FakeChild.made[1].comes_up()
    await eventually(lambda: len(FakeChild.made) == 3)
    assert FakeChild.made[2].role.number == 1
    await ended(supervisor, running)


async def test_a_signal_during_the_start_ends_it(
    monkeypatch: pytest.MonkeyPatch, sockets: list[socket.socket]
) -> None:
    """The signal counts also if a child does not come up, and it is told as soon as it listens."""
    with structlog.testing.capture_logs() as lines:
        supervisor = supervise(sockets)
        running = await starting(monkeypatch, supervisor)
        supervisor.stop(signal.SIGTERM)
        await eventually(lambda: all("drain" in child.words for child in FakeChild.made))
        for child in tuple(FakeChild.made):
            await child.ends(0)
        assert await running == 0
    assert "process_did_not_start" not in {line["event"] for line in lines}


async def test_no_child_is_started_once_the_hub_is_to_end(
    monkeypatch: pytest.MonkeyPatch, sockets: list[socket.socket]
) -> None:
    FakeChild.made.clear()
    monkeypatch.setattr(module, "Child", FakeChild)
    supervisor = supervise(sockets)
    supervisor.stop(signal.SIGTERM)
    assert await supervisor.run() == 0
    assert FakeChild.made == []


# -- SIGHUP --------------------------------------------------------------------------------------


async def test_a_hangup_while_an_earlier_one_fails_is_not_lost(made: Supervisor) -> None:
    """The operator has mended the file meanwhile."""
    made._has_terminal = False
    made.hang_up()
    await eventually(lambda: len(FakeChild.made) == 4)
    made.hang_up()
    await FakeChild.made[3].ends(2)
    await eventually(lambda: len(FakeChild.made) == 5)
    await FakeChild.made[4].comes_up()
    await eventually(lambda: RETIRE in FakeChild.made[0].words)


async def test_a_system_that_starts_no_successor_leaves_the_workers(
    made: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log says so, and the next SIGHUP tries again."""
    made._has_terminal = False
    with structlog.testing.capture_logs() as lines:
        made._log = structlog.get_logger()
        monkeypatch.setattr(module, "Child", Barren)
        made.hang_up()
        await eventually(lambda: made._replacing is not None and made._replacing.done())
    [line] = [line for line in lines if line["event"] == "worker_did_not_come_up"]
    assert (line["worker"], line["reason"]) == (1, NO_PROCESS)
    monkeypatch.setattr(module, "Child", FakeChild)
    made.hang_up()
    await eventually(lambda: len(FakeChild.made) == 4)


async def test_a_successor_that_is_dead_when_it_was_just_ready_takes_no_place(
    made: Supervisor,
) -> None:
    """Nobody would start it again, and the old one would go."""
    made._has_terminal = False
    made.hang_up()
    await eventually(lambda: len(FakeChild.made) == 4)
    new = FakeChild.made[3]
    new.is_up = new.is_ready = True
    await new.ends(1)
    await eventually(lambda: made._replacing is not None and made._replacing.done())
    assert made._current[1] is FakeChild.made[0]
    assert RETIRE not in FakeChild.made[0].words


async def test_a_successor_that_dies_is_started_again_while_the_old_one_still_drains(
    made: Supervisor,
) -> None:
    """A drain may take minutes, and the place would have no worker for so long."""
    made._has_terminal = False
    made.hang_up()
    await eventually(lambda: len(FakeChild.made) == 4)
    old, new = FakeChild.made[0], FakeChild.made[3]
    await new.comes_up()
    await eventually(lambda: RETIRE in old.words)
    await new.ends(1)
    await eventually(lambda: len(FakeChild.made) == 5)
    assert made._current[1] is FakeChild.made[4]
    assert old.exit_code is None
    await old.ends(0)
    await eventually(lambda: len(FakeChild.made) == 6)
    assert FakeChild.made[5].role.number == 2


async def test_a_signal_during_a_replacing_ends_it_and_drains_old_and_new(
    made: Supervisor,
) -> None:
    """One that becomes ready then takes nobody's place."""
    made._has_terminal = False
    made.hang_up()
    await eventually(lambda: len(FakeChild.made) == 4)
    made.stop(signal.SIGTERM)
    await eventually(lambda: all("drain" in child.words for child in FakeChild.made))
    old, new = FakeChild.made[0], FakeChild.made[3]
    await new.comes_up()
    for _ in range(10):
        await asyncio.sleep(0)
    assert RETIRE not in old.words
    assert made._current[1] is old


# -- one that stands still -----------------------------------------------------------------------


async def test_a_socket_whose_worker_says_nothing_is_accepted_at_by_the_next(
    made: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before it is killed, and until it speaks again."""
    first, second, third = FakeChild.made
    monkeypatch.setattr(module, "_WATCH_SECONDS", 0.01)
    watching = asyncio.create_task(made._watch())

    async def seconds(silent: float, expected: list[list[int]]) -> None:
        async def told() -> bool:
            first.silent_seconds, second.silent_seconds, third.silent_seconds = silent, 0.0, 0.0
            return slots() == expected

        await eventually(told)

    await seconds(14.9, [[0], [1], [2]])
    await seconds(15.1, [[0], [0, 1], [2]])
    assert "slots 0 1" in second.words
    await seconds(0.0, [[0], [1], [2]])
    assert second.words[-1] == "slots 1"
    watching.cancel()
    assert not first.killed


# -- the end -------------------------------------------------------------------------------------


async def test_a_worker_with_newer_settings_has_the_time_that_they_give_it(
    made: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker drains for longer than the supervisor's own settings say."""
    first, second, _ = FakeChild.made
    assert made._stop_seconds(first) == stop_seconds(made._settings)
    asked: dict[Child, float] = {}

    async def until(child: Child, _condition: object, seconds: float) -> bool:
        asked.setdefault(child, seconds)
        child.exit_code = 0
        return False

    newer = Settings(drain_seconds=600)
    second.stop_seconds = stop_seconds(newer)
    monkeypatch.setattr(FakeChild, "until", until)
    await made._end_all()
    assert asked[first] == stop_seconds(made._settings)
    assert asked[second] == stop_seconds(newer) >= 600
    made._stopping.set()


async def test_a_second_signal_kills_what_does_not_end_at_once(
    made: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that stands still does not hear it."""
    monkeypatch.setattr(module, "_AT_ONCE_SECONDS", 0.05)
    first, second, third = FakeChild.made
    made.stop(signal.SIGTERM)
    made.stop(signal.SIGTERM)
    await first.ends(0)
    await second.ends(0)
    await eventually(lambda: third.killed)
    assert not first.killed
    assert [child.words.count("now") for child in FakeChild.made] == [1, 1, 1]


async def test_a_worker_that_does_not_end_is_killed_and_the_others_are_replaced(
    made: Supervisor,
) -> None:
    """One that is replaced has no place to come back to, and its successor begins anew."""
    made._has_terminal = False
    made._failures[1] = 7
    FakeChild.made[0].stop_seconds = 0.01
    with structlog.testing.capture_logs() as lines:
        made._log = structlog.get_logger()
        made.hang_up()
        await eventually(lambda: len(FakeChild.made) == 4)
        await FakeChild.made[3].comes_up()
        await eventually(lambda: FakeChild.made[0].killed)
        await FakeChild.made[0].ends(-9)
        await eventually(lambda: len(FakeChild.made) == 5)
    assert FakeChild.made[4].role.number == 2
    events = [line["event"] for line in lines]
    assert events.count("killed") == 1
    assert "worker_ended" not in events
    assert made._back_off(FakeChild.made[3]) == 0.1


@pytest.mark.parametrize(("signals", "exit_code"), [(1, 0), (2, 128 + signal.SIGTERM)])
async def test_the_exit_code_tells_of_a_second_signal(
    monkeypatch: pytest.MonkeyPatch, sockets: list[socket.socket], signals: int, exit_code: int
) -> None:
    """Nothing is said of children that end because the hub does."""
    supervisor = supervise(sockets)
    running = await starting(monkeypatch, supervisor)
    with structlog.testing.capture_logs() as lines:
        supervisor._log = structlog.get_logger()
        for child in tuple(FakeChild.made):
            await child.comes_up()
        await eventually(lambda: not supervisor._starting)
        for _ in range(signals - 1):
            supervisor.stop(signal.SIGTERM)
        assert await ended(supervisor, running) == exit_code
    assert "worker_ended" not in {line["event"] for line in lines}


async def test_words_of_a_child_are_noted() -> None:
    """A broker process does not say how long its end may take."""
    mine, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=mine)
    child = Child(Role(1, 2, "node", 0, ()), lambda _: None)
    child._control = ControlSocket(reader, writer)
    hearing = asyncio.create_task(child._hear())
    with theirs:
        theirs.sendall(b"up 45.5\n")
        await eventually(lambda: child.is_up)
        assert child.stop_seconds == 45.5
        theirs.sendall(b"up\n")
        await eventually(lambda: child.stop_seconds is None)
        child.silent_seconds = 50.0
        theirs.sendall(b"alive\n")
        await eventually(lambda: child.silent_seconds == 0.0)
        theirs.sendall(b"leaving\n")
        await eventually(lambda: child.is_leaving)
        theirs.sendall(b"taking\n")
        await eventually(lambda: not child.is_leaving)
    await hearing
    writer.close()


async def test_the_broker_process_ends_behind_the_workers(
    monkeypatch: pytest.MonkeyPatch, sockets: list[socket.socket]
) -> None:
    """Workers that drain have publications to send."""
    FakeChild.made.clear()
    monkeypatch.setattr(module, "Child", FakeChild)
    supervisor = supervise(sockets, broker=("@none", sockets[0]))
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: len(FakeChild.made) == 3)
    broker, *workers = FakeChild.made
    for child in FakeChild.made:
        await child.comes_up()
    await eventually(lambda: not supervisor._starting)
    supervisor.stop(signal.SIGTERM)
    await eventually(lambda: all("drain" in child.words for child in workers))
    await workers[0].ends(0)
    assert "drain" not in broker.words
    await workers[1].ends(0)
    await eventually(lambda: "drain" in broker.words)
    await broker.ends(0)
    assert await running == 0
