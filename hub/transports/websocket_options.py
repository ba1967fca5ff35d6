"""State that all WebSocket connections of a node share, and how messages are read as commands."""

from dataclasses import dataclass, field

from hub.core.commands import Command
from hub.core.registry import SessionRegistry
from hub.core.session.session import Session
from hub.core.time.deadlines import Deadlines
from hub.core.time.heartbeats import Heartbeats
from hub.errors import HubError
from hub.transports.turns import Turns
from hub.wire import native_commands
from hub.wire.codes import CloseCode

# A message this many times the payload limit is still read, so that the peer gets a reply
# that says which command was too large; beyond it the connection is closed with 4413.
_READ_TIMES_LIMIT = 4
_ENVELOPE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class WebSocketOptions:
    """State shared by all WebSocket connections of one node."""

    registry: SessionRegistry
    heartbeats: Heartbeats
    deadlines: Deadlines
    turns: Turns
    max_message_bytes: int
    message_timeout_seconds: float
    """The time for a message from its first byte to its last."""
    token_timeout_seconds: float = 10
    """The time for a token that comes by a command, where one is needed."""

    max_frame_bytes: int = field(init=False)
    """The bound on one message with its command."""

    def __post_init__(self) -> None:
        most = self.max_message_bytes * _READ_TIMES_LIMIT + _ENVELOPE_BYTES
        object.__setattr__(self, "max_frame_bytes", most)

    def command(self, session: Session, message: bytes) -> None:
        """Carry a message out, or reply with its error."""
        if (command := self.read(session, message)) is not None:
            self.registry.commands.submit(session, command)

    def read(self, session: Session, message: bytes) -> Command | None:
        """Read a message; reply with its error, and return None, where it is no command."""
        try:
            message.decode()
        except UnicodeDecodeError:
            # RFC 6455 section 8.1: a text message that is not UTF-8 fails the connection.
            self.registry.publish_run.end()
            session.close(CloseCode.INVALID_DATA, "text frame is not UTF-8")
            return None
        commands = self.registry.commands
        over = commands.over_limit(session, len(message))
        if over is not None:
            # Only the id for the reply is read: a refusal is to cost little.
            over.command_id = native_commands.read_id(message)
            commands.refuse(session, over)
            return None
        try:
            return native_commands.decode(message, max_message_bytes=self.max_message_bytes)
        except HubError as error:
            self.registry.publish_run.end()
            commands.refuse(session, error)
            return None
