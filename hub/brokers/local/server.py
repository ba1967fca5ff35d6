"""The broker process' side: serves one broker to the workers of a machine.

It numbers, keeps and answers by whatever `hub.core.ports.Broker` it is given; here is only who
hears what. A publication comes once and goes back once to each worker that follows its channel.
What a worker does not take is bounded: one that lets too much wait is cut off, and reads what it
missed from history when it is back.
"""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, TypeVar

from structlog.typing import FilteringBoundLogger

from hub.brokers.local import frames
from hub.brokers.local.frames import Frames, Message
from hub.brokers.local.members import MemberTable
from hub.core.eager import Rest, begin
from hub.core.ports import (
    DirectoryBroker,
    Downstream,
    HistoryPage,
    Monotonic,
    PublishRequest,
    PublishResult,
    Spawn,
)
from hub.core.publication import Position, Publication
from hub.core.pushes import Change, Gap, Member, PresenceReset
from hub.core.records import BrokerRecord
from hub.errors import HubError

# How long a worker's word holds after its connection has ended. A worker that lives is back within
# a second; guess, not measured.
LEASE_SECONDS = 5.0
# Channels told of in one message: some 60 bytes each.
NAMES_AT_ONCE = 1000

T = TypeVar("T")


class Served(DirectoryBroker, Protocol):
    """What is served."""

    def sweep(self) -> None: ...

    def record(self) -> BrokerRecord: ...

    def problems(self) -> Sequence[str]: ...

    def names(self) -> Sequence[str]: ...

    def held(self, channel: str) -> tuple[Position, int | None] | None: ...


@dataclass(eq=False, slots=True)
class _Worker:
    """One connection."""

    frames: Frames
    tag: str = ""
    """Empty until it has said hello."""
    channels: set[str] = field(default_factory=set)
    names: Sequence[str] = ()
    """As it asked for them last."""


@dataclass(slots=True)
class _Channel:
    """Followed by some worker, or about to be."""

    head: Position | None = None
    """None until the broker has said it."""
    workers: dict[_Worker, None] = field(default_factory=dict)
    waiting: list[tuple[_Worker, int]] = field(default_factory=list)


@dataclass(slots=True)
class _Node:
    """A worker over all its connections."""

    worker: _Worker | None
    record: bytes = b""
    left_at: float = 0.0


