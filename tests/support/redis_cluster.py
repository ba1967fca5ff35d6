"""A Redis Cluster of three masters and one replica: real processes, quick to fail over.

with RedisCluster() as redis:
    broker = RedisBroker(url=redis.url, ...)
    redis.masters[0].kill()     # the replica of this one takes over
"""

import contextlib
from collections.abc import Mapping
from functools import partial
from typing import Any, Self

from tests.support.certificates import Certificates
from tests.support.redis_server import RedisServer, free_port
from tests.support.waiting import eventually_blocking

SLOTS = 16384
# 15,000 by default; a master's silence of this many milliseconds is its failure.
_NODE_TIMEOUT = "500"
_TRIES = 3


class RedisCluster:
    """Runs from `with` to its end. `replica` is that of the first master.

    Args:
        spare: have a fourth master, which owns nothing.
        tls: for all connections but those of the test itself.
        user: who may log in besides, and what for.
        more: directives for all servers, such as `cluster_announce_hostname`.
    """

    def __init__(
        self,
        *,
        spare: bool = False,
        tls: Certificates | None = None,
        user: str = "",
        more: Mapping[str, str] | None = None,
    ) -> None:
        self._count = 5 if spare else 4
        self._tls = tls
        self._more: dict[str, Any] = {**(more or {})}
        if user:
            self._more["user"] = user
        if tls:
            self._more["tls_cluster"] = "yes"
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            started = [self._start(stack) for _ in range(self._count)]
            servers = [server for server, _ in started]
            self.masters, self.replica, self.spares = servers[:3], servers[3], servers[4:]
            self._form(servers, started[0][1])
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, stack: contextlib.ExitStack) -> tuple[RedisServer, str]:
        """A server and its bus' port; others, where a process that runs besides took one."""
        for _ in range(_TRIES):
            bus = str(free_port())
            try:
                return stack.enter_context(self._server(bus)), bus
            except AssertionError as error:
                if "Address already in use" not in str(error):
                    raise
        raise AssertionError(f"no free ports in {_TRIES} tries")

    def _server(self, bus: str) -> RedisServer:
        return RedisServer(
            tls=self._tls,
            **self._more,
            cluster_enabled="yes",
            cluster_node_timeout=_NODE_TIMEOUT,
            # Without: 10,000 more than the port, which may be above 65,535.
            cluster_port=bus,
            # Slots of a master that is down must not take the others' service away.
            cluster_require_full_coverage="no",
            repl_ping_replica_period="1",
        )

    def _form(self, servers: list[RedisServer], first_bus: str) -> None:
        for number, server in enumerate(self.masters):
            first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
            _do(server, "CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        for number, server in enumerate(servers):
            # Two servers of one epoch would have to settle that first.
            _do(server, "CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            _do(server, "CLUSTER", "MEET", "127.0.0.1", str(servers[0].public_port), first_bus)
        eventually_blocking(
            lambda: all(_knows(s, self._count) for s in servers), what="acquaintance"
        )
        _do(self.replica, "CLUSTER", "REPLICATE", node_id(self.masters[0]))
        eventually_blocking(self._is_complete, what="a cluster")

    def _is_complete(self) -> bool:
        in_sync = b"state=online" in self.masters[0].ask("INFO", "replication")
        states = [s.ask("CLUSTER", "INFO") for s in (*self.masters, self.replica, *self.spares)]
        return in_sync and all(b"cluster_state:ok" in state for state in states)

    @property
    def url(self) -> str:
        """Names two of its servers."""
        hosts = [f"127.0.0.1:{server.public_port}" for server in self.masters[1:]]
        return f"redis+cluster://{','.join(hosts)}"

    def move_slot(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """Moves a slot with its keys, as redis-cli --cluster reshard does."""
        self.begin_move(slot, source, target)
        self.move_keys(slot, source, target)
        self.end_move(slot, source, target)

    def begin_move(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """Begins the move of a slot: from here on no new key is made at `source`."""
        importing = ("CLUSTER", "SETSLOT", str(slot), "IMPORTING", node_id(source))
        migrating = ("CLUSTER", "SETSLOT", str(slot), "MIGRATING", node_id(target))
        # One that has just taken over is no master yet to whoever has not heard of it.
        eventually_blocking(partial(_says_yes, target, *importing), what="IMPORTING")
        eventually_blocking(partial(_says_yes, source, *migrating), what="MIGRATING")

    def move_keys(
        self, slot: int, source: RedisServer, target: RedisServer, *, only: bytes = b""
    ) -> None:
        """Moves the keys of the slot whose names end with `only`."""
        while names := [name for name in keys_in(source, slot) if name.endswith(only)]:
            move = ("MIGRATE", "127.0.0.1", str(target.public_port), "", "0", "1000", "KEYS")
            # A busy machine takes servers for dead, for a moment.
            eventually_blocking(partial(_says_yes, source, *move, *names), what="MIGRATE")

    def end_move(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        command = ("CLUSTER", "SETSLOT", str(slot), "NODE", node_id(target))
        eventually_blocking(partial(_says_yes, target, *command), what="SETSLOT")

        def is_told() -> bool:
            answer = source.ask(*command)
            # It was its last slot, and it has heard already: it is a replica of `target` now.
            return answer.startswith(b"+") or b"only with masters" in answer

        eventually_blocking(is_told, what="SETSLOT")


def _says_yes(server: RedisServer, *command: str | bytes) -> bool:
    return server.ask(*command).startswith(b"+")


def _do(server: RedisServer, *command: str | bytes) -> None:
    answer = server.ask(*command)
    assert answer.startswith(b"+"), answer


def keys_in(server: RedisServer, slot: int) -> list[bytes]:
    """Returns at most a hundred of the hub's keys in the slot."""
    answer = server.ask("CLUSTER", "GETKEYSINSLOT", str(slot), "100")
    return [line for line in answer.split(b"\r\n") if line.startswith(b"hub:")]


def _knows(server: RedisServer, count: int) -> bool:
    return server.ask("CLUSTER", "NODES").count(b"connected") == count


def node_id(server: RedisServer) -> str:
    return server.ask("CLUSTER", "MYID").split(b"\r\n")[1].decode()
