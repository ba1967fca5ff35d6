"""Publications of one session that came together, in one channel, and are made in one call.

A busy publisher sends many in a read. Made one after another, each takes its own way through
limits, grants, broker and channel. Here they wait until the run ends, which is within the same call
of the transport. Nothing else is done meanwhile, so all answers are the same, in the same order.
"""

from collections.abc import Callable, Sequence

from hub.core.command_queue import CommandQueue
from hub.core.commands import Command, Publish
from hub.core.publish_commands import PublishOk
from hub.core.pushes import Reply
from hub.core.session.session import Session
from hub.errors import HubError

# So many take 0.05 to 0.1 ms, by which a piece of a turn may be longer (`hub/transports/turns.py`).
MAX_RUN = 16


class PublishRun:
    """The run that is open; one per node, because a transport ends it before it returns.

    Args:
        queue: carries out all commands that are not in a run.
        on_fault: called with errors of the hub itself.
    """

    def __init__(
        self, queue: CommandQueue, *, on_fault: Callable[[Session, Exception], None]
    ) -> None:
        self._queue = queue
        self._publishes = queue.publishes
        self._on_fault = on_fault
        self._gathers = not queue.limits_each_publish
        self._session: Session | None = None
        self._waiting: list[Publish] = []

    def submit(self, session: Session, command: Command) -> None:
        """Carry out a command after those before it, at the latest in `end`."""
        waiting = self._waiting
        if (
            not isinstance(command, Publish)
            or command.marks
            or not (waiting or self._may_begin(session))
        ):
            self.end()
            self._queue.submit(session, command)
            return
        if waiting and (command.channel != waiting[0].channel or len(waiting) == MAX_RUN):
            self.end()
        self._session = session
        self._waiting.append(command)

    def _may_begin(self, session: Session) -> bool:
        """Return whether a publish of the session is carried out in a plain call, and answered."""
        return (
            self._gathers
            and session.inbox is None
            and session.writable
            and self._publishes.way(session) == "now"
        )

    def end(self) -> None:
        """Carry out all commands that wait."""
        if not (run := self._waiting):
            return
        session, self._session, self._waiting = self._session, None, []
        assert session is not None  # noqa: S101 - it came with the first
        if len(run) == 1 or not self._make(session, run):
            for command in run:
                self._queue.submit(session, command)

    def _make(self, session: Session, run: Sequence[Publish]) -> bool:
        """Publish all and reply; return False, and do nothing, where each has to go by itself."""
        try:
            if (outcomes := self._publishes.publish_run(session, run)) is None:
                return False
            self._reply(session, run, outcomes)
        except Exception as error:  # noqa: BLE001 - the border, as in `CommandQueue`
            self._on_fault(session, error)
            for command in run:
                self._queue.fail_for_us(session, command)
        return True

    def _reply(
        self, session: Session, run: Sequence[Publish], outcomes: Sequence[PublishOk | HubError]
    ) -> None:
        """Reply to all, in one write where none has failed."""
        encode = session.dialect.encode
        frames: list[bytes] = []
        for command, outcome in zip(run, outcomes, strict=True):
            if isinstance(outcome, HubError):
                session.control(b"".join(frames))
                frames = []
                self._queue.fail(session, command, outcome)
            else:
                frames.append(encode(Reply(command.id, outcome), ""))
        session.control(b"".join(frames))
