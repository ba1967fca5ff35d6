"""What a new connection has to show before anybody relies on it: a welcome, and an answer.

There are proxies that let a handshake through and then pass nothing, that pass only what the
hub says, or that hold a stream back until it is long. The answer to a ping after the welcome
shows that both ways are open and that nothing waits on the way.
"""

from hub_client import frames
from hub_client.session import Answered, Leaving, Session, Welcomed
from hub_client.transport import CannotConnectError, Connection

# The commands of a client count from 1.
PROBE_ID = 0
# A stream that brought this much before the answer is not held back. Guess, not measured.
_MAX_HELD_BYTES = 1024 * 1024


class Greeting:
    """One connection, until it has proved itself."""

    def __init__(self) -> None:
        self.waits_for = "welcome"
        self.goodbye: Leaving | None = None
        self.held: list[bytes] = []
        """Whole frames that came before the proof, in their order: the session's to read."""
        # Without subscriptions: it reads what is not of a channel.
        self._session = Session()

    async def welcomed(self, connection: Connection) -> Welcomed:
        """The welcome, which comes first.

        Raises:
            DisconnectedError: the connection ended; `goodbye` may say why.
            ProtocolError: what came is no frame.
        """
        while True:
            event = self._session.receive(await connection.receive())
            if isinstance(event, Welcomed):
                connection.welcomed(event.connection, event.secret)
                return event
            self._note(event)

    async def proved(self, connection: Connection) -> None:
        """Return when a ping was answered; raises as `welcomed`, and `CannotConnectError`."""
        self.waits_for = "answer to a ping"
        reply = await connection.send(PROBE_ID, frames.command("ping", PROBE_ID))
        if reply is not None and not connection.streams:
            # Whatever it says: who may only read is served as well.
            return
        if reply is not None:
            self._is_answer(reply)
        held_bytes = 0
        while held_bytes <= _MAX_HELD_BYTES:
            raw = await connection.receive()
            if self._is_answer(raw):
                return
            if raw:
                self.held.append(raw)
                held_bytes += len(raw)

    def _is_answer(self, raw: bytes) -> bool:
        event = self._session.receive(raw)
        self._note(event)
        if not isinstance(event, Answered) or event.command_id != PROBE_ID:
            return False
        error = event.frame.error
        if error is not None:
            # By whom it is not known: a proxy may allow a GET and forbid a POST.
            raise CannotConnectError(f"ping: {error.public()}", blocked=not error.retryable)
        return True

    def _note(self, event: object) -> None:
        if isinstance(event, Leaving):
            self.goodbye = event
