"""The link of a session under somebody else's ASGI server: frames wait here for its `send`."""

import asyncio
import time

from hub.core.ports import MAX_AGENT_CHARACTERS, Monotonic
from hub.core.session.session import Session
from hub.transports.request import Request
from hub.wire.codes import CloseCode
from hub.wire.websocket import SUBPROTOCOL, subprotocols

# Bytes that wait for the server's `send`; above that frames stay in a session's outbox.
_MAX_WAITING_BYTES = 16 * 1024
# A server whose `send` takes longer waits for a peer that does not read. Guess, not measured.
_STUCK_SECONDS = 1.0


class AsgiLink:
    """Implements `hub.core.session.link.Link`: holds a little for the task that sends it."""

    answers_pings = False
    descriptor: int | None = None

    def __init__(self, transport: str, request: Request, clock: Monotonic = time.monotonic) -> None:
        self.transport = transport
        self.address = request.address
        self.user_agent = request.headers.get("user-agent", "")[:MAX_AGENT_CHARACTERS]
        self.subprotocol = SUBPROTOCOL if SUBPROTOCOL in subprotocols(request.headers) else None
        self.session: Session | None = None
        self.ended: tuple[int, str] | None = None
        self.changed = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()
        self.aborted = asyncio.Event()
        """Set when the session no longer waits for the server's `send`."""
        self._waiting = bytearray()
        self._blocked = False
        self._taken = 0
        self._clock = clock
        self._sends_since: float | None = clock()
        """When the server's `send` was given what it has not taken yet; None where it has nothing.
        It begins with the head of the answer."""

    def send(self, data: bytes) -> int:
        since = self._sends_since
        stuck = since is not None and self._clock() - since > _STUCK_SECONDS
        if self._blocked or stuck or len(self._waiting) >= _MAX_WAITING_BYTES:
            return 0
        self._waiting += data
        self.changed.set()
        return len(data)

    def finish(self, rest: bytes) -> None:
        self._blocked = True
        self._waiting += rest
        self.changed.set()

    async def take(self) -> bytes:
        """Wait for bytes and return all of them; b"" when the link has ended."""
        self._sends_since = None
        await self.changed.wait()
        self.changed.clear()
        data, self._waiting = bytes(self._waiting), bytearray()
        self._sends_since = self._clock()
        return data

    def sent(self, size: int) -> None:
        """Note that the server took `size` bytes."""
        self._taken += size
        if self._blocked and not self._waiting and self.session is not None:
            self._blocked = False
            self.session.on_writable()

    def cork(self, head: bytes = b"") -> None:
        """Do nothing: waiting bytes are gathered anyway."""

    def uncork(self) -> bool:
        return True

    def ping(self, payload: bytes) -> bytes:  # noqa: ARG002 - the port's shape
        return b""

    def acknowledged_bytes(self) -> int:
        # The kernel's count is the server's; the bytes that the server has taken stand in for it.
        return self._taken

    def unsent_bytes(self) -> int:
        return 0

    @property
    def unread(self) -> bool:
        return not self.reading.is_set()

    def pause_reading(self) -> None:
        self.reading.clear()

    def resume_reading(self) -> None:
        self.reading.set()

    def close(self, code: int, reason: str) -> None:
        self.ended = self.ended or (code, reason)
        self.changed.set()

    def abort(self) -> None:
        self.close(CloseCode.ABNORMAL, "aborted")
        self.aborted.set()
