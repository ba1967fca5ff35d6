"""The queue of one session's commands behind the one that is being carried out.

An inbox exists only while a command waits, because most commands are carried out at once
(`hub.core.eager`). It is bounded by the number of commands, and by the bytes of payloads and tokens
in them. At either bound the hub stops reading from the peer until all commands are done.
"""

from collections import deque
from collections.abc import Callable

from hub.core.commands import Authenticate, Command, Publish
from hub.core.options import SessionLimits
from hub.core.pushes import Reply

Respond = Callable[[Reply], None]
"""Takes a reply that does not go into the session's stream."""
Job = tuple[Command, Respond | None]


class Inbox:
    """Waiting commands; made with the first, dropped when the last is done."""

    __slots__ = ("_bytes", "_jobs", "_limits", "full")

    def __init__(self, limits: SessionLimits) -> None:
        self._limits = limits
        self._jobs: deque[Job] = deque()
        self._bytes = 0
        self.full = False
        """Whether a bound was reached. It stays true until the inbox is dropped."""

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, command: Command, respond: Respond | None) -> bool:
        """Queue a command; return whether it has just filled the inbox."""
        self._jobs.append((command, respond))
        self._bytes += _bytes(command)
        if self.full:
            return False
        self.full = self.crowded
        return self.full

    @property
    def crowded(self) -> bool:
        """Whether the inbox is at a bound now."""
        limits = self._limits
        return len(self._jobs) >= limits.inbox_max_commands or self._bytes >= limits.inbox_max_bytes

    def take(self) -> Job | None:
        """Return the next command; None when none waits."""
        if not self._jobs:
            return None
        command, respond = self._jobs.popleft()
        self._bytes -= _bytes(command)
        return command, respond


def _bytes(command: Command) -> int:
    """Return the bytes of a command's payload or token."""
    if isinstance(command, Publish):
        return len(command.data)
    return len(command.token) if isinstance(command, Authenticate) else 0
