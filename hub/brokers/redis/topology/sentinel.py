"""The master that Redis Sentinel knows under a name, wherever it moves.

All sentinels are asked: before every connection, and once a second besides, because a frozen
or demoted master says nothing to its subscribers (measured: 9.5 s on a demoted one, for ever
on a frozen one). Polling was chosen over their `+switch-master` messages: it needs no
connection whose silence has to be explained. One answer per sentinel, node and second.
"""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio.connection import AbstractConnection, Connection
from structlog.typing import FilteringBoundLogger

from hub.brokers.redis.link.connection import Endpoint, FixedServer
from hub.brokers.redis.link.outcomes import LostError
from hub.brokers.redis.link.urls import SentinelUrl, parse_sentinel, without_secrets
from hub.brokers.redis.options import RedisOptions
from hub.brokers.redis.topology.discovery import Discovery
from hub.core.ports import Monotonic


@dataclass(frozen=True, slots=True, order=True)
class Master:
    """The master's place by the word of a sentinel; the greater one is the newer."""

    epoch: int
    """Rises with every failover."""
    host: str
    port: int


class SentinelMaster(Endpoint):
    """The master, wherever it is.

    Raises:
        SettingsError: `url` is none of sentinels.
    """

    may_be_replaced = True

    def __init__(
        self, url: str, *, options: RedisOptions, clock: Monotonic, log: FilteringBoundLogger
    ) -> None:
        self.name = without_secrets(url)
        self._url: SentinelUrl = parse_sentinel(url)
        self._sentinels = [FixedServer(sentinel) for sentinel in self._url.sentinels]
        FixedServer(self._url.master("localhost", 1))
        self._options = options
        self._discovery = Discovery(
            client_name=options.client_name("sentinel"),
            timeout_seconds=options.connect_timeout_seconds,
            patience_seconds=options.locate_timeout_seconds,
            clock=clock,
        )
        self._log = log.bind(server=self.name)
        self._master: Master | None = None
        self._entered: Master | None = None
        """The master that calls went to last."""
        self._changed = asyncio.Event()

    # -- Endpoint ----------------------------------------------------------------------------

    async def connection(self, client_name: str) -> AbstractConnection:
        """Return a connection to the master as the sentinels that answer see it now."""
        answers = await self._ask_all()
        masters = [answer for answer in answers if isinstance(answer, Master)]
        if not masters:
            raise LostError(f"no sentinel tells where the master is: {answers[0]}")
        master = max(masters)
        self._set(master)
        return FixedServer(self._url.master(master.host, master.port)).make(client_name)

    async def left(self, connection: AbstractConnection) -> None:
        host, port = _address(connection)
        while self._is_at(host, port):
            await self._changed.wait()
        raise LostError("the master is elsewhere now")

    async def confirm(self, connection: AbstractConnection) -> None:
        """Ask now; without an answer in time the known place holds, because calls are waiting."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.confirm_timeout_seconds):
                await self._look()
        if not self._is_at(*_address(connection)):
            raise LostError("the master is elsewhere now")

    def config_epoch(self, connection: AbstractConnection) -> int | None:
        known = self._master
        return known.epoch if known is not None and self._is_at(*_address(connection)) else None

    def former(self, connection: AbstractConnection) -> AbstractConnection | None:
        former, (host, port) = self._entered, _address(connection)
        if former is None or (former.host.lower(), former.port) == (host.lower(), port):
            return None
        client_name = self._options.client_name("leaving")
        return FixedServer(self._url.master(former.host, former.port)).make(client_name)

    def entered(self, connection: AbstractConnection) -> None:
        self._entered = Master(0, *_address(connection))

    async def moved(self) -> None:
        before = self._master
        while self._master == before or (before and self._is_at(before.host, before.port)):
            await self._changed.wait()

    async def run(self) -> None:
        while True:
            # Not all nodes at the same time.
            await asyncio.sleep(self._options.sentinel_seconds * random.uniform(0.8, 1.2))
            await self._look()

    async def _look(self) -> None:
        masters = [m for m in await self._ask_all() if isinstance(m, Master)]
        # A sentinel that was cut off still names a former one, with a lower epoch.
        if masters and (self._master is None or max(masters).epoch >= self._master.epoch):
            self._set(max(masters))

    # -- the known place ---------------------------------------------------------------------

    def _is_at(self, host: str, port: int) -> bool:
        master = self._master
        # Sentinels may announce names, and names read from a URL are in small letters.
        return master is None or (master.host.lower(), master.port) == (host.lower(), port)

    def _set(self, master: Master) -> None:
        if self._master is not None and not self._is_at(master.host, master.port):
            self._log.warning("redis_master_moved", host=master.host, port=master.port)
        self._master = master
        self._changed.set()
        self._changed = asyncio.Event()

    # -- asking ------------------------------------------------------------------------------

    async def _ask_all(self) -> Sequence[Master | str]:
        """Return the word of each sentinel, or why there is none."""
        found = await self._discovery.ask_all(
            self._sentinels,
            ("SENTINEL", "MASTER", self._url.service),
            # From the moment of promotion this names the new one, `MASTER` only later.
            ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._url.service),
            # A failover between the two would give the new address the old epoch.
            ("SENTINEL", "MASTER", self._url.service),
        )
        return [each if isinstance(each, str) else _master(*each) for each in found]


def _master(before: object, address: object, after: object) -> Master | str:
    match before, address, after:
        case list(), [bytes() as host, bytes() as port], list():
            if _config_epoch(before) != _config_epoch(after):
                return "a failover is under way"
            return Master(_config_epoch(after), host.decode(), int(port))
    return f"no master: {address!r:.100}"


def _config_epoch(state: Sequence[bytes]) -> int:
    return int(dict(zip(state[::2], state[1::2], strict=True))[b"config-epoch"])


def _address(connection: AbstractConnection) -> tuple[str, int]:
    if not isinstance(connection, Connection):
        raise TypeError(f"a master has a host and a port, not {connection!r}")
    return connection.host, connection.port
