"""The commands of one session that wait for the one being carried out.

It exists only while a command waits for somebody: most are carried out as they come
(`hub.core.eager`). Bounded by number and by the bytes of what is to be published or judged: at
either bound the session is not read from until all are done.
"""

from collections import deque
from collections.abc import Callable

from hub.core.commands import Authenticate, Command, Publish
from hub.core.options import SessionLimits
from hub.core.pushes import Reply

Respond = Callable[[Reply], None]
"""Where a reply goes that does not go into the session's stream."""
Job = tuple[Command, Respond | None]


class Inbox:
    """Made with the command that waits, dropped with the last one done."""

    __slots__ = ("_bytes", "_jobs", "_limits", "full")

    def __init__(self, limits: SessionLimits) -> None:
        self._limits = limits
        self._jobs: deque[Job] = deque()
        self._bytes = 0
        self.full = False
        """Whether a bound was reached; it stays so until the inbox is dropped."""

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, command: Command, respond: Respond | None) -> bool:
        """Queue a command; return whether that has just filled the inbox."""
        self._jobs.append((command, respond))
        self._bytes += _bytes(command)
        if self.full:
            return False
        self.full = self.crowded
        return self.full

    @property
    def crowded(self) -> bool:
        """Whether as much as may wait does so now."""
        limits = self._limits
        return len(self._jobs) >= limits.inbox_max_commands or self._bytes >= limits.inbox_max_bytes

    def take(self) -> Job | None:
        """The next command; None when none waits."""
        if not self._jobs:
            return None
        command, respond = self._jobs.popleft()
        self._bytes -= _bytes(command)
        return command, respond


def _bytes(command: Command) -> int:
    """What it holds of what the peer may make long."""
    if isinstance(command, Publish):
        return len(command.data)
    return len(command.token) if isinstance(command, Authenticate) else 0
