"""From time to time: is there a better transport than the one that works?"""

import asyncio

from hub_client.errors import ProtocolError
from hub_client.life import Life
from hub_client.opening import Opener
from hub_client.session import Session
from hub_client.takeover import Takeover
from hub_client.timing import Backoff, ReconnectTiming, better_timing
from hub_client.transport import CannotConnectError, DisconnectedError


class Improver:
    """Tries the better transports beside a connection, with growing pauses."""

    def __init__(self, opener: Opener, session: Session, timing: ReconnectTiming) -> None:
        self._opener = opener
        self._session = session
        self._timing = timing

    def can_improve(self, present: Life) -> bool:
        """Whether any transport is preferred to the one in use."""
        return bool(self._opener.choice.better_than(present.connection.transport))

    async def improve(self, present: Life) -> Takeover:
        """Return when a better connection is ready to go on for `present`."""
        pauses = Backoff(better_timing(self._timing))
        while True:
            await asyncio.sleep(self._timing.better_seconds + pauses.next_pause())
            # Who is asked to leave comes back elsewhere soon.
            if present.goodbye is None and (ready := await self._try(present)):
                return ready

    async def _try(self, present: Life) -> Takeover | None:
        try:
            opened = await self._opener.open_better(present.connection.transport)
        except CannotConnectError:
            return None
        takeover = Takeover(Life(opened), self._session)
        try:
            async with asyncio.timeout(self._timing.open_timeout_seconds):
                await takeover.prepare(present)
        except BaseException as error:
            await takeover.life.close()
            if isinstance(error, DisconnectedError | ProtocolError | TimeoutError):
                return None
            raise
        return takeover
