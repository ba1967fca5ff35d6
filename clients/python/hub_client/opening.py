"""Open a connection: the transports to try, their order, and the token.

An opened connection has proved itself (`ClientLink.prove`). `hub_client.connection` decides when
to try again.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hub_client.errors import LoggedOutError
from hub_client.link import ClientLink
from hub_client.poll import PollDialer
from hub_client.sse import SseDialer
from hub_client.timing import ReconnectTiming
from hub_client.tokens import TokenSource
from hub_client.transport import CannotConnectError, Dialer, Target
from hub_client.websocket import WebSocketDialer


class Choice:
    """The order of the transports; it remembers the one that worked."""

    def __init__(self, transports: Sequence[str]) -> None:
        self._transports = tuple(transports)
        self._working: str | None = None
        self._failures = 0

    def order(self) -> tuple[str, ...]:
        """Return all transports, the one that worked last first."""
        if self._working is None:
            return self._transports
        others = (name for name in self._transports if name != self._working)
        return (self._working, *others)

    @property
    def has_worked(self) -> bool:
        """Whether any transport has worked."""
        return self._working is not None

    def better_than(self, transport: str) -> tuple[str, ...]:
        """Return the transports that are preferred to `transport`, the best first."""
        return self._transports[: self._transports.index(transport)]

    def failed(self, *, blocked: bool) -> bool:
        """Note a failure; return whether to try the next transport at once.

        A hub that is away refuses every transport, so one failure that does not look like a block
        is no reason to leave a good transport; the second in a row is.
        """
        self._failures += 1
        return blocked or self._failures > 1

    def worked(self, transport: str) -> None:
        self._working = transport
        self._failures = 0


class Opening:
    """Open one client's connections."""

    def __init__(
        self,
        dialers: Mapping[str, Dialer],
        target: Target,
        *,
        tokens: TokenSource,
        timing: ReconnectTiming,
    ) -> None:
        self._dialers = dialers
        self._target = target
        self._tokens = tokens
        self._timing = timing
        self.choice = Choice(tuple(dialers))

    async def close(self) -> None:
        """Close the resources that the transports share between connections."""
        for dialer in self._dialers.values():
            await dialer.close()

    async def open(
        self,
        names: Sequence[str],
        subscribe: tuple[Mapping[str, object], ...] = (),
        *,
        beside: bool = False,
    ) -> ClientLink:
        """Try the transports in order; raise the last one's `CannotConnectError`.

        An attempt `beside` a working connection tries all of them, and leaves the order unchanged.
        """
        problem = CannotConnectError("no transport is configured")
        # Not the transport's time, and asked for once, whatever transports it takes.
        target = replace(self._target, token=await self._token(), subscribe=subscribe)
        for name in names:
            try:
                return await self._open_by(self._dialers[name], target)
            except CannotConnectError as error:
                problem = error
                if not beside and not self.choice.failed(blocked=error.blocked):
                    break
        raise problem

    async def _token(self) -> str | None:
        try:
            return await self._tokens.current()
        except LoggedOutError:
            raise
        except Exception as error:
            text = f"no token: {type(error).__name__}: {error}"
            raise CannotConnectError(text) from error

    async def _open_by(self, dialer: Dialer, target: Target) -> ClientLink:
        link: ClientLink | None = None
        try:
            async with asyncio.timeout(self._timing.open_timeout_seconds):
                link = ClientLink(await dialer.dial(target))
                await link.prove()
        except BaseException as error:
            if link is not None:
                await link.wire.close()
            if isinstance(error, TimeoutError):
                waits_for = "welcome" if link is None else link.waits_for
                seconds = f"{self._timing.open_timeout_seconds:g} seconds"
                text = f"no {waits_for} over {dialer.transport} in {seconds}"
                raise CannotConnectError(text, blocked=True) from None
            raise
        self._tokens.welcomed()
        return link


def make_dialers(transports: tuple[str, ...]) -> dict[str, Dialer]:
    """Return the dialers in the order given; raise `ValueError` for a name that is no transport."""
    kinds: dict[str, type[WebSocketDialer | SseDialer | PollDialer]] = {
        WebSocketDialer.transport: WebSocketDialer,
        SseDialer.transport: SseDialer,
        PollDialer.transport: PollDialer,
    }
    unknown = set(transports) - kinds.keys()
    if unknown or not transports:
        raise ValueError(f"transports are {transports!r}, allowed are {', '.join(kinds)}")
    return {name: kinds[name]() for name in transports}
