"""Which worker hears which channel: the broker process' side.

A publication comes once from the broker and goes back once to each worker that follows its
channel: `hub.core.ports.Downstream` of the broker that is served.
"""

from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from hub.brokers.local import frames
from hub.brokers.local.frames import Message
from hub.brokers.local.nodes import Worker
from hub.core.eager import Rest, begin
from hub.core.ports import Broker, Spawn
from hub.core.publication import Position, Publication
from hub.core.pushes import Change, Gap, PresenceReset
from hub.errors import HubError


@dataclass(slots=True)
class _Channel:
    """Followed by some worker, or about to be."""

    head: Position | None = None
    """None until the broker has said it."""
    workers: dict[Worker, None] = field(default_factory=dict)
    waiting: list[tuple[Worker, int]] = field(default_factory=list)


class HeardChannels:
    """One per broker process; `broker` is set before the first worker connects.

    Args:
        spawn: runs what waits; it handles its own errors.
    """

    def __init__(self, *, spawn: Spawn) -> None:
        self.broker: Broker
        self._spawn = spawn
        self._channels: dict[str, _Channel] = {}

    def deliver(self, publication: Publication) -> None:
        if (channel := self._channels.get(publication.channel)) is None or channel.head is None:
            return
        if publication.offset:
            channel.head = Position(channel.head.epoch, publication.offset)
        message, size = (
            (frames.DELIVER, *frames.publication_fields(publication)),
            len(publication.data),
        )
        for worker in channel.workers:
            worker.frames.send(message, size)

    def lost(self, gap: Gap) -> None:
        if (channel := self._channels.get(gap.channel)) is None or channel.head is None:
            return
        channel.head = Position(gap.epoch, max(gap.last, channel.head.offset))
        self._tell(
            channel,
            (
                frames.LOST,
                gap.channel,
                gap.epoch,
                gap.first,
                gap.last,
                str(gap.reason),
                gap.unsequenced,
            ),
        )

    def reset(self, channel: str, head: Position) -> None:
        if (found := self._channels.get(channel)) is not None and found.head is not None:
            found.head = head
            self._tell(found, (frames.RESET, channel, head.epoch, head.offset))

    def announce(self, channel: str, change: Change | PresenceReset) -> None:
        if (found := self._channels.get(channel)) is None:
            return
        if isinstance(change, PresenceReset):
            self._tell(found, (frames.ANNOUNCE, channel, None))
        else:
            who = frames.member_fields(change.member)
            self._tell(found, (frames.ANNOUNCE, channel, frames.CHANGE_NAMES[type(change)], *who))

    def _tell(self, channel: _Channel, message: Message) -> None:
        for worker in channel.workers:
            worker.frames.send(message)

    # -- what workers say ---------------------------------------------------------------------

    def subscribe(self, worker: Worker, message: Message) -> None:
        _, number, name = message
        channel = self._channels.get(name)
        if channel is not None and channel.head is not None:
            self._join(channel, name, worker, number, channel.head)
        elif channel is not None:
            channel.waiting.append((worker, number))
        else:
            channel = self._channels[name] = _Channel(waiting=[(worker, number)])
            opening = self._open(name, channel)
            run(opening, at_once=self.broker.answers_at_once, spawn=self._spawn)

    async def _open(self, name: str, channel: _Channel) -> None:
        def on_open(head: Position) -> None:
            channel.head = head
            waiting, channel.waiting = channel.waiting, []
            for worker, number in waiting:
                self._join(channel, name, worker, number, head)

        try:
            await self.broker.subscribe(name, on_open)
        except HubError as error:
            if self._channels.get(name) is channel:
                del self._channels[name]
            for worker, number in channel.waiting:
                worker.frames.send((frames.REFUSED, number, error.code, error.message))
            return
        self._close_if_unused(name, channel)

    @staticmethod
    def _join(channel: _Channel, name: str, worker: Worker, number: int, head: Position) -> None:
        if worker.frames.is_open:
            channel.workers[worker] = None
            worker.channels.add(name)
            worker.frames.send((frames.HEAD, number, head.epoch, head.offset))

    def unsubscribe(self, worker: Worker, message: Message) -> None:
        name = message[1]
        worker.channels.discard(name)
        self._leave(worker, name)

    def _leave(self, worker: Worker, name: str) -> None:
        if (channel := self._channels.get(name)) is None:
            return
        channel.workers.pop(worker, None)
        channel.waiting = [pair for pair in channel.waiting if pair[0] is not worker]
        self._close_if_unused(name, channel)

    def _close_if_unused(self, name: str, channel: _Channel) -> None:
        unused = channel.head is not None and not channel.workers and not channel.waiting
        if unused and self._channels.get(name) is channel:
            del self._channels[name]
            self.broker.unsubscribe(name)

    def lost_worker(self, worker: Worker) -> None:
        """A connection has ended: it follows nothing any more."""
        for name in worker.channels:
            self._leave(worker, name)
        worker.channels.clear()


def run(work: Coroutine[Any, Any, None], *, at_once: bool, spawn: Spawn) -> None:
    """Carry it out, in this call where the broker answers `at_once` and nothing is waited for."""
    if not at_once:
        spawn(work)
    elif isinstance(rest := begin(work), Rest):
        spawn(rest.run())
