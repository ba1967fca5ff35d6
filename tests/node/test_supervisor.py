"""The supervisor's decisions, on children that are no processes."""

import asyncio
import signal
import socket
from collections.abc import AsyncGenerator

import pytest
import structlog

from hub.errors import SettingsError
from hub.node.binding import broker_socket, is_of_this_user
from hub.node.supervisor import supervisor as module
from hub.node.supervisor.control import RETIRE
from hub.node.supervisor.roles import Role
from hub.node.supervisor.supervisor import Supervisor
from tests.node.fake_child import FakeChild, slots, supervise
from tests.support.waiting import eventually


async def test_each_worker_accepts_at_its_own_socket(made: Supervisor) -> None:
    assert slots() == [[0], [1], [2]]


async def test_a_socket_whose_worker_is_away_is_accepted_at_by_the_next(made: Supervisor) -> None:
    """The worker's own successor accepts there again once it is up."""
    await FakeChild.made[1].ends()
    assert sorted(FakeChild.made[2].slots) == [1, 2]
    await eventually(lambda: len(FakeChild.made) == 4)
    again = FakeChild.made[3]
    assert not again.slots
    await again.comes_up()
    assert (sorted(again.slots), sorted(FakeChild.made[2].slots)) == ([1], [2])


async def test_a_worker_that_has_not_reached_its_broker_accepts_nowhere_beside_another(
    made: Supervisor,
) -> None:
    """Such a worker would answer with 503 what the other can serve."""
    await FakeChild.made[1].ends()
    await eventually(lambda: len(FakeChild.made) == 4)
    again = FakeChild.made[3]
    await again.comes_up(is_ready=False)
    assert (sorted(again.slots), sorted(FakeChild.made[2].slots)) == ([], [1, 2])
    await again.comes_up()
    assert (sorted(again.slots), sorted(FakeChild.made[2].slots)) == ([1], [2])


