"""A master, a replica of it, and three sentinels that watch them: real processes.

They are hurried, unless a test is about Sentinel's own timing.

with SentinelSet() as redis:
    broker = RedisBroker(url=redis.url, ...)
    redis.master.freeze()
"""

import contextlib
from typing import Any, Self

from tests.support.certificates import Certificates
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually_blocking

SERVICE = "hub-test"
# As they are in milliseconds by default: 30,000, then 10,000, 2,000, 1,000 and 1,000. While a
# master is down its replica is asked once a second, and none is promoted whose answer is older
# than five ping periods.
_DOWN_AFTER = "500"
_HURRY = ("info-period", "200", "publish-period", "200", "ping-period", "500", "ask-period", "100")


class _Sentinel(RedisServer):
    """A sentinel keeps what it learns in its configuration file."""

    def __init__(
        self, master: RedisServer, tls: Certificates | None, user: str, *, hurried: bool
    ) -> None:
        super().__init__(tls=tls)
        self._hurried = hurried
        hurry = [
            f"sentinel down-after-milliseconds {SERVICE} {_DOWN_AFTER}",
            f"sentinel failover-timeout {SERVICE} 3000",
        ]
        secured = {"tls-port": str(self.public_port), **tls.configuration} if tls else {}
        lines = [
            f"port {self.port}",
            *(f"{name} {value}" for name, value in secured.items()),
            *([f"user {user}"] if user else []),
            "bind 127.0.0.1",
            f"dir {self.path}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {master.public_port} 2",
            *(hurry if hurried else []),
        ]
        (self.path / "sentinel.conf").write_text("\n".join(lines) + "\n")

    def _arguments(self) -> list[str]:
        return [str(self.path / "sentinel.conf"), "--sentinel"]

    def start(self) -> None:
        super().start()
        if self._hurried:
            assert self.ask("SENTINEL", "DEBUG", *_HURRY).startswith(b"+OK")

    @property
    def state(self) -> bytes:
        """Returns what the sentinel knows of the master."""
        return self.ask("INFO", "sentinel")


class SentinelSet:
    """Runs from `with` to its end.

    Args:
        tls: for all connections but those of the test itself.
        user: who may log in besides, and what for, at the servers ...
        sentinel_user: ... and at the sentinels.
        hurried: False for the timing that Sentinel has by default.
        configuration: of the master and the replica.
    """

    def __init__(
        self,
        *,
        tls: Certificates | None = None,
        user: str = "",
        sentinel_user: str = "",
        hurried: bool = True,
        **configuration: str,
    ) -> None:
        self._tls = tls
        self._hurried = hurried
        self._user: dict[str, Any] = configuration | ({"user": user} if user else {})
        self._sentinel_user = sentinel_user
        self._stack = contextlib.ExitStack()
        self._failovers = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(RedisServer(tls=self._tls, **self._user))
            address = f"127.0.0.1 {first.public_port}"
            second = stack.enter_context(
                RedisServer(tls=self._tls, replicaof=address, **self._user)
            )
            self.servers = (first, second)
            self.sentinels = [
                stack.enter_context(
                    _Sentinel(first, self._tls, self._sentinel_user, hurried=self._hurried)
                )
                for _ in range(3)
            ]
            eventually_blocking(
                self._is_complete, seconds=30, what="sentinels that know each other"
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _is_complete(self) -> bool:
        in_sync = b"state=online" in self.servers[0].ask("INFO", "replication")
        states = [sentinel.state for sentinel in self.sentinels]
        return in_sync and all(b"status=ok" in s and b"slaves=1,sentinels=3" in s for s in states)

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.public_port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    @property
    def master(self) -> RedisServer:
        """The master as the first sentinel sees it."""
        answer = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(s for s in self.servers if str(s.public_port).encode() in answer)

    def fail_over(self) -> None:
        """Fails over as an operator does before maintenance; the failover
        goes on in the background."""
        answer = self.sentinels[0].ask("SENTINEL", "FAILOVER", SERVICE)
        assert answer.startswith(b"+OK"), answer
        self._failovers += 1

    def insist(self) -> None:
        """Ask for `fail_over` again where the sentinel has given up, which it tells nobody.

        It does where the replica's last word is too old, as it soon is on a busy machine.
        """
        given_up = self.sentinels[0].log.count("-failover-abort")
        if given_up >= self._failovers > 0:
            answer = self.sentinels[0].ask("SENTINEL", "FAILOVER", SERVICE)
            self._failovers += answer.startswith(b"+OK")

    def be_patient(self, *, milliseconds: int) -> None:
        """How long a master may be silent before it is taken for dead."""
        for sentinel in self.sentinels:
            answer = sentinel.ask(
                "SENTINEL", "SET", SERVICE, "down-after-milliseconds", str(milliseconds)
            )
            assert answer.startswith(b"+OK"), answer

    def move_to(self, server: RedisServer) -> None:
        """Make the replica a master and have the sentinels watch only it from now on."""
        for sentinel in self.sentinels:
            sentinel.ask("SENTINEL", "REMOVE", SERVICE)
        server.ask("REPLICAOF", "NO", "ONE")
        for sentinel in self.sentinels:
            answer = sentinel.ask(
                "SENTINEL", "MONITOR", SERVICE, "127.0.0.1", str(server.public_port), "2"
            )
            assert answer.startswith(b"+OK"), answer
