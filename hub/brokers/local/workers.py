"""The workers of a machine as the broker process knows them.

`WorkerNodes` has which workers live, their records and their questions to each other: a worker is
gone when it has had no connection for some seconds, and one that only lost its connection is back
before. `HeardChannels` has the channels that each worker follows: a publication comes once from the
broker, and goes once to each worker that follows its channel.
"""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any

from hub.brokers.local import frames
from hub.brokers.local.frames import Frames, Message
from hub.core.eager import NEXT_TURN, Rest, begin
from hub.core.ports import Broker, Monotonic, Spawn
from hub.core.publication import Position, Publication
from hub.core.pushes import Change, Gap, Member, PresenceReset
from hub.errors import HubError, UnavailableError

# A worker tries to connect every half second. Less than a call may take (`link.CALL_SECONDS`).
COME_BACK_SECONDS = 3.0

# Channels that a connection which has ended leaves in one turn: 2 us each.
CHANNELS_AT_ONCE = 500


@dataclass(eq=False, slots=True)
class WorkerConnection:
    """One connection."""

    frames: Frames
    tag: str = ""
    """Empty until it has said hello."""
    channels: set[str] = field(default_factory=set)
    names: Sequence[str] = ()
    """The names of its last list, page by page."""
    listed: dict[int, Sequence[Member]] = field(default_factory=dict)
    """Members of which it has had some pages, by the number of the first."""


@dataclass(slots=True)
class _Node:
    """A worker over all its connections."""

    worker: WorkerConnection | None
    record: bytes = b""
    has_told_all: bool = False
    """Whether it has named all its members."""
    left_at: float = 0.0


class WorkerNodes:
    """One per broker process.

    A broker process that has just begun knows some of the workers of the one before it: until
    `workers` of them have told what they have, or for some seconds, nothing is said of all.

    Args:
        on_gone: gets the tag of a worker that has had no connection for `lease_seconds`.
    """

    def __init__(
        self,
        *,
        clock: Monotonic,
        lease_seconds: float,
        on_gone: Callable[[str], None],
        workers: int = 0,
    ) -> None:
        self._clock = clock
        self._awaited = workers
        """The number of workers; 0 once they have come."""
        self._began_at = clock()
        self._lease_seconds = lease_seconds
        self._on_gone = on_gone
        self._nodes: dict[str, _Node] = {}
        self._asked: dict[tuple[str, int], str] = {}
        """The tag of the worker that is to answer, by the asker's tag and its question's number."""

    def came(self, worker: WorkerConnection) -> None:
        """Note a connection that has said hello, and end an older one of the same worker."""
        known = self._nodes.get(worker.tag)
        if known is not None and known.worker is not None:
            known.worker.frames.abort()
        # It is a node of the lists also until it tells its record again.
        self._nodes[worker.tag] = _Node(worker, b"" if known is None else known.record)

    def knows_all(self) -> bool:
        """Return whether the workers of the process before this one have come."""
        if self._awaited:
            told = sum(bool(node.record and node.has_told_all) for node in self._nodes.values())
            if told >= self._awaited or self._clock() - self._began_at >= COME_BACK_SECONDS:
                self._awaited = 0
        return not self._awaited

    def left(self, worker: WorkerConnection) -> bool:
        """Note the end of a connection; return False where the worker has another, or none."""
        node = self._nodes.get(worker.tag)
        if node is None or node.worker is not worker:
            return False
        node.worker, node.left_at = None, self._clock()
        for (asker, number), tag in tuple(self._asked.items()):
            if tag == worker.tag:
                self._answered(asker, number, None)
            elif asker == worker.tag:
                # The worker that is to answer would wait on, for a peer that has gone.
                self.give_up(worker, (frames.GIVE_UP, number))
        return True

    def tick(self) -> None:
        """Forget workers that have been gone for the lease."""
        ended = self._clock() - self._lease_seconds
        for tag, node in tuple(self._nodes.items()):
            if node.worker is None and node.left_at <= ended:
                del self._nodes[tag]
                self._on_gone(tag)

    def note_told_all(self, worker: WorkerConnection) -> None:
        if (node := self._nodes.get(worker.tag)) is not None:
            node.has_told_all = True

    def note_record(self, worker: WorkerConnection, message: Message) -> None:
        if (node := self._nodes.get(worker.tag)) is not None:
            node.record = message[1]

    def tell_others(self, worker: WorkerConnection, message: Message) -> None:
        if not self.knows_all():
            why = "the broker process has just begun, and not all workers have come"
            worker.frames.send((frames.REFUSED, message[1], UnavailableError.code, why))
            return
        others = {
            tag: node.record
            for tag, node in self._nodes.items()
            if tag != worker.tag and node.worker is not None and node.record
        }
        worker.frames.send((frames.OTHERS_ARE, message[1], others), 500 * len(others))

    def ask(self, worker: WorkerConnection, message: Message) -> None:
        _, number, tag, question, lasts = message
        node = self._nodes.get(tag)
        if node is None or node.worker is None:
            worker.frames.send((frames.ANSWERED, number, None))
            return
        self._asked[worker.tag, number] = tag
        node.worker.frames.send((frames.ASKED, worker.tag, number, question, lasts), len(question))

    def answer(self, _worker: WorkerConnection, message: Message) -> None:
        _, asker, number, answer = message
        self._answered(asker, number, answer)

    def _answered(self, asker: str, number: int, answer: bytes | None) -> None:
        node = self._nodes.get(asker)
        if self._asked.pop((asker, number), None) is not None and node is not None and node.worker:
            size = 0 if answer is None else len(answer)
            node.worker.frames.send((frames.ANSWERED, number, answer), size)

    def give_up(self, worker: WorkerConnection, message: Message) -> None:
        _, number = message
        tag = self._asked.pop((worker.tag, number), None)
        node = None if tag is None else self._nodes.get(tag)
        if node is not None and node.worker is not None:
            node.worker.frames.send((frames.GIVEN_UP, worker.tag, number))


