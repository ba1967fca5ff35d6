"""The process that forks what tests run: an order without an answer spoils no later one."""

import os
import signal

import pytest

from tests.support import fork_server as module
from tests.support.fork_server import ForkServer, fork_server
from tests.support.programs import outside


@pytest.fixture
def stalled(monkeypatch: pytest.MonkeyPatch) -> ForkServer:
    """One that stands still."""
    monkeypatch.setattr(module, "_START_SECONDS", 0.05)
    made = ForkServer()
    os.kill(made._process.pid, signal.SIGSTOP)
    return made


def test_after_an_order_without_an_answer_there_is_another_one(
    stalled: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer would be taken for that of the next order: each start got the former's process."""
    monkeypatch.setattr(module, "_fork_server", Once([stalled, Forks()]))
    with pytest.raises(TimeoutError):
        fork_server().start(["-c", "pass"], outside())
    os.kill(stalled._process.pid, signal.SIGCONT)
    stalled.close()
    assert isinstance(fork_server(), Forks)


class Forks:
    """Another one."""

    is_usable = True


class Once:
    """Makes the next one when it is told to forget the last."""

    def __init__(self, made: list[object]) -> None:
        self._made = made

    def __call__(self) -> object:
        return self._made[0]

    def cache_clear(self) -> None:
        del self._made[0]
