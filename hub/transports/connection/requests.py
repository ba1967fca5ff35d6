"""The requests of a connection that are under way: each has its turn, and its answer in order.

The reader hands them in as it reads them. A request that has nothing to wait for is answered in the
call that ends it. The first that waits has a task, and the requests behind it wait for that. Bytes,
deadlines and the transport belong to the connection.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from functools import partial
from typing import Any

from hub.errors import HubError, UnavailableError
from hub.transports.connection.application import ApplicationCall
from hub.transports.connection.context import ConnectionContext, Owner
from hub.transports.connection.outgoing import AnswerWriter
from hub.transports.http.answer import Answer, encode, encode_json
from hub.transports.http.dispatch import Call
from hub.transports.http.known import KnownHead
from hub.transports.http.routes import PreparedLater, PreparedNow, StreamKind
from hub.transports.opening import Judged, judge_again
from hub.transports.poll import ANSWER_NOW
from hub.transports.request import Request
from hub.transports.turns import TASK_SECONDS

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Requests:
    """Requests of one connection; implements `hub.transports.connection.reader.RequestSink`."""

    __slots__ = (
        "_address", "_context", "_outgoing", "_owner", "_task", "answering", "begun", "client",
        "closing", "crowded", "judged", "lost", "peer_done", "queue", "reading", "stopping",
    )  # fmt: skip

    def __init__(
        self,
        context: ConnectionContext,
        owner: Owner,
        outgoing: AnswerWriter,
        address: str,
        crowded: HubError | None,
    ) -> None:
        self._address = address
        self._context = context
        self._owner = owner
        self._outgoing = outgoing
        self.client = ""
        """The client of the last request, where a trusted proxy has named it."""
        self.crowded = crowded
        """The error for all requests but probes: the node or the peer has too many connections."""
        self.reading: Call | None = None
        """The request whose body is on its way."""
        self.answering: Call | None = None
        """The request that waits for its answer; nothing behind it is parsed."""
        self._task: asyncio.Task[None] | None = None
        self.queue: deque[Call] = deque()
        """Whole requests that were parsed in one piece with one that waits."""
        self.begun = 0
        """Number of requests that have had their turn."""
        self.closing = False
        """The last answer is decided; bytes that come are no request any more."""
        self.judged: Judged | None = None
        """The door's judgement of the first request, until that is read."""
        self.stopping = False
        """The listener stops: the next answer is the last."""
        self.peer_done = False
        """The peer sends nothing more."""
        self.lost = False
        """The connection is gone."""

    # -- hub.transports.connection.reader.RequestSink ----------------------------------------------

    def head_read(self, request: Request) -> bool:
        context = self._context
        if self.judged is not None:
            request.judged, self.judged = self.judged, None
        call = context.dispatcher.open(request)
        self.client = "" if request.address == self._address else request.address
        if self.crowded is not None and call.answer is None and not call.is_for_probes:
            self._turn_away(call, self.crowded)
        if call.foreign and context.application is not None:
            call = context.application.begin(call, self._owner)
        self.reading = call
        if request.cut is not None:
            context.dispatcher.remember(call)
        return request.upgrade and call.answer is None and call.stream is StreamKind.WEBSOCKET

    def known_read(self, known: KnownHead, key: str | None, body: bytes) -> None:
        prepared = known.prepared
        if prepared is not None and self.crowded is None and not self.stopping and self.may_begin():
            if prepared.now is not None:
                self._answer_now(prepared.now, known, key, body)
                return
            if prepared.later is not None:
                self._answer_prepared_later(prepared.later, known, key, body)
                return
        call = self._call_of(known, key, body)
        if self.crowded is not None:
            self._turn_away(call, self.crowded)
        self._begin_or_wait(call)

    def _call_of(self, known: KnownHead, key: str | None, body: bytes) -> Call:
        call = self._context.dispatcher.open_known(known, key, self._address, body)
        call.complete = True
        return call

    def _answer_now(
        self, answer: PreparedNow, known: KnownHead, key: str | None, body: bytes
    ) -> None:
        """Answer as `begin` does, faster: nearly every publication comes this way."""
        self.begun += 1
        try:
            content = answer(body, key, self._address)
        except Exception as error:  # noqa: BLE001 - the edge: other errors are the hub's
            call = self._call_of(known, key, body)
            self.respond(call, self._context.dispatcher.fail(call, error))
        else:
            self._outgoing.add(encode_json(content))

    def _answer_prepared_later(
        self, answer: PreparedLater, known: KnownHead, key: str | None, body: bytes
    ) -> None:
        self.begun += 1
        call = self._call_of(known, key, body)
        try:
            answer(body, key, self._address, partial(self._prepared_answered, call))
        except Exception as error:  # noqa: BLE001 - as above
            self.respond(call, self._context.dispatcher.fail(call, error))
        else:
            self.answering = call
            self._context.budget.hold(call)

    def _prepared_answered(self, call: Call, outcome: bytes | HubError) -> None:
        if self._is_awaited(call):
            if isinstance(outcome, HubError):
                self.respond(call, self._context.dispatcher.refuse(call, outcome))
            else:
                self.respond(call, Answer(outcome))
            self._owner.go_on()

    def _turn_away(self, call: Call, error: HubError) -> None:
        """Refuse a request on a connection that is one too many."""
        stream = None if call.route is None else call.route.stream
        call.answer = self._context.door.turned_away(error, call.request, stream)

    def body_read(self, data: bytes) -> None:
        call = self.reading
        if call is None:
            return
        if call.foreign and isinstance(call, ApplicationCall):
            call.feed(data)
        else:
            self._context.dispatcher.take(call, data)

    def request_read(self) -> None:
        call, self.reading = self.reading, None
        if call is None:
            return
        call.complete = True
        if call.foreign and isinstance(call, ApplicationCall):
            call.ended()
            if call is self.answering:
                return
        self._begin_or_wait(call)

    def broken(self, error: HubError) -> None:
        """Answer bytes that are no request behind the requests before them, and end."""
        self._context.counters.refused[error.code] += 1
        abandoned, self.reading = self.reading, None
        if abandoned is not None:
            self.drop(abandoned)
            if abandoned is self.answering:
                # Its answer may have begun: another cannot take its place.
                self._owner.abort()
                return
        call = Call(Request())
        self._context.dispatcher.refuse(call, error)
        self._begin_or_wait(call)

    # -- their turns and their answers ------------------------------------------------------------

    def may_begin(self) -> bool:
        """Return whether the next request may have its turn."""
        return not (self.answering or self._outgoing.blocked or self.queue or self.closing)

    def _begin_or_wait(self, call: Call) -> None:
        if self.may_begin():
            self.begin(call)
        else:
            self.queue.append(call)

    def begin(self, call: Call) -> None:
        """Give a request its turn: it is here to its last byte, or its answer is decided."""
        self.begun += 1
        if call.answer is None:
            route = call.route
            plain = route is not None and route.stream is None and call.admission is None
            if not plain and self._begin_apart(call):
                return
        answer = self._context.dispatcher.run(call)
        if isinstance(answer, Answer):
            self.respond(call, answer)
        else:
            self._wait_for(call, self._answer_later(call, answer))

    def begin_those_that_wait(self) -> None:
        """Give the requests in the queue their turns, until one of them waits."""
        while self.queue and not (self.answering or self._outgoing.blocked or self.closing):
            self.begin(self.queue.popleft())

    def put_back(self, call: Call) -> None:
        """Make the request the next to have its turn, which cannot be yet."""
        self.begun -= 1
        self.queue.appendleft(call)
        judge_again(call.request)

    def wait_for_turn(self, call: Call) -> None:
        """Have the request wait: its stream is opened in a turn of the loop of its own."""
        self.begun -= 1
        self.answering = call
        judge_again(call.request)

    def turn_came(self) -> None:
        """Give the request that waited its turn, unless its peer has gone."""
        call = self.answering
        if call is not None and not (self.lost or self.closing):
            self.answering = None
            self.begin(call)

    def _begin_apart(self, call: Call) -> bool:
        """Begin a request that needs more than its route's handler; return whether it does."""
        if call.foreign and isinstance(call, ApplicationCall):
            self._wait_for(call, call.run())
        elif call.admission is not None:
            self._wait_for(call, self._admit(call))
        elif (stream := call.stream) is not None:
            self._owner.open_stream(call, stream)
        else:
            return False
        return True

    def _wait_for(self, call: Call, work: Coroutine[Any, Any, None]) -> None:
        self.answering = call
        self._context.budget.hold(call)
        self._context.turns.charge(TASK_SECONDS)
        self._task = self._context.spawn(work)
        if self.peer_done:
            self.hurry()

    def hurry(self) -> None:
        """Have a poll answered with the pushes that are there.

        Its peer may be gone: a peer that has closed its socket and one that only sends nothing more
        look the same until something is written.
        """
        call = self.answering
        if self._task is not None and call is not None and call.ends_with_its_peer:
            # Not in this turn of the loop: a task that has not begun would never begin.
            asyncio.get_running_loop().call_soon(self._task.cancel, ANSWER_NOW)

    async def _answer_later(self, call: Call, work: Coroutine[Any, Any, Answer]) -> None:
        try:
            answer = await work
        except asyncio.CancelledError as cancelled:
            if self.lost:
                raise
            if call.answer is not None:
                # The deadline has decided on another answer.
                answer = call.answer
            elif cancelled.args[:1] == (ANSWER_NOW,):
                error = UnavailableError("there is nothing to answer this with yet: ask again")
                answer = self._context.dispatcher.refuse(call, error)
            else:
                raise
        self._answered(call, answer)

    def _is_awaited(self, call: Call) -> bool:
        """Return whether the peer still waits for this answer, and wait for none from now on."""
        if call is not self.answering:
            return False
        self.answering = self._task = None
        return not self.lost

    def _answered(self, call: Call, answer: Answer) -> None:
        if self._is_awaited(call):
            self.respond(call, answer)
            self._owner.go_on()

    def respond(self, call: Call, answer: Answer) -> None:
        request = call.request
        if call.reserved:
            self._context.budget.release(call)
        close = self._is_last(call)
        if request.version == "1.0" and not close:
            # RFC 9112 section 9.3: HTTP/1.0 ends with the answer unless both say otherwise.
            answer.add_headers({"Connection": "keep-alive"})
        self._outgoing.add(encode(answer, close=close, head_only=request.method == "HEAD"))
        if close:
            self._owner.end(clean=call.complete and not self.queue)

    def drop(self, call: Call) -> None:
        """Give up a request whose answer nobody waits for."""
        self._context.budget.release(call)
        if call.admission is not None:
            call.admission.close()
        if isinstance(call, ApplicationCall):
            call.lost()

    def _is_last(self, call: Call) -> bool:
        """Return whether no request can follow: an unread body is none, and neither is garbage."""
        request = call.request
        if not (request.keep_alive and call.complete) or self.crowded or self.stopping:
            return True
        return call.stream is not None

    def finished(self, call: ApplicationCall, *, close: bool) -> None:
        """Go on behind the application's answer, which is written whole."""
        if not self._is_awaited(call):
            return
        if close or self._is_last(call):
            self._owner.end(clean=call.complete)
        self._owner.go_on()

    def judge(self, call: Call) -> None:
        """Decide on a request in the middle of which a read has ended."""
        if not isinstance(call, ApplicationCall) and call.answer is None:
            try:
                self._context.budget.reserve(call)
            except HubError as error:
                self._context.dispatcher.refuse(call, error)
        if call.answer is not None or call.foreign or call.admission is not None:
            # Refused early: the rest of the body is no request (RFC 9112 section 9.6).
            self.begin(call)
        elif call.expects:
            call.expects = False
            if not call.size:
                self._outgoing.add(_CONTINUE)

    async def _admit(self, call: Call) -> None:
        await self._context.dispatcher.admitted(call)
        if not self._is_awaited(call):
            return
        stream = None if call.route is None else call.route.stream
        if call.complete:
            self.begin(call)
        # A stream that has the connection goes on by itself.
        if not self.closing or stream is None:
            self._owner.go_on()

    def give_up(self) -> None:
        """Cancel a handler that takes too long, and answer 503."""
        call, task = self.answering, self._task
        if call is None or call.route is None or (task is None and call.route.stream is not None):
            self._owner.abort()
            return
        answer = self._context.dispatcher.gave_up(call, call.route.answer_seconds)
        self.answering = self._task = None
        call.request.keep_alive = False
        self.respond(call, answer)
        if task is not None:
            task.cancel()
        self._owner.settle()

    # -- the end -------------------------------------------------------------------------------

    def end(self) -> None:
        """Take no more requests; those that wait for their turn get none."""
        self.closing = True
        for call in self.queue:
            self.drop(call)
        self.queue.clear()

    def drop_unread(self) -> None:
        """Give up the request that is read: it was answered, or never will be."""
        reading, self.reading = self.reading, None
        if reading is not None:
            self.drop(reading)

    def connection_lost(self) -> None:
        """Give up all answers, and the work that is for the peer alone: the connection is gone."""
        self.lost = True
        for call in (self.reading, self.answering, *self.queue):
            if call is not None:
                self.drop(call)
        call = self.answering
        if self._task is not None and call is not None and call.ends_with_its_peer:
            self._context.turns.crowd.cancel(self._task, self.client or self._address)
        self.queue.clear()

    def close(self) -> None:
        """Let go of the connection, which refers to its requests."""
        try:
            del self._owner
        except AttributeError:
            """The connection was let go of before."""
