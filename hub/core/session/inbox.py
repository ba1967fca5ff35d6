"""The commands of one session that are not done: those under way, and the queue behind them.

Only publications are under way together, at a broker that answers later. All other commands wait
for those before them. An inbox exists only while a command is not done, because most commands are
carried out at once (`hub.core.eager`). It is bounded by the number of commands, and by the bytes of
payloads and tokens in them. At either bound the hub stops reading from the peer until all commands
are done.
"""

from collections import deque
from collections.abc import Callable

from hub.core.commands import Authenticate, Command, Publish
from hub.core.options import SessionLimits
from hub.core.ports import PublishResult
from hub.core.pushes import Reply
from hub.errors import HubError

Respond = Callable[[Reply], None]
"""Takes a reply that does not go into the session's stream."""
Job = tuple[Command, Respond | None]


class PendingPublish:
    """A publication that the broker has, and the broker's answer once it is there."""

    __slots__ = ("command", "outcome", "respond")

    def __init__(self, command: Publish, respond: Respond | None) -> None:
        self.command = command
        self.respond = respond
        self.outcome: PublishResult | HubError | None = None


class Inbox:
    """Commands that are not done; made with the first, dropped when the last is done."""

    __slots__ = ("_bytes", "_jobs", "_limits", "full", "is_worked", "under_way")

    def __init__(self, limits: SessionLimits) -> None:
        self._limits = limits
        self._jobs: deque[Job] = deque()
        self._bytes = 0
        self.full = False
        """Whether a bound was reached. It stays true until the inbox is dropped."""
        self.under_way: deque[PendingPublish] = deque()
        """Publications that the broker has, or has answered; in their order."""
        self.is_worked = False
        """Whether a task carries out the waiting commands."""

    def __len__(self) -> int:
        return len(self._jobs) + len(self.under_way)

    @property
    def passes(self) -> bool:
        """Whether a publication may go to the broker at once: no command waits before it."""
        return not self._jobs and not self.is_worked

    def add(self, command: Command, respond: Respond | None) -> bool:
        """Queue a command; return whether it has just filled the inbox."""
        self._jobs.append((command, respond))
        self._bytes += _bytes(command)
        return self.has_filled()

    def has_filled(self) -> bool:
        """Note where a bound is reached; return whether that has just come about."""
        if self.full:
            return False
        self.full = self.crowded
        return self.full

    def send(self, publication: PendingPublish) -> None:
        """Count a publication that goes to the broker, and does not wait in the queue."""
        self.under_way.append(publication)
        self._bytes += _bytes(publication.command)

    @property
    def crowded(self) -> bool:
        """Whether the inbox is at a bound now."""
        limits = self._limits
        return len(self) >= limits.inbox_max_commands or self._bytes >= limits.inbox_max_bytes

    @property
    def next(self) -> Job | None:
        """The command that waits next; None when none waits."""
        return self._jobs[0] if self._jobs else None

    def take(self) -> None:
        """Take out the next command."""
        command, _ = self._jobs.popleft()
        self._bytes -= _bytes(command)

    def answered(self) -> list[PendingPublish]:
        """Take out the publications that are answered, up to the first that is not."""
        found: list[PendingPublish] = []
        while self.under_way and self.under_way[0].outcome is not None:
            found.append(done := self.under_way.popleft())
            self._bytes -= _bytes(done.command)
        return found


def _bytes(command: Command) -> int:
    """Return the bytes of a command's payload and tags, or of its token."""
    if isinstance(command, Publish):
        return len(command.data) + len(command.tags or b"")
    return len(command.token) if isinstance(command, Authenticate) else 0
