"""Nodes that ask each other without any broker, over a bus in memory."""

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from hub.admin.requests import Handlers
from hub.admin.rpc import AdminRpc, Serve
from hub.core.node_records import NodeRecord
from hub.errors import OutcomeUnknownError, UnavailableError


def node_record(name: str, **changes: Any) -> NodeRecord:
    known: dict[str, Any] = {
        "node": name, "version": "0", "started_ms": 1, "uptime_seconds": 2.5, "connections": 3,
        "subscriptions": 4, "channels": 5, "publications": 6, "deliveries": 7, "draining": False,
    }  # fmt: skip
    return NodeRecord(**{**known, **changes})


class Network:
    """The nodes by tag, which is their name as well."""

    def __init__(self) -> None:
        self.serving: dict[str, Serve] = {}
        self.records: dict[str, Callable[[], NodeRecord]] = {}
        self.silent: set[str] = set()
        """Nodes that live and do not answer."""
        self.gone: set[str] = set()
        """Nodes that are known still, and live no more."""
        self.away = False
        """Whether it cannot be asked which nodes there are."""

    async def join(self, tag: str, handlers: Handlers, **record: Any) -> AdminRpc:
        rpc = AdminRpc(
            tag=tag,
            bus=_Bus(self, tag),
            handlers=handlers,
            record=lambda: node_record(tag, **record),
            log=structlog.get_logger(),
        )
        await rpc.start()
        return rpc


class _Bus:
    alone = False

    def __init__(self, network: Network, tag: str) -> None:
        self._network = network
        self._tag = tag
        self._known: Mapping[str, NodeRecord] = {}

    async def start(self, serve: Serve, record: Callable[[], NodeRecord]) -> None:
        self._network.serving[self._tag] = serve
        self._network.records[self._tag] = record

    async def stop(self) -> None:
        del self._network.serving[self._tag], self._network.records[self._tag]

    async def others(self) -> Mapping[str, NodeRecord]:
        if self._network.away:
            raise UnavailableError("the other nodes are not known now")
        records = self._network.records
        self._known = {tag: record() for tag, record in records.items() if tag != self._tag}
        return self._known

    def known_others(self) -> Mapping[str, NodeRecord]:
        return self._known

    async def ask(
        self,
        tag: str,
        question: bytes,
        *,
        wait_seconds: float = 0.0,
        lasts: bool = False,
    ) -> bytes | None:
        if self._network.away:
            raise UnavailableError("Redis is away")
        if tag in self._network.silent:
            raise OutcomeUnknownError("it does not answer")
        serve = None if tag in self._network.gone else self._network.serving.get(tag)
        return None if serve is None else await serve(question)