_CHANNEL_OF: Callable[[Publication], str] = attrgetter("channel")


@dataclass(slots=True)
class _Channel:
    """A channel that some worker follows, or is about to follow."""

    head: Position | None = None
    """None until the broker has answered."""
    workers: dict[WorkerConnection, None] = field(default_factory=dict)
    waiting: list[tuple[WorkerConnection, int]] = field(default_factory=list)


class HeardChannels:
    """One per broker process; `broker` is set before the first worker connects.

    Args:
        spawn: runs coroutines that wait; they handle their own errors.
    """

    def __init__(self, *, spawn: Spawn) -> None:
        self.broker: Broker
        self._spawn = spawn
        self._channels: dict[str, _Channel] = {}
        self._gathered: list[Publication] = []
        self._gathers = False

    def gather(self) -> None:
        """Keep what is delivered from now on until `send_gathered`, which looks up a channel once.

        Nothing else may be sent to workers meanwhile.
        """
        self._gathers = True

    def send_gathered(self) -> None:
        self._gathers = False
        gathered, self._gathered = self._gathered, []
        for name, run in groupby(gathered, _CHANNEL_OF):
            self._send(name, list(run))

    def deliver(self, publication: Publication) -> None:
        if self._gathers:
            self._gathered.append(publication)
        else:
            self._send(publication.channel, (publication,))

    def _send(self, name: str, publications: Sequence[Publication]) -> None:
        """Send publications of one channel to its workers; they are written once for all."""
        if (channel := self._channels.get(name)) is None or channel.head is None:
            return
        if offset := publications[-1].offset:
            channel.head = Position(channel.head.epoch, offset)
        written = [frames.written(each) for each in publications]
        size = sum(map(len, written))
        for worker in channel.workers:
            if not worker.frames.join(frames.DELIVER, written, size):
                # A list of its own: others join it.
                worker.frames.send((frames.DELIVER, [*written]), size)

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

    # -- calls of workers ---------------------------------------------------------------------

    def subscribe(self, worker: WorkerConnection, message: Message) -> None:
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
    def _join(
        channel: _Channel, name: str, worker: WorkerConnection, number: int, head: Position
    ) -> None:
        if worker.frames.is_open:
            channel.workers[worker] = None
            worker.channels.add(name)
            worker.frames.send((frames.HEAD, number, head.epoch, head.offset))

    def unsubscribe(self, worker: WorkerConnection, message: Message) -> None:
        name = message[1]
        worker.channels.discard(name)
        self._leave(worker, name)

    def _leave(self, worker: WorkerConnection, name: str) -> None:
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

    def lost_worker(self, worker: WorkerConnection) -> None:
        """Leave all channels of a connection that has ended, in turns."""
        run(self._leave_all(worker), at_once=True, spawn=self._spawn)

    async def _leave_all(self, worker: WorkerConnection) -> None:
        left = 0
        while worker.channels:
            self._leave(worker, worker.channels.pop())
            left += 1
            if left % CHANNELS_AT_ONCE == 0:
                await NEXT_TURN


def run(work: Coroutine[Any, Any, None], *, at_once: bool, spawn: Spawn) -> None:
    """Run `work`, in this call where the broker answers `at_once` and nothing has to wait."""
    if not at_once:
        spawn(work)
    elif isinstance(rest := begin(work), Rest):
        spawn(rest.run())
