"""`POST /api/publish/{channel}` and `POST /api/publish`."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import orjson

from hub.core.hooks import Hooks
from hub.core.identity import Identity
from hub.core.limits import party
from hub.core.ports import PublishRequest, PublishResult
from hub.core.publication import REMOVES, check_channel
from hub.errors import BadRequestError, HubError, OutcomeUnknownError
from hub.transports.http.access import text_header
from hub.transports.http.answer import Answer
from hub.transports.http.judged import judged_by_application, judged_each
from hub.transports.http.parameters import documented, header
from hub.transports.http.ports import HttpDeps
from hub.transports.http.prepared import (
    keep_ms_of,
    message_key,
    optional_key,
    prepared,
    result_json,
    tags_of,
)
from hub.transports.http.problem import problem_fields, problem_headers
from hub.transports.http.routes import Access, Route
from hub.transports.http.schemas import (
    ANY_JSON,
    BOOLEAN,
    KEY,
    NUMBER,
    STRING,
    Json,
    array,
    content,
    ok,
    ref,
)
from hub.transports.request import Request
from hub.wire.codes import http_status
from hub.wire.items import Batch, Item, split_items
from hub.wire.payload import check_key, check_payload, data_of, keep_of, marks_of
from hub.wire.tags import encode_tags

_MULTI_STATUS = 207  # RFC 4918 section 11.1: the items tell
_TRACE = header("traceparent", STRING, "W3C Trace Context; followed where the hub traces.")

# What header fields say at `/api/publish/{channel}`, and fields of a publication in a body.
_ELSEWHERE = {
    "x-message-key": "key",
    "x-message-tags": "tags",
    "x-message-ttl": "ttl_seconds",
    "x-message-history": "history",
}
_OF_ONE = frozenset({"idempotency-key", *_ELSEWHERE})

Outcome = str | HubError
"""Of an item: its result as JSON, or why there is none."""
Attempt = Outcome | Coroutine[Any, Any, Outcome]


class Publishing:
    """Hands what backends send to the node; the whole body is checked first."""

    def __init__(self, deps: HttpDeps) -> None:
        self._node = deps.node
        self._counters = deps.counters
        self._limits = deps.limits
        self._max_bytes = deps.limits.max_message_bytes
        self._log = deps.log
        self._traced = deps.traced
        self._at_once = deps.at_once
        self._check_publish = deps.check_publish
        self._hooks = deps.hooks
        self._prepare = partial(prepared, deps)

    def routes(self) -> tuple[Route, ...]:
        outcomes = ref("Outcomes")
        published: Json = {"anyOf": [ref("Published"), outcomes]}
        return (
            Route(
                method="POST",
                path="/api/publish/{channel}",
                access=Access.PUBLISHER,
                admits=self._admit_one,
                handler=self.one,
                prepare=self._prepare,
                at_once=True,
                summary="Publish the body",
                parameters=(
                    header("Idempotency-Key", KEY, "Makes a retry within 5 minutes harmless."),
                    header("X-Message-Key", KEY, "The publication's key."),
                    header("X-Message-Tags", STRING, "Tags: `name=value, ...` or a JSON object."),
                    header("X-Message-TTL", NUMBER, "Seconds that history may hold it at most."),
                    header("X-Message-History", BOOLEAN, "`false`: history does not hold it."),
                    documented("key", KEY, "The publication's key; the header wins."),
                    _TRACE,
                ),
                body=ANY_JSON,
                body_limit=self._limits.max_message_bytes,
                answers=ok("Published.", ref("Published")),
            ),
            Route(
                method="DELETE",
                path="/api/channels/{channel}/state/{key}",
                access=Access.PUBLISHER,
                admits=self._admit_one,
                handler=self.remove,
                at_once=True,
                summary="Take a row away",
                parameters=(
                    header("Idempotency-Key", KEY, "Makes a retry within 5 minutes harmless."),
                    _TRACE,
                ),
                answers=ok("Published.", ref("Published")),
            ),
            Route(
                method="POST",
                path="/api/publish",
                access=Access.PUBLISHER,
                handler=self.batch,
                at_once=True,
                summary="Publish one or many",
                parameters=(
                    header("Idempotency-Key", KEY, "Of one publication; not with an array."),
                    _TRACE,
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

    def _admit_one(self, request: Request) -> None:
        request.identity.check_publish(check_channel(request.params["channel"]))

    def _check_rate(self, request: Request, count: int) -> None:
        if self._check_publish is not None:
            address = request.address
            publisher = request.identity.publisher_or(party(address))
            self._check_publish(publisher, count, address=address)

    def one(self, request: Request) -> Answer | Coroutine[Any, Any, Answer]:
        """The body is the data, whatever its content type says."""
        if self._check_publish is not None:
            self._check_rate(request, 1)
        channel, identity, headers = request.params["channel"], request.identity, request.headers
        idempotency_key = None
        if "idempotency-key" in headers:
            idempotency_key = optional_key(
                text_header(request, "idempotency-key"), "Idempotency-Key"
            )
        asked = PublishRequest(
            channel,
            check_payload(request.body, limit=self._max_bytes),
            identity.publisher,
            message_key(request),
            identity.subject,
            None,
            idempotency_key,
            headers.get("traceparent") if self._traced else None,
            tags_of(request),
            0,
            keep_ms_of(request),
        )
        if self._hooks is not None and self._hooks.asks_publish(identity):
            return self._one_asked(self._hooks, request, asked)
        result = self._node.publish(asked)
        if isinstance(result, PublishResult):
            return Answer(result_json(channel, result).encode())
        return _published_later(channel, result)

    def remove(self, request: Request) -> Answer | Coroutine[Any, Any, Answer]:
        """Publish that the key's row is gone: subscribers get a message with `remove`."""
        channel, identity = request.params["channel"], request.identity
        self._node.check_keyed(channel)
        self._check_rate(request, 1)
        asked = PublishRequest(
            channel,
            b"null",
            identity.publisher,
            check_key(request.params["key"], "key"),
            identity.subject,
            idempotency_key=optional_key(
                text_header(request, "idempotency-key"), "Idempotency-Key"
            ),
            trace=request.headers.get("traceparent") if self._traced else None,
            marks=REMOVES,
        )
        if self._hooks is not None and self._hooks.asks_publish(identity):
            return self._one_asked(self._hooks, request, asked)
        result = self._node.publish(asked)
        if isinstance(result, PublishResult):
            return _published(channel, result)
        return _published_later(channel, result)

    async def _one_asked(self, hooks: Hooks, request: Request, asked: PublishRequest) -> Answer:
        asked = await judged_by_application(hooks, request, asked)
        return _published(asked.channel, await self._publish(asked))

    async def batch(self, request: Request) -> Answer:
        """One object or an array of them; an array is answered with one, in its order."""
        # One is taken before the body is looked into: to read 4 MiB takes longer than to refuse it,
        # and what cannot be read counts as well.
        self._check_rate(request, 1)
        batch = split_items(request.body, max_items=self._limits.max_batch_items)
        if not _OF_ONE.isdisjoint(request.headers):
            batch = _with_headers(batch, request)
        trace = request.headers.get("traceparent") if self._traced else None
        identity = request.identity
        self._check_rate(request, -1)
        self._check_rate(request, len(batch.channels) or len(batch.items))
        if batch.channels:
            return await self._answer_each(request, self._to_many(identity, batch, trace))
        if not batch.is_array:
            item = batch.items[0]
            request_ = self._checked(identity, item, trace, set())
            if self._hooks is not None and self._hooks.asks_publish(identity):
                return await self._one_asked(self._hooks, request, request_)
            return _published(request_.channel, await self._publish(request_))
        return await self._answer_each(request, self._judge(identity, batch.items, trace))

    async def _answer_each(
        self, request: Request, judged: Sequence[PublishRequest | HubError]
    ) -> Answer:
        """Publish in this order, and answer with an array in it."""
        if self._hooks is not None and self._hooks.asks_publish(request.identity):
            judged = await judged_each(self._hooks, request, judged, self._failed)
        if self._at_once and (outcomes := self._published_together(judged)) is not None:
            return _batch_answer(outcomes)
        if self._node.publishes_many:
            asked = _asked(judged)
            return _batch_answer(self._told(judged, asked, await self._node.publish_many(asked)))
        attempts = [self._attempt(each) for each in judged]
        if self._at_once:
            # `_outcome` of what nearly all of them are, without a call for each.
            return _batch_answer(
                [each if type(each) is str else await _outcome(each) for each in attempts]
            )
        # Begun in their order, so that one channel's items keep theirs. Where a broker takes a
        # round trip, what can travel together does.
        return _batch_answer(await asyncio.gather(*map(_outcome, attempts)))

    async def _publish(self, request: PublishRequest) -> PublishResult:
        result = self._node.publish(request)
        return result if isinstance(result, PublishResult) else await result

    def _judge(
        self, identity: Identity, items: Sequence[Item | HubError], trace: str | None
    ) -> list[PublishRequest | HubError]:
        """What each item asks for, or why it is refused."""
        checked: set[str] = set()
        judged: list[PublishRequest | HubError] = []
        for item in items:
            try:
                judged.append(self._checked(identity, item, trace, checked))
            except Exception as error:  # noqa: BLE001 - the other items' answers must not be lost with this one
                judged.append(self._failed(error))
        return judged

    def _to_many(
        self, identity: Identity, batch: Batch, trace: str | None
    ) -> list[PublishRequest | HubError]:
        """One payload for each of several channels, or why it is refused there.

        Raises `HubError` for what is wrong with it in all of them.
        """
        first = self._checked(identity, batch.items[0], trace, set(batch.channels))
        judged: list[PublishRequest | HubError] = []
        for channel in batch.channels:
            try:
                identity.check_publish(check_channel(channel))
                judged.append(replace(first, channel=channel))
            except HubError as error:
                judged.append(self._failed(error))
        return judged

    def _published_together(
        self, judged: Sequence[PublishRequest | HubError]
    ) -> list[Outcome] | None:
        """What became of all items, where the node has one call for many; None else."""
        asked = _asked(judged)
        try:
            results = self._node.publish_many_now(asked)
        except Exception as error:  # noqa: BLE001 - as above
            results = [self._failed(error)] * len(asked)
        if results is None:
            return None
        return self._told(judged, asked, results)

    def _told(
        self,
        judged: Sequence[PublishRequest | HubError],
        asked: Sequence[PublishRequest],
        results: Sequence[PublishResult | HubError],
    ) -> list[Outcome]:
        """What each item is answered: of those that were asked for the result, else why not."""
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
        """What becomes of an item, at once where its publication is."""
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
        """What an item asks for; raise `HubError` where that may not be.

        Args:
            checked: the channels of the items before it that this identity may publish in.
        """
        if isinstance(item, HubError):
            raise item
        channel, key, idempotency_key = item.channel, item.key, item.idempotency_key
        if channel not in checked:
            identity.check_publish(check_channel(channel))
            checked.add(channel)
        return PublishRequest(
            channel,
            check_payload(data_of(item.data, remove=item.remove), limit=self._max_bytes),
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


def _with_headers(batch: Batch, request: Request) -> Batch:
    """The batch with what header fields say of its one publication: its idempotency key.

    Raises `BadRequestError` for a field that counts only where the body is the data, or that
    says nothing of any one item: passed over, it would be thought to work.
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


def _asked(judged: Sequence[PublishRequest | HubError]) -> list[PublishRequest]:
    return [each for each in judged if isinstance(each, PublishRequest)]


async def _outcome(attempt: Attempt) -> Outcome:
    return attempt if isinstance(attempt, str | HubError) else await attempt


def _published(channel: str, result: PublishResult) -> Answer:
    return Answer(result_json(channel, result).encode())


async def _published_later(channel: str, work: Coroutine[Any, Any, PublishResult]) -> Answer:
    return _published(channel, await work)


def _batch_answer(outcomes: Sequence[Outcome]) -> Answer:
    """200 where all were published, the common status where all failed with it, else 207."""
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