class BrokerServer:
    """One per broker process; `protocol` is what its listener makes for each connection.

    Args:
        make: makes the broker, which hands down to this.
        spawn: runs what waits; it handles its own errors.
    """

    def __init__(
        self,
        make: Callable[[Downstream], Served],
        *,
        clock: Monotonic,
        spawn: Spawn,
        log: FilteringBoundLogger,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._clock = clock
        self._spawn = spawn
        self._log = log
        self._lease_seconds = lease_seconds
        self._workers: set[_Worker] = set()
        self._nodes: dict[str, _Node] = {}
        self._channels: dict[str, _Channel] = {}
        self._members = MemberTable(self.announce)
        self._followers: dict[_Worker, None] = {}
        """Those that are told of channels that appear."""
        self._asked: dict[tuple[str, int], str] = {}
        """By the asker's tag and its question's number: who is to answer."""
        self.publications = 0
        """Taken since the start."""
        self._handlers: dict[int, Callable[[_Worker, Message], None]] = {
            frames.PUBLISH: self._publish,
            frames.PUBLISH_MANY: self._publish_many,
            frames.SUBSCRIBE: self._subscribe,
            frames.UNSUBSCRIBE: self._unsubscribe,
            frames.HISTORY: self._history,
            frames.STATE: self._state,
            frames.CLEAR: self._clear,
            frames.PING: self._ping,
            frames.CHANGE: self._change,
            frames.PRESENT: self._present,
            frames.TOLD_ALL: lambda worker, _: self._members.told_all(worker.tag),
            frames.MEMBERS: self._tell_members,
            frames.RECORD: self._note_record,
            frames.OTHERS: self._tell_others,
            frames.ASK: self._ask,
            frames.ANSWER: self._answer,
            frames.GIVE_UP: self._give_up,
            frames.NAMES: self._tell_names,
            frames.FOLLOW: self._follow,
            frames.UNFOLLOW: lambda worker, _: self._unfollow(worker),
        }
        self.broker = make(self)
        self._publish_now = self.broker.publish_now if self.broker.answers_at_once else None

    @property
    def connections(self) -> int:
        """How many workers are connected."""
        return len(self._workers)

    def protocol(self) -> Frames:
        """For one connection that was accepted."""
        made = Frames(
            on_messages=lambda messages: self._on_messages(worker, messages),
            on_lost=lambda: self._on_lost(worker),
        )
        worker = _Worker(made)
        self._workers.add(worker)
        return made

    def tick(self) -> None:
        """Housekeeping; call it some twenty times a second."""
        self.broker.sweep()
        ended = self._clock() - self._lease_seconds
        for tag, node in tuple(self._nodes.items()):
            if node.worker is None and node.left_at <= ended:
                del self._nodes[tag]
                self._members.gone(tag)

    # -- hub.core.ports.Downstream -----------------------------------------------------------

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

    # -- connections -------------------------------------------------------------------------

    def _on_messages(self, worker: _Worker, messages: Sequence[Message]) -> None:
        for message in messages:
            if not worker.tag:
                if not self._hello(worker, message):
                    return
            elif (handler := self._handlers.get(message[0])) is not None:
                handler(worker, message)

    def _hello(self, worker: _Worker, message: Message) -> bool:
        kind, shape, tag = message
        worker.frames.send((frames.WELCOME, frames.SHAPE))
        if kind != frames.HELLO or shape != frames.SHAPE:
            self._log.warning("worker_of_another_version", shape=shape, expected=frames.SHAPE)
            worker.frames.close()
            return False
        worker.tag = tag
        known = self._nodes.get(tag)
        if known is not None and known.worker is not None:
            known.worker.frames.abort()
        self._nodes[tag] = _Node(worker)
        self._members.came_back(tag)
        self._log.info("worker_connected", tag=tag)
        return True

    def _on_lost(self, worker: _Worker) -> None:
        self._workers.discard(worker)
        for name in worker.channels:
            self._leave(worker, name)
        worker.channels.clear()
        self._unfollow(worker)
        node = self._nodes.get(worker.tag)
        if node is None or node.worker is not worker:
            return  # It is back by another connection, or was never here.
        node.worker, node.left_at = None, self._clock()
        self._log.info("worker_gone", tag=worker.tag)
        for (asker, number), tag in tuple(self._asked.items()):
            if tag == worker.tag:
                self._answered(asker, number, None)
            elif asker == worker.tag:
                del self._asked[asker, number]

    def _run(self, worker: _Worker, number: int, work: Coroutine[Any, Any, Message]) -> None:
        """Answer with what `work` returns, at once where it does not wait."""
        answering = self._answer_with(worker, number, work)
        if not self.broker.answers_at_once:
            self._spawn(answering)
        elif isinstance(rest := begin(answering), Rest):
            self._spawn(rest.run())

    async def _answer_with(
        self, worker: _Worker, number: int, work: Coroutine[Any, Any, Message]
    ) -> None:
        try:
            answer = await work
        except HubError as error:
            answer = (frames.REFUSED, number, error.code, error.message)
        except Exception:  # noqa: BLE001 - the border: logged with traceback, neutral to the worker
            self._log.exception("broker_call_failed")
            answer = (frames.REFUSED, number, HubError.code, "internal error")
        size = sum(len(each[2]) for each in answer[5]) if answer[0] == frames.PAGE else 0
        worker.frames.send(answer, size)

    # -- what workers ask of the broker ------------------------------------------------------

    def _publish(self, worker: _Worker, message: Message) -> None:
        number, request = message[1], PublishRequest(*message[2:])
        self.publications += 1
        if (publish_now := self._publish_now) is None:
            self._run(worker, number, self._publish_later(number, request))
            return
        try:
            answer = _published(number, publish_now(request))
        except HubError as error:
            answer = (frames.REFUSED, number, error.code, error.message)
        worker.frames.send(answer)

    async def _publish_later(self, number: int, request: PublishRequest) -> Message:
        return _published(number, await self.broker.publish(request))

    def _publish_many(self, worker: _Worker, message: Message) -> None:
        _, number, fields = message
        requests = [PublishRequest(*each) for each in fields]
        self.publications += len(requests)
        many_now = self.broker.publish_many_now if self._publish_now is not None else None
        if many_now is None:
            self._run(worker, number, self._publish_each(number, requests))
        else:
            outcomes = list(map(_outcome, many_now(requests)))
            worker.frames.send((frames.PUBLISHED_MANY, number, outcomes), 60 * len(outcomes))

    async def _publish_each(self, number: int, requests: Sequence[PublishRequest]) -> Message:
        """Together where the broker takes several as cheaply as one."""
        outcomes: list[PublishResult | HubError] = []
        if (publish_many := self.broker.publish_many) is not None:
            outcomes += await publish_many(requests)
        for request in requests[len(outcomes) :]:
            try:
                outcomes.append(await self.broker.publish(request))
            except HubError as error:
                outcomes.append(error)
        return (frames.PUBLISHED_MANY, number, list(map(_outcome, outcomes)))

    def _subscribe(self, worker: _Worker, message: Message) -> None:
        _, number, name = message
        channel = self._channels.get(name)
        if channel is not None and channel.head is not None:
            self._join(channel, name, worker, number, channel.head)
        elif channel is not None:
            channel.waiting.append((worker, number))
        else:
            channel = self._channels[name] = _Channel(waiting=[(worker, number)])
            opening = self._open(name, channel)
            if not self.broker.answers_at_once:
                self._spawn(opening)
            elif isinstance(rest := begin(opening), Rest):
                self._spawn(rest.run())

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
    def _join(channel: _Channel, name: str, worker: _Worker, number: int, head: Position) -> None:
        if worker.frames.is_open:
            channel.workers[worker] = None
            worker.channels.add(name)
            worker.frames.send((frames.HEAD, number, head.epoch, head.offset))

    def _unsubscribe(self, worker: _Worker, message: Message) -> None:
        name = message[1]
        worker.channels.discard(name)
        self._leave(worker, name)

    def _leave(self, worker: _Worker, name: str) -> None:
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

    def _history(self, worker: _Worker, message: Message) -> None:
        _, number, name, after, limit, max_bytes = message
        self._run(worker, number, self._page(number, name, after, limit, max_bytes))

    async def _page(
        self, number: int, name: str, after: int, limit: int, max_bytes: int
    ) -> Message:
        page: HistoryPage = await self.broker.history(name, after, limit, max_bytes=max_bytes)
        found = [frames.publication_fields(each) for each in page.publications]
        return (frames.PAGE, number, page.head.epoch, page.head.offset, page.oldest, found)

    def _state(self, worker: _Worker, message: Message) -> None:
        _, number, name, after, limit, upto, max_bytes = message
        self._run(worker, number, self._rows(number, name, after, limit, upto, max_bytes))

    async def _rows(
        self, number: int, name: str, after: str, limit: int, upto: int | None, max_bytes: int
    ) -> Message:
        page = await self.broker.state(name, after, limit, upto=upto, max_bytes=max_bytes)
        found = [frames.publication_fields(each) for each in page.rows]
        head = page.head
        return (frames.ROWS, number, head.epoch, head.offset, page.next, page.dropped, found)

    def _clear(self, worker: _Worker, message: Message) -> None:
        _, number, name = message
        self._run(worker, number, self._cleared(number, name))

    async def _cleared(self, number: int, name: str) -> Message:
        await self.broker.clear(name)
        return (frames.CLEARED, number)

    def _ping(self, worker: _Worker, message: Message) -> None:
        record, troubles = self.broker.record(), list(self.broker.problems())
        worker.frames.send(
            (frames.PONG, message[1], record.history_bytes, record.history_limit_bytes, troubles)
        )

    def _tell_names(self, worker: _Worker, message: Message) -> None:
        _, number, first = message
        if not first:
            worker.names = self.broker.names()
        following = first + NAMES_AT_ONCE
        told = [
            (name, held[0].epoch, held[0].offset, held[1])
            for name in islice(worker.names, first, following)
            if (held := self.broker.held(name)) is not None
        ]
        more = following if following < len(worker.names) else 0
        worker.frames.send((frames.NAMES_ARE, number, told, more), 60 * len(told))

    # -- which channels there are ------------------------------------------------------------

    def _follow(self, worker: _Worker, message: Message) -> None:
        number = message[1]
        self._followers[worker] = None
        self._run(worker, number, self._followed(number))

    async def _followed(self, number: int) -> Message:
        return (frames.FOLLOWED, number, list(await self.broker.follow(self._appeared)))

    def _appeared(self, name: str) -> None:
        for worker in self._followers:
            worker.frames.send((frames.APPEARED, name))

    def _unfollow(self, worker: _Worker) -> None:
        if self._followers.pop(worker, 0) is None and not self._followers:
            self.broker.unfollow()

    # -- who is present ----------------------------------------------------------------------

    def _change(self, worker: _Worker, message: Message) -> None:
        _, name, joins, *who = message
        self._members.change(worker.tag, name, Member(*who), joins=joins)

    def _present(self, worker: _Worker, message: Message) -> None:
        _, name, members = message
        self._members.present(worker.tag, name, [Member(*who) for who in members])

    def _tell_members(self, worker: _Worker, message: Message) -> None:
        _, number, name = message
        members = tuple(self._members.members(name))
        told = [frames.member_fields(member) for member in members]
        worker.frames.send((frames.MEMBERS_ARE, number, told), frames.bytes_of(members))

    # -- one node asks another ---------------------------------------------------------------

    def _note_record(self, worker: _Worker, message: Message) -> None:
        if (node := self._nodes.get(worker.tag)) is not None:
            node.record = message[1]

    def _tell_others(self, worker: _Worker, message: Message) -> None:
        others = {
            tag: node.record
            for tag, node in self._nodes.items()
            if tag != worker.tag and node.worker is not None and node.record
        }
        worker.frames.send((frames.OTHERS_ARE, message[1], others), 500 * len(others))

    def _ask(self, worker: _Worker, message: Message) -> None:
        _, number, tag, question, lasts = message
        node = self._nodes.get(tag)
        if node is None or node.worker is None:
            worker.frames.send((frames.ANSWERED, number, None))
            return
        self._asked[worker.tag, number] = tag
        node.worker.frames.send((frames.ASKED, worker.tag, number, question, lasts), len(question))

    def _answer(self, _worker: _Worker, message: Message) -> None:
        _, asker, number, answer = message
        self._answered(asker, number, answer)

    def _answered(self, asker: str, number: int, answer: bytes | None) -> None:
        node = self._nodes.get(asker)
        if self._asked.pop((asker, number), None) is not None and node is not None and node.worker:
            size = 0 if answer is None else len(answer)
            node.worker.frames.send((frames.ANSWERED, number, answer), size)

    def _give_up(self, worker: _Worker, message: Message) -> None:
        _, number = message
        tag = self._asked.pop((worker.tag, number), None)
        node = None if tag is None else self._nodes.get(tag)
        if node is not None and node.worker is not None:
            node.worker.frames.send((frames.GIVEN_UP, worker.tag, number))


def _outcome(outcome: PublishResult | HubError) -> Message:
    if isinstance(outcome, HubError):
        return (outcome.code, outcome.message)
    return (outcome.epoch, outcome.offset, outcome.duplicate)


def _published(number: int, result: PublishResult) -> Message:
    position = result.position
    return (frames.PUBLISHED, number, position.epoch, position.offset, result.duplicate)