@pytest.fixture
async def starting(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[list[str]]:
    """Two workers that are not up; yields the address that is told once the hub has started."""
    FakeChild.made.clear()
    monkeypatch.setattr(module, "Child", FakeChild)
    told: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as one, socket.socket() as other:
        supervisor = supervise([one, other], told.append)
        running = asyncio.create_task(supervisor.run())
        await eventually(lambda: len(FakeChild.made) == 2)
        yield told
        supervisor.stop(signal.SIGTERM)
        for child in FakeChild.made:
            await child.ends(0)
        await running


async def test_nobody_is_accepted_until_each_worker_has_reached_the_broker(
    starting: list[str],
) -> None:
    """A publisher may read the address and publish at once, at whichever worker it meets."""
    first, second = FakeChild.made
    await first.comes_up()
    await second.comes_up(is_ready=False)
    for _ in range(20):
        await asyncio.sleep(0)
    assert (starting, first.slots, second.slots) == ([], frozenset(), frozenset())
    await second.comes_up()
    await eventually(lambda: starting)
    assert (sorted(first.slots), sorted(second.slots)) == ([0], [1])


async def test_workers_accept_after_a_while_though_the_broker_is_away(
    starting: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their `/readyz` says so, and operators reach them."""
    monkeypatch.setattr(module, "_BROKER_SECONDS", 0.01)
    for child in FakeChild.made:
        await child.comes_up(is_ready=False)
    await eventually(lambda: starting)
    assert [sorted(child.slots) for child in FakeChild.made] == [[0], [1]]


async def test_a_drained_worker_accepts_nowhere_unless_all_are(made: Supervisor) -> None:
    first, second, third = FakeChild.made
    first.is_leaving = True
    await first._tell()
    assert slots() == [[], [0, 1], [2]]
    second.is_leaving = third.is_leaving = True
    await third._tell()
    assert slots() == [[0], [1], [2]]


async def test_a_child_that_ends_again_and_again_waits_longer(made: Supervisor) -> None:
    """Up to a bound, and one that had lived for a while begins at once."""
    child = FakeChild.made[0]
    waits = [made._back_off(child) for _ in range(10)]
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == 10.0
    child.started_at -= 60
    assert made._back_off(child) == 0.1


async def test_settings_that_no_child_can_use_end_the_start_with_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The supervisor repeats once what the first child says."""
    FakeChild.made.clear()
    monkeypatch.setattr(module, "Child", FakeChild)
    listening = [socket.socket() for _ in range(3)]
    running = asyncio.create_task(supervise(listening).run())
    await eventually(lambda: len(FakeChild.made) == 3)
    for child in FakeChild.made:
        child.wrong = ["HUB_TLS_CERT is none.pem: no such file"]
        await child.ends()
    with pytest.raises(SettingsError, match=r"^HUB_TLS_CERT is none.pem: no such file$"):
        await running
    for each in listening:
        each.close()


async def test_settings_that_a_later_child_cannot_use_are_tried_again(made: Supervisor) -> None:
    """The others go on meanwhile, and the log has the reason."""
    with structlog.testing.capture_logs() as lines:
        made._log = structlog.get_logger()
        child = FakeChild.made[0]
        child.wrong = ["HUB_TLS_CERT is none.pem: no such file"]
        await child.ends()
        await eventually(lambda: len(FakeChild.made) == 4)
    assert not made._stopping.is_set()
    [line] = [line for line in lines if line["event"] == "worker_ended"]
    assert (line["exit_code"], line["reason"]) == (1, "HUB_TLS_CERT is none.pem: no such file")
    await FakeChild.made[3].comes_up()


async def test_a_child_that_says_nothing_for_long_is_killed(
    made: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is alive is not."""
    silent, alive, _ = FakeChild.made
    monkeypatch.setattr(module, "_WATCH_SECONDS", 0.01)
    made._silent_seconds = 0.5
    watching = asyncio.create_task(made._watch())

    async def silence() -> bool:
        for child in FakeChild.made[1:]:
            child.silent_seconds = 0.0
        return silent.killed

    with structlog.testing.capture_logs() as lines:
        made._log = structlog.get_logger()
        await eventually(silence)
    watching.cancel()
    assert not alive.killed
    events = [line["event"] for line in lines if line["worker"] == 1]
    assert events[events.index("killed") - 1] == "stands_still"


async def test_a_hangup_replaces_one_after_another(made: Supervisor) -> None:
    """The new one is ready before the old one is told to retire."""
    made._has_terminal = False
    made.hang_up()
    await eventually(lambda: len(FakeChild.made) == 4)
    old, new = FakeChild.made[0], FakeChild.made[3]
    assert RETIRE not in old.words
    await new.comes_up()
    await eventually(lambda: RETIRE in old.words)
    assert sorted(new.slots) == [0]
    assert len(FakeChild.made) == 4
    await old.ends(0)
    await eventually(lambda: len(FakeChild.made) == 5)


async def test_a_successor_that_does_not_come_up_changes_nothing(made: Supervisor) -> None:
    made._has_terminal = False
    made.hang_up()
    await eventually(lambda: len(FakeChild.made) == 4)
    await FakeChild.made[3].ends(2)
    await eventually(lambda: made._replacing is not None and made._replacing.done())
    assert all(RETIRE not in child.words for child in FakeChild.made)
    assert len(FakeChild.made) == 4


async def test_a_worker_that_dies_while_it_is_replaced_has_one_successor(made: Supervisor) -> None:
    made._has_terminal = False
    made.hang_up()
    await eventually(lambda: len(FakeChild.made) == 4)
    await FakeChild.made[0].ends()
    await FakeChild.made[3].comes_up()
    await eventually(lambda: made._current[1] is FakeChild.made[3])
    await asyncio.sleep(0.3)  # longer than its back-off
    assert [child.role.number for child in FakeChild.made].count(1) == 2


async def test_the_loss_of_the_terminal_ends_the_hub(
    made: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under nohup the hub goes on."""
    monkeypatch.setattr(module, "_has_terminal", lambda: False)
    made._has_terminal = made._outlives_terminal = True
    made.hang_up()
    assert not made._stopping.is_set()
    made._has_terminal, made._outlives_terminal = True, False
    made.hang_up()
    assert made._stopping.is_set()


def test_only_processes_of_this_user_reach_the_broker_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its socket has no file, so no permissions."""
    one, other = socket.socketpair()
    with one, other:
        assert is_of_this_user(one)
        monkeypatch.setattr("os.geteuid", lambda: 12_345)
        assert not is_of_this_user(one)


def test_a_broker_process_is_reached_by_the_name_that_workers_are_told() -> None:
    with broker_socket() as (name, listening):
        role = Role(1, 2, "node", 0, (), name)
        connect = role.worker().connect
        assert connect is not None
        with connect() as end:
            accepted, _ = listening.accept()
            with accepted:
                accepted.sendall(b"x")
                end.setblocking(True)
                assert end.recv(1) == b"x"
