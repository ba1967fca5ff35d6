"""A worker's way to the other workers: its members (`hub.core.ports.Roster`), and questions.

`WorkerRoster` tells the broker process of the worker's own members, and tells all of them anew
whenever the connection is up again. They count for some seconds after the connection has ended
(`hub.brokers.local.members.MemberTable`). `WorkerBus` (`hub.admin.rpc.NodeBus`) asks another
worker, and answers. The broker process carries questions and answers as bytes, and answers at once
where the asked worker is gone. Secrets are checked by the worker that holds the session, operators'
rights by the worker that was asked first.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from hub.brokers.local import frames
from hub.brokers.local.link import NoAnswerError, NotSentError, WorkerLink, set_outcome
from hub.brokers.questions import ANSWER_SECONDS, UnderWay
from hub.core.eager import NEXT_TURN, Rest, begin
from hub.core.node_records import NodeRecord
from hub.core.ports import Spawn
from hub.core.pushes import Change, Leave, Member
from hub.errors import HubError, OutcomeUnknownError, UnavailableError


class _Listing:
    """The members of a channel, which come in pages; all pages are as of the first.

    Changes come on the same connection. So the list is as of its last page: the first one, and the
    changes behind it. Example: the first of two pages has ada. Before the second comes, ada leaves
    and cy joins. The second has bob. The list is bob and cy.
    """

    def __init__(self, link: WorkerLink, channel: str, started: "set[_Listing]") -> None:
        self._link = link
        self.channel = channel
        self._started = started
        self.whole: asyncio.Future[Sequence[Member]] = asyncio.get_running_loop().create_future()
        self._found: list[Member] = []
        self._changed: dict[str, Member | None] = {}
        """Members that changed since the first page; None for one that left."""
        self._number = 0
        """The number of the call for the first page."""

    def ask(self, first: int = 0) -> None:
        """Ask for the page that begins with this member; raise `NotSentError`."""
        asked = (frames.MEMBERS, self.channel, self._number, first)
        number = self._link.call(asked, self._answered)
        self._number = self._number or number

    def changed(self, member: Member, *, stays: bool) -> None:
        self._changed[member.id] = member if stays else None

    def _answered(self, answer: frames.Message | HubError) -> None:
        if self.whole.done():
            return  # The caller waits no more.
        if isinstance(answer, HubError):
            self.whole.set_exception(answer)
            return
        _, _, found, following = answer
        self._found += [Member(*who) for who in found]
        if not following:
            self.whole.set_result(self._as_of_now())
            return
        self._started.add(self)
        try:
            self.ask(following)
        except NotSentError as error:
            self.whole.set_exception(error)

    def _as_of_now(self) -> Sequence[Member]:
        if not (changed := self._changed):
            return self._found
        now = [changed.pop(each.id, each) for each in self._found]
        return [each for each in (*now, *changed.values()) if each is not None]


class WorkerRoster:
    """One per worker; made before `link` runs."""

    lag_seconds = 0.0
    """Changes and the answer come on one connection, in order."""

    def __init__(self, link: WorkerLink, *, spawn: Spawn) -> None:
        self._link = link
        self._spawn = spawn
        self._here: dict[str, dict[str, Member]] = {}
        self._connection = 0
        """The number of connections so far."""
        self._listings: set[_Listing] = set()
        """The lists of members of which some pages have come."""
        link.on(frames.ANNOUNCE, self._on_announce)
        link.on_up(self._on_up)

    async def start(self) -> None:
        """Do nothing: members are told whenever the connection is up."""

    def change(self, channel: str, change: Change) -> None:
        members = self._here.setdefault(channel, {})
        if stays := not isinstance(change, Leave):
            members[change.member.id] = change.member
        else:
            members.pop(change.member.id, None)
        if not members:
            del self._here[channel]
        self._link.send((frames.CHANGE, channel, stays, *frames.member_fields(change.member)))

    def refresh(self, channel: str) -> None:
        if channel in self._here:
            self._run(self._tell([channel]))

    async def members(self, channel: str) -> Sequence[Member]:
        """Return the members in the order they came; raise `UnavailableError` without an answer."""
        listing = _Listing(self._link, channel, self._listings)
        try:
            listing.ask()
            return await listing.whole
        except (NotSentError, NoAnswerError) as error:
            raise UnavailableError(f"cannot tell who is in {channel!r}: {error.message}") from None
        finally:
            self._listings.discard(listing)

    def _on_announce(self, message: frames.Message) -> None:
        _, channel, name, *who = message
        for listing in self._listings if name is not None else ():
            if listing.channel == channel:
                listing.changed(Member(*who), stays=frames.CHANGES[name] is not Leave)

    def _on_up(self) -> None:
        self._connection += 1
        self._run(self._tell_all())

    def _run(self, telling: Coroutine[Any, Any, object]) -> None:
        if isinstance(rest := begin(telling), Rest):
            self._spawn(rest.run())

    async def _tell_all(self) -> None:
        if await self._tell(tuple(self._here)):
            self._link.send((frames.TOLD_ALL,))

    async def _tell(self, channels: Iterable[str]) -> bool:
        """Name the members of these channels, in turns; return whether the connection lasted.

        A member that comes meanwhile is told by its change. One that leaves is named no more.
        """
        connection, told = self._connection, 0
        for channel in channels:
            ids = tuple(self._here.get(channel, ()))
            for first in range(0, len(ids), TOLD_AT_ONCE):
                here = self._here.get(channel, {})
                some = [here[id_] for id_ in ids[first : first + TOLD_AT_ONCE] if id_ in here]
                members = [frames.member_fields(member) for member in some]
                self._link.send((frames.PRESENT, channel, members), frames.bytes_of(some))
                told += 1 + len(some)
                if told >= TOLD_AT_ONCE:
                    told = 0
                    await NEXT_TURN
                    if connection != self._connection or not self._link.is_up:
                        return False
        return True


# Members named in one turn, and one more for each channel: 3 us each, and 4 KiB of data at most.
TOLD_AT_ONCE = 250
_RECORD_SECONDS = 1.0
_RECORD = msgspec.json.Decoder(NodeRecord)


class WorkerBus:
    """One per worker."""

    alone = False

    def __init__(
        self, link: WorkerLink, *, spawn: Spawn, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._link = link
        self._spawn = spawn
        self._answer_seconds = answer_seconds
        self._serve_question: Callable[[bytes], Awaitable[bytes]] | None = None
        self._record: Callable[[], NodeRecord] | None = None
        self._asked = UnderWay()
        self._answering = UnderWay()
        self._lasting: dict[tuple[str, int], asyncio.Future[bytes]] = {}
        """Answers being made that last, by the asker's tag and the question's number."""
        self._known: Mapping[str, NodeRecord] = {}
        link.on(frames.ASKED, self._on_asked)
        link.on(frames.GIVEN_UP, self._given_up)
        link.on_up(self._tell_record)

    async def start(
        self, serve: Callable[[bytes], Awaitable[bytes]], record: Callable[[], NodeRecord]
    ) -> None:
        self._serve_question, self._record = serve, record
        self._spawn(self._stay_known())

    async def stop(self) -> None:
        """Do nothing: the end of the connection tells the others."""

    async def _stay_known(self) -> None:
        while True:
            self._tell_record()
            await asyncio.sleep(_RECORD_SECONDS)

    def _tell_record(self) -> None:
        if self._record is not None and self._link.is_up:
            raw = msgspec.json.encode(self._record())
            self._link.send((frames.RECORD, raw), len(raw))

    # -- asking ------------------------------------------------------------------------------

    async def others(self) -> Mapping[str, NodeRecord]:
        try:
            _, _, found = await self._link.ask(frames.OTHERS)
        except (NotSentError, NoAnswerError) as error:
            raise UnavailableError(f"the other nodes are not known now: {error.message}") from None
        self._known = {tag: _RECORD.decode(raw) for tag, raw in found.items()}
        return self._known

    def known_others(self) -> Mapping[str, NodeRecord]:
        return self._known

    async def ask(
        self, tag: str, question: bytes, *, wait_seconds: float = 0.0, lasts: bool = False
    ) -> bytes | None:
        self._asked.check(lasts=lasts)
        waiting: asyncio.Future[frames.Message] = asyncio.get_running_loop().create_future()
        number: int | None = None
        try:
            asked = (frames.ASK, tag, question, lasts)
            settled = partial(set_outcome, waiting)
            number = self._link.call(asked, settled, len(question), lasts=True)
            async with asyncio.timeout(wait_seconds + self._answer_seconds):
                answer: bytes | None = (await waiting)[2]
                return answer
        except NotSentError as error:
            raise UnavailableError(error.message) from None
        except (NoAnswerError, TimeoutError):
            raise OutcomeUnknownError("it does not answer") from None
        finally:
            self._asked.leave(lasts=lasts)
            if number is not None and self._link.forget(number):
                # The other worker would wait on, for a peer that has gone.
                self._link.send((frames.GIVE_UP, number))

    # -- answering ---------------------------------------------------------------------------

    def _on_asked(self, message: frames.Message) -> None:
        _, asker, number, question, lasts = message
        if self._serve_question is not None and self._answering.enter(lasts=lasts):
            self._spawn(self._serve(asker, number, question, lasts=lasts))

    def _given_up(self, message: frames.Message) -> None:
        _, asker, number = message
        if (lasting := self._lasting.get((asker, number))) is not None:
            lasting.cancel()

    async def _serve(self, asker: str, number: int, question: bytes, *, lasts: bool) -> None:
        assert self._serve_question is not None  # noqa: S101 - `_on_asked` has looked
        work = asyncio.ensure_future(self._serve_question(question))
        if lasts:
            self._lasting[asker, number] = work
        try:
            # The wait ends without an error, also where the work is cancelled.
            await asyncio.wait({work})
            if not work.cancelled():
                answer = work.result()
                self._link.send((frames.ANSWER, asker, number, answer), len(answer))
        finally:
            work.cancel()
            self._lasting.pop((asker, number), None)
            self._answering.leave(lasts=lasts)
