"""The broker process' side: serves one broker to the workers of a machine.

The served broker numbers, keeps and answers. This module has the calls to it, and the workers that
make them. A worker's waiting messages are bounded: at the bound the worker is cut off, and reads
the missed publications from history when it is back.
"""

from collections.abc import Callable, Coroutine, Sequence
from itertools import islice
from typing import Any, Protocol

from structlog.typing import FilteringBoundLogger

from hub.brokers.local import frames
from hub.brokers.local.frames import Frames, Message
from hub.brokers.local.members import MemberTable
from hub.brokers.local.workers import HeardChannels, WorkerConnection, WorkerNodes, run
from hub.core.node_records import BrokerRecord
from hub.core.ports import (
    DirectoryBroker,
    Downstream,
    HistoryPage,
    Monotonic,
    PublishRequest,
    PublishResult,
    Spawn,
)
from hub.core.publication import Position
from hub.core.pushes import Member
from hub.errors import HubError, UnavailableError

# How long the members of a worker stay after its connection has ended. A live one is back within
# a second; guess, not measured.
LEASE_SECONDS = 5.0
# Channels in one message: some 60 bytes each.
NAMES_AT_ONCE = 1000
# Lists of members that a worker reads in pages. The broker process keeps each as of its first page.
LISTS_AT_ONCE = 16


class Served(DirectoryBroker, Protocol):
    """The broker that is served."""

    def sweep(self) -> None: ...

    def record(self) -> BrokerRecord: ...

    def problems(self) -> Sequence[str]: ...

    def names(self) -> Sequence[str]: ...

    def held(self, channel: str) -> tuple[Position, int | None] | None: ...

    def rows_held(self, channel: str) -> tuple[int, int] | None: ...


