"""A child of a supervisor that is no process, and supervisors of such children."""

import asyncio
import socket
from collections.abc import Callable, Sequence

import structlog

from hub.node.supervisor.control import Child
from hub.node.supervisor.supervisor import Supervisor
from hub.settings import Settings


class FakeChild(Child):
    """Notes what it is told, and ends when it is killed."""

    made: "list[FakeChild]" = []  # noqa: RUF012 - emptied for each test

    async def start(self, command: Sequence[str], inherited: Sequence[int]) -> None:
        self.words: list[str] = []
        self.killed = False
        FakeChild.made.append(self)

    def say(self, *words: str) -> None:
        self.words.append(" ".join(words))

    def kill(self) -> None:
        self.killed = True
        self.exit_code = -9
        self.telling = asyncio.get_running_loop().create_task(self._tell())

    async def comes_up(self, *, is_ready: bool = True) -> None:
        self.is_up, self.is_ready = True, is_ready
        await self._tell()

    async def ends(self, code: int = 1) -> None:
        self.exit_code = code
        await self._tell()


def supervise(
    listening: Sequence[socket.socket],
    on_started: Callable[[str], None] = lambda _url: None,
    broker: tuple[str, socket.socket] | None = None,
) -> Supervisor:
    """With a worker for each of these."""
    return Supervisor(
        Settings(workers=len(listening)), ["hub"], listening, broker, structlog.get_logger(),
        outlives_terminal=False, on_started=on_started,
    )  # fmt: skip


def slots() -> list[list[int]]:
    """Where each of the three was told last to accept."""
    return [sorted(child.slots) for child in FakeChild.made[:3]]
