"""`POST /api/publish`: one publication or many, each with its channel beside its data.

The whole body is checked first. Each item has its own answer, in the order of the items.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import orjson

from hub.core.eager import NEXT_TURN, in_turns
from hub.core.hooks import Hooks
from hub.core.identity import Identity
from hub.core.ports import PublishRequest, PublishResult
from hub.core.publication import REMOVES, check_channel
from hub.errors import BadRequestError, HubError, OutcomeUnknownError
from hub.transports.http.answer import Answer, problem_fields, problem_headers
from hub.transports.http.parameters import header
from hub.transports.http.ports import HttpDeps
from hub.transports.http.publishing import TRACE, PublishRoutes, judged_by_application, result_json
from hub.transports.http.routes import Access, Route
from hub.transports.http.schemas import KEY, Json, array, content, ref
from hub.transports.request import Request, text_header
from hub.wire.codes import http_status
from hub.wire.filters import encode_tags
from hub.wire.items import Item, PublishBody, split_in_slices
from hub.wire.payload import check_key, check_payload, keep_of, marks_of, no_data

_MULTI_STATUS = 207  # RFC 4918 section 11.1: the items tell

# Header fields of `/api/publish/{channel}` by the field of an item that takes their place.
_ELSEWHERE = {
    "x-message-key": "key",
    "x-message-tags": "tags",
    "x-message-ttl": "ttl_seconds",
    "x-message-history": "history",
}
_OF_ONE = frozenset({"idempotency-key", *_ELSEWHERE})
# The application is asked about so many items of one request at a time. Guess: an eighth of the
# questions that it is asked at a time in all.
_TOGETHER = 8
# Of an array's data that is judged, or published, in one turn of the loop: 0.1 to 4 ms, by what it
# holds (4 MiB of short brackets take 250 ms; measured). Shorter arrays are done in one go.
_SLICE_BYTES = 64 * 1024
# Bytes that an item counts beside its data.
_ITEM_BYTES = 64

Outcome = str | HubError
"""The outcome of an item: its result as JSON, or its error."""
Attempt = Outcome | Coroutine[Any, Any, Outcome]


class BatchRoutes:
    """Publishes the items of a request.

    Args:
        alone: publishes a request of one item.
    """

    def __init__(self, deps: HttpDeps, alone: PublishRoutes) -> None:
        self._alone = alone
        self._node = deps.node
        self._counters = deps.counters
        self._limits = deps.limits
        self._max_bytes = deps.limits.max_message_bytes
        self._log = deps.log
        self._traced = deps.traced
        self._at_once = deps.at_once
        self._hooks = deps.hooks
        self._long = asyncio.Lock()
        """Held by the one long array that has a slice in each turn of the loop: the others wait."""

    def routes(self) -> tuple[Route, ...]:
        outcomes = ref("Outcomes")
        published: Json = {"anyOf": [ref("Published"), outcomes]}
        return (
            Route(
                method="POST",
                path="/api/publish",
                access=Access.PUBLISHER,
                handler=self.batch,
                at_once=True,
                summary="Publish one or many",
                parameters=(
                    header("Idempotency-Key", KEY, "Of one publication; not with an array."),
                    TRACE,
                ),
                body={
                    "anyOf": [
                        ref("Item"),
                        ref("ItemToMany"),
                        {
                            **array(ref("Item")),
                            "minItems": 1,
                            "maxItems": self._limits.max_batch_items,
                        },
                    ]
                },
                body_limit=self._limits.max_body_bytes,
                answers={
                    "200": content("All published: one result, or one per item.", published),
                    "207": content("One result or problem per item; they differ.", outcomes),
                    "default": {
                        "description": "The request is refused, or all items with this status.",
                        "content": {
                            "application/problem+json": {"schema": ref("Problem")},
                            "application/json": {"schema": outcomes},
                        },
                    },
                },
            ),
        )

    async def batch(self, request: Request) -> Answer:
        """Publish one object or an array; raise `HubError` where the whole request is refused."""
        # One publication is counted before the body is read: to read 4 MiB takes longer than to
        # refuse it, and a body that cannot be read counts as well.
        self._alone.check_rate(request, 1)
        self._alone.check_body(request)
        slices = split_in_slices(request.body, max_items=self._limits.max_batch_items)
        batch = await in_turns(slices, self._long)
        if not _OF_ONE.isdisjoint(request.headers):
            batch = _with_headers(batch, request)
        trace = request.headers.get("traceparent") if self._traced else None
        identity = request.identity
        self._alone.check_rate(request, -1)
        self._alone.check_rate(request, len(batch.channels) or len(batch.items))
        if batch.channels:
            return await self._answer_each(request, self._to_many(identity, batch, trace))
        if not batch.is_array:
            item = batch.items[0]
            request_ = self._removing(self._checked(identity, item, trace, set()))
            return await self._alone.answer(request, request_)
        judged = await self._judge(identity, batch.items, trace)
        return await self._answer_each(request, judged)

    async def _answer_each(
        self, request: Request, judged: Sequence[PublishRequest | HubError]
    ) -> Answer:
        """Publish in this order, and answer with an array in it."""
        if self._hooks is not None and self._hooks.asks_publish(request.identity):
            judged = await _judged_each(self._hooks, request, judged, self._failed)
        if self._at_once and (outcomes := await self._published_in_slices(judged)) is not None:
            return _batch_answer(outcomes)
        if self._node.publishes_many:
            asked = _asked(judged)
            return _batch_answer(self._matched(judged, asked, await self._node.publish_many(asked)))
        attempts = [self._attempt(each) for each in judged]
        if self._at_once:
            # Nearly all attempts are outcomes: `_outcome` is called for the others alone.
            return _batch_answer(
                [each if type(each) is str else await _outcome(each) for each in attempts]
            )
        # Begun in their order, so that the items of one channel keep it. Where a broker takes a
        # round trip, items travel together as far as they can.
        return _batch_answer(await asyncio.gather(*map(_outcome, attempts)))

    async def _judge(
        self, identity: Identity, items: Sequence[Item | HubError], trace: str | None
    ) -> list[PublishRequest | HubError]:
        """Return the request or error of each item; many bytes take several turns of the loop."""
        checked: set[str] = set()
        slices = _slices(items)
        if len(slices) == 1:
            return self._judge_slice(identity, items, trace, checked)
        judged: list[PublishRequest | HubError] = []
        async with self._long:
            for each in slices:
                judged += self._judge_slice(identity, items[each], trace, checked)
                await NEXT_TURN
        return judged

    def _judge_slice(
        self,
        identity: Identity,
        items: Sequence[Item | HubError],
        trace: str | None,
        checked: set[str],
    ) -> list[PublishRequest | HubError]:
        judged: list[PublishRequest | HubError] = []
        for item in items:
            try:
                judged.append(self._removing(self._checked(identity, item, trace, checked)))
            except Exception as error:  # noqa: BLE001 - the other items' answers must not be lost with this one
                judged.append(self._failed(error))
        return judged

    def _to_many(
        self, identity: Identity, batch: PublishBody, trace: str | None
    ) -> list[PublishRequest | HubError]:
        """Return the request or the error for each of several channels with one payload.

        Raises `HubError` for an error that holds in all of them.
        """
        first = self._checked(identity, batch.items[0], trace, set(batch.channels))
        judged: list[PublishRequest | HubError] = []
        for channel in batch.channels:
            try:
                identity.check_publish(check_channel(channel))
                judged.append(self._removing(msgspec.structs.replace(first, channel=channel)))
            except HubError as error:
                judged.append(self._failed(error))
        return judged

    def _removing(self, asked: PublishRequest) -> PublishRequest:
        """Return the request; raise `BadRequestError` for a removal in a channel without rows."""
        if asked.marks & REMOVES:
            self._node.check_keyed(asked.channel)
        return asked

    async def _published_in_slices(
        self, judged: Sequence[PublishRequest | HubError]
    ) -> list[Outcome] | None:
        """Publish as `_published_together` does; many bytes take several turns of the loop.

        Returns None only where nothing is published yet: items of a slice must not be published
        again. A later slice for which the node has no one call goes one by one.
        """
        slices = _slices(judged)
        if len(slices) == 1:
            return self._published_together(judged)
        outcomes: list[Outcome] = []
        async with self._long:
            for each in slices:
                done = self._published_together(judged[each])
                if done is None and not outcomes:
                    return None
                outcomes += done or [await _outcome(self._attempt(item)) for item in judged[each]]
                await NEXT_TURN
        return outcomes

    def _published_together(
        self, judged: Sequence[PublishRequest | HubError]
    ) -> list[Outcome] | None:
        """Return all outcomes; None where the node has no one call for many, or not now."""
        asked = _asked(judged)
        try:
            results = self._node.publish_many_now(asked)
        except Exception as error:  # noqa: BLE001 - as above
            results = [self._failed(error)] * len(asked)
        return None if results is None else self._matched(judged, asked, results)

    def _matched(
        self,
        judged: Sequence[PublishRequest | HubError],
        asked: Sequence[PublishRequest],
        results: Sequence[PublishResult | HubError],
    ) -> list[Outcome]:
        """Return the outcome of each item: the result of its publication, or its error."""
        came: list[Outcome] = [
            result_json(request.channel, result)
            if isinstance(result, PublishResult)
            else self._failed(result)
            for request, result in zip(asked, results, strict=True)
        ]
        if len(came) == len(judged):
            return came
        in_order = iter(came)
        return [each if isinstance(each, HubError) else next(in_order) for each in judged]

    def _attempt(self, judged: PublishRequest | HubError) -> Attempt:
        """Publish an item; return the outcome at once where the node has it at once."""
        if isinstance(judged, HubError):
            return judged
        try:
            result = self._node.publish(judged)
            if isinstance(result, PublishResult):
                return result_json(judged.channel, result)
        except Exception as error:  # noqa: BLE001 - as above
            return self._failed(error)
        return self._later(judged.channel, result)

    async def _later(self, channel: str, work: Coroutine[Any, Any, PublishResult]) -> Outcome:
        try:
            return result_json(channel, await work)
        except Exception as error:  # noqa: BLE001 - as above
            return self._failed(error)

    def _failed(self, error: Exception) -> HubError:
        if isinstance(error, HubError):
            self._counters.http_errors[error.code] += 1
            return error
        self._log.exception("http_batch_item_failed")
        return OutcomeUnknownError("something went wrong in the hub; it is in its log")

    def _checked(
        self, identity: Identity, item: Item | HubError, trace: str | None, checked: set[str]
    ) -> PublishRequest:
        """Return the request of an item; raise `HubError` where it is refused.

        Args:
            checked: the channels of the items before it that this identity may publish in.
        """
        if isinstance(item, HubError):
            raise item
        channel, key, idempotency_key = item.channel, item.key, item.idempotency_key
        if channel not in checked:
            identity.check_publish(check_channel(channel))
            checked.add(channel)
        data = bytes(item.data) or no_data(remove=item.remove)
        return PublishRequest(
            channel,
            check_payload(data, limit=self._max_bytes),
            identity.publisher,
            None if key is None else check_key(key, "key"),
            identity.subject,
            None,
            None if idempotency_key is None else check_key(idempotency_key, "idempotency_key"),
            trace,
            None if item.tags is None else encode_tags(item.tags),
            marks_of(remove=item.remove, end=item.end, key=key) if item.remove or item.end else 0,
            None
            if item.history and item.ttl_seconds is None
            else keep_of(ttl_seconds=item.ttl_seconds, history=item.history),
        )


async def _judged_each(
    hooks: Hooks,
    request: Request,
    items: Sequence[PublishRequest | HubError],
    failed: Callable[[Exception], HubError],
) -> list[PublishRequest | HubError]:
    """Return the items as the application allows them; items that are refused stay so.

    The application is asked about a few at a time: other requests ask it too.
    """

    async def one(item: PublishRequest | HubError) -> PublishRequest | HubError:
        if isinstance(item, HubError):
            return item
        try:
            return await judged_by_application(hooks, request, item)
        except Exception as error:  # noqa: BLE001 - the other items' answers must not be lost with this one
            return failed(error)

    outcomes: list[PublishRequest | HubError] = []
    for start in range(0, len(items), _TOGETHER):
        outcomes += await asyncio.gather(*map(one, items[start : start + _TOGETHER]))
    return outcomes


def _with_headers(batch: PublishBody, request: Request) -> PublishBody:
    """Return the batch with the header field of its one publication: the idempotency key.

    Raises `BadRequestError` for a field that counts only where the body is the data, or beside an
    array: a client whose field were ignored would think that it works.
    """
    for name, field in _ELSEWHERE.items():
        if name in request.headers:
            raise BadRequestError(
                f"{name} counts at /api/publish/{{channel}}: here a publication has {field!r}"
            )
    if batch.is_array:
        raise BadRequestError("in an array each item has its own 'idempotency_key'")
    key, item = text_header(request, "idempotency-key"), batch.items[0]
    if key is None or not isinstance(item, Item):
        return batch
    if item.idempotency_key not in (None, key):
        raise BadRequestError("Idempotency-Key and 'idempotency_key' differ")
    return replace(batch, items=(msgspec.structs.replace(item, idempotency_key=key),))


def _slices(items: Sequence[Item | PublishRequest | HubError]) -> list[slice]:
    """Cut the items into one part for each turn of the loop that they take."""
    slices, begin, room = [], 0, _SLICE_BYTES
    for at, item in enumerate(items):
        if room <= 0:
            slices.append(slice(begin, at))
            begin, room = at, _SLICE_BYTES
        room -= _ITEM_BYTES + (0 if isinstance(item, HubError) else len(item.data))
    slices.append(slice(begin, len(items)))
    return slices


def _asked(judged: Sequence[PublishRequest | HubError]) -> list[PublishRequest]:
    return [each for each in judged if isinstance(each, PublishRequest)]


async def _outcome(attempt: Attempt) -> Outcome:
    return attempt if isinstance(attempt, str | HubError) else await attempt


def _batch_answer(outcomes: Sequence[Outcome]) -> Answer:
    """Answer 200 where all were published, with the status where all failed alike, else 207."""
    errors = [outcome for outcome in outcomes if isinstance(outcome, HubError)]
    if not errors:
        return Answer(f"[{','.join(outcomes)}]".encode())  # type: ignore[arg-type]  # all are texts
    body = b",".join(
        outcome.encode() if isinstance(outcome, str) else orjson.dumps(problem_fields(outcome))
        for outcome in outcomes
    )
    statuses = {int(http_status(error.code)) for error in errors}
    if len(errors) < len(outcomes) or len(statuses) > 1:
        return Answer(b"[%b]" % body, status=_MULTI_STATUS)
    return Answer(b"[%b]" % body, status=statuses.pop(), headers=problem_headers(errors[0]))