class BrokerServer:
    """One per broker process; `protocol` is what its listener makes for each connection.

    Args:
        make: makes the broker, whose `Downstream` is this server's.
        spawn: runs coroutines that wait; they handle their own errors.
        workers: the number of workers that will connect.
    """

    def __init__(
        self,
        make: Callable[[Downstream], Served],
        *,
        clock: Monotonic,
        spawn: Spawn,
        log: FilteringBoundLogger,
        lease_seconds: float = LEASE_SECONDS,
        workers: int = 0,
    ) -> None:
        self._spawn = spawn
        self._log = log
        self._workers: set[WorkerConnection] = set()
        self._channels = HeardChannels(spawn=spawn)
        self._members = MemberTable(self._channels.announce, spawn=spawn)
        nodes = self._nodes = WorkerNodes(
            clock=clock,
            lease_seconds=lease_seconds,
            on_gone=self._members.gone,
            workers=workers,
        )
        self._asking_members: list[tuple[WorkerConnection, Message]] = []
        """Questions for members, until all workers have named theirs."""
        self._followers: dict[WorkerConnection, None] = {}
        """Workers that get the names of channels that appear."""
        self.publications = 0
        """The number of publications taken since the start."""
        self._handlers: dict[int, Callable[[WorkerConnection, Message], None]] = {
            frames.PUBLISH: self._publish,
            frames.SUBSCRIBE: self._channels.subscribe,
            frames.UNSUBSCRIBE: self._channels.unsubscribe,
            frames.HISTORY: self._history,
            frames.STATE: self._state,
            frames.CLEAR: self._clear,
            frames.PING: self._ping,
            frames.CHANGE: self._change,
            frames.PRESENT: self._present,
            frames.TOLD_ALL: self._told_all,
            frames.MEMBERS: self._tell_members,
            frames.RECORD: nodes.note_record,
            frames.OTHERS: nodes.tell_others,
            frames.ASK: nodes.ask,
            frames.ANSWER: nodes.answer,
            frames.GIVE_UP: nodes.give_up,
            frames.NAMES: self._tell_names,
            frames.FOLLOW: self._follow,
            frames.UNFOLLOW: lambda worker, _: self._unfollow(worker),
            frames.MATCH: self._match,
        }
        self.broker = self._channels.broker = make(self._channels)
        self._publish_many_now = (
            self.broker.publish_many_now if self.broker.answers_at_once else None
        )

    @property
    def connections(self) -> int:
        """Return how many workers are connected."""
        return len(self._workers)

    def protocol(self) -> Frames:
        """Return the protocol of one accepted connection."""
        made = Frames(
            on_messages=lambda messages: self._on_messages(worker, messages),
            on_lost=lambda: self._on_lost(worker),
        )
        worker = WorkerConnection(made)
        self._workers.add(worker)
        return made

    def is_quiet(self) -> bool:
        """Whether ten ticks a second are enough: nobody waits for one."""
        return not self._asking_members

    def tick(self) -> None:
        """Housekeeping; call it some twenty times a second, or ten while it `is_quiet`."""
        self.broker.sweep()
        self._nodes.tick()
        if self._asking_members and self._nodes.knows_all():
            asked, self._asking_members = self._asking_members, []
            for worker, message in asked:
                self._tell_members(worker, message)

    # -- connections -------------------------------------------------------------------------

    def _on_messages(self, worker: WorkerConnection, messages: Sequence[Message]) -> None:
        for message in messages:
            if not worker.tag:
                if not self._hello(worker, message):
                    return
            elif (handler := self._handlers.get(message[0])) is not None:
                handler(worker, message)

    def _hello(self, worker: WorkerConnection, message: Message) -> bool:
        kind, shape, tag = message
        worker.frames.send((frames.WELCOME, frames.SHAPE))
        if kind != frames.HELLO or shape != frames.SHAPE:
            self._log.warning("worker_of_another_version", shape=shape, expected=frames.SHAPE)
            worker.frames.close()
            return False
        worker.tag = tag
        self._nodes.came(worker)
        self._members.came_back(tag)
        self._log.info("worker_connected", tag=tag)
        return True

    def _on_lost(self, worker: WorkerConnection) -> None:
        self._workers.discard(worker)
        self._channels.lost_worker(worker)
        self._unfollow(worker)
        if self._nodes.left(worker):
            self._log.info("worker_gone", tag=worker.tag)

    def _run(
        self, worker: WorkerConnection, number: int, work: Coroutine[Any, Any, Message]
    ) -> None:
        """Answer with the result of `work`, at once where it does not wait."""
        answering = self._answer_with(worker, number, work)
        run(answering, at_once=self.broker.answers_at_once, spawn=self._spawn)

    async def _answer_with(
        self, worker: WorkerConnection, number: int, work: Coroutine[Any, Any, Message]
    ) -> None:
        try:
            answer = await work
        except HubError as error:
            answer = (frames.REFUSED, number, error.code, error.message)
        except Exception:  # noqa: BLE001 - the border: logged with traceback, neutral to the worker
            self._log.exception("broker_call_failed")
            answer = (frames.REFUSED, number, HubError.code, "internal error")
        pages = answer[0] in {frames.PAGE, frames.ROWS}
        size = sum(map(len, answer[-1])) if pages else 0
        worker.frames.send(answer, size)

    # -- calls of the broker -----------------------------------------------------------------

    def _publish(self, worker: WorkerConnection, message: Message) -> None:
        _, number, written = message
        requests = list(map(frames.read_request, written))
        self.publications += len(requests)
        if (many_now := self._publish_many_now) is None:
            self._run(worker, number, self._publish_each(number, requests))
            return
        if several := len(requests) > 1:
            self._channels.gather()
        try:
            outcomes = [_outcome(each) for each in many_now(requests)]
        finally:
            if several:
                self._channels.send_gathered()
        worker.frames.send((frames.PUBLISHED, number, outcomes), 60 * len(outcomes))

    async def _publish_each(self, number: int, requests: Sequence[PublishRequest]) -> Message:
        """Publish together where the broker takes several as cheaply as one."""
        outcomes: list[PublishResult | HubError] = []
        if (publish_many := self.broker.publish_many) is not None:
            outcomes += await publish_many(requests)
        for request in requests[len(outcomes) :]:
            try:
                outcomes.append(await self.broker.publish(request))
            except HubError as error:
                outcomes.append(error)
        return (frames.PUBLISHED, number, list(map(_outcome, outcomes)))

    def _history(self, worker: WorkerConnection, message: Message) -> None:
        _, number, name, after, limit, max_bytes = message
        self._run(worker, number, self._page(number, name, after, limit, max_bytes))

    async def _page(
        self, number: int, name: str, after: int, limit: int, max_bytes: int
    ) -> Message:
        page: HistoryPage = await self.broker.history(name, after, limit, max_bytes=max_bytes)
        found = list(map(frames.written, page.publications))
        head, invalid = page.head, list(page.invalid)
        return (frames.PAGE, number, head.epoch, head.offset, page.oldest, invalid, found)

    def _state(self, worker: WorkerConnection, message: Message) -> None:
        _, number, name, after, limit, upto, max_bytes = message
        self._run(worker, number, self._rows(number, name, after, limit, upto, max_bytes))

    async def _rows(
        self, number: int, name: str, after: str, limit: int, upto: int | None, max_bytes: int
    ) -> Message:
        page = await self.broker.state(name, after, limit, upto=upto, max_bytes=max_bytes)
        found = list(map(frames.written, page.rows))
        head = page.head
        return (frames.ROWS, number, head.epoch, head.offset, page.next, page.dropped, found)

    def _clear(self, worker: WorkerConnection, message: Message) -> None:
        _, number, name = message
        self._run(worker, number, self._cleared(number, name))

    async def _cleared(self, number: int, name: str) -> Message:
        await self.broker.clear(name)
        return (frames.CLEARED, number)

    def _ping(self, worker: WorkerConnection, message: Message) -> None:
        record, troubles = self.broker.record(), list(self.broker.problems())
        worker.frames.send(
            (
                frames.PONG,
                message[1],
                record.history_bytes,
                record.history_limit_bytes,
                record.state_rows,
                record.state_row_bytes,
                troubles,
            )
        )

    def _tell_names(self, worker: WorkerConnection, message: Message) -> None:
        _, number, first = message
        if not first:
            worker.names = self.broker.names()
        following = first + NAMES_AT_ONCE
        told = [
            (name, held[0].epoch, held[0].offset, held[1], self.broker.rows_held(name))
            for name in islice(worker.names, first, following)
            if (held := self.broker.held(name)) is not None
        ]
        more = following if following < len(worker.names) else 0
        worker.frames.send((frames.NAMES_ARE, number, told, more), 60 * len(told))

    # -- names of channels -------------------------------------------------------------------

    def _follow(self, worker: WorkerConnection, _message: Message) -> None:
        self._followers[worker] = None
        self.broker.follow(self)

    def appeared(self, name: str) -> None:
        """As `hub.core.ports.Appearances`."""
        for worker in self._followers:
            worker.frames.send((frames.APPEARED, name))

    def missed(self) -> None:
        for worker in self._followers:
            worker.frames.send((frames.MISSED,))

    def _match(self, worker: WorkerConnection, message: Message) -> None:
        _, number, pattern, most = message
        self._run(worker, number, self._matching(number, pattern, most))

    async def _matching(self, number: int, pattern: str, most: int) -> Message:
        return (frames.MATCHING, number, list(await self.broker.matching(pattern, most)))

    def _unfollow(self, worker: WorkerConnection) -> None:
        if self._followers.pop(worker, 0) is None and not self._followers:
            self.broker.unfollow()

    # -- presence ----------------------------------------------------------------------------

    def _change(self, worker: WorkerConnection, message: Message) -> None:
        _, name, joins, *who = message
        self._members.change(worker.tag, name, Member(*who), joins=joins)

    def _present(self, worker: WorkerConnection, message: Message) -> None:
        _, name, members = message
        self._members.present(worker.tag, name, [Member(*who) for who in members])

    def _told_all(self, worker: WorkerConnection, _message: Message) -> None:
        self._members.told_all(worker.tag)
        self._nodes.note_told_all(worker)

    def _tell_members(self, worker: WorkerConnection, message: Message) -> None:
        if not self._nodes.knows_all():
            self._asking_members.append((worker, message))
            return
        _, number, name, asked, first = message
        members = worker.listed.pop(asked, None) if first else self._members.members(name)
        if members is None:
            why = f"more than {LISTS_AT_ONCE} long lists of members are asked for at once"
            worker.frames.send((frames.REFUSED, number, UnavailableError.code, why))
            return
        page = frames.page_of(members, first)
        more = first + len(page)
        if more < len(members):
            # All pages are as of the first: the worker adds the changes that it hears of.
            worker.listed[asked or number] = members
            while len(worker.listed) > LISTS_AT_ONCE:
                del worker.listed[next(iter(worker.listed))]
        told = [frames.member_fields(member) for member in page]
        following = more if more < len(members) else 0
        worker.frames.send((frames.MEMBERS_ARE, number, told, following), frames.bytes_of(page))


def _outcome(outcome: PublishResult | HubError) -> Message:
    if isinstance(outcome, HubError):
        return (outcome.code, outcome.message)
    position = outcome.position
    return (position.epoch, position.offset, outcome.duplicate)
