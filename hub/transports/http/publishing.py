"""`POST /api/publish/{channel}`: one publication, whose data is the body; and the removal of a row.

A head that came before is not read again: `prepared` makes a handler for all requests behind it.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from hub.core import decimals
from hub.core.hooks import Asker, Hooks, judged
from hub.core.limits import party
from hub.core.ports import PublishNow, PublishRequest, PublishResult, PublishSoon
from hub.core.publication import REMOVES, check_channel
from hub.errors import BadRequestError, HubError
from hub.transports.http.answer import Answer
from hub.transports.http.parameters import documented, header
from hub.transports.http.ports import HttpDeps
from hub.transports.http.routes import Access, OnAnswer, Prepared, PreparedLater, PreparedNow, Route
from hub.transports.http.schemas import (
    ANY_JSON,
    BOOLEAN,
    KEY,
    STRING,
    TTL,
    ok,
    ref,
)
from hub.transports.request import Request, text_header
from hub.wire.filters import read_tags
from hub.wire.parameter_names import ParameterNames
from hub.wire.payload import check_key, check_payload, keep_of
from hub.wire.query import single, split_form

_QUERY_NAMES = ParameterNames(("key",))
TRACE = header("traceparent", STRING, "W3C Trace Context; followed where the hub traces.")


class PublishRoutes:
    """Hands one publication to the node."""

    def __init__(self, deps: HttpDeps) -> None:
        self._node = deps.node
        self._limits = deps.limits
        self._max_bytes = deps.limits.max_message_bytes
        self._traced = deps.traced
        self._check_publish = deps.check_publish
        self._check_body = deps.check_body
        self._hooks = deps.hooks
        self._prepare = partial(prepared, deps)

    def routes(self) -> tuple[Route, ...]:
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
                    header("X-Message-TTL", TTL, "Seconds that history may hold it at most."),
                    header("X-Message-History", BOOLEAN, "`false`: history does not hold it."),
                    documented("key", KEY, "The publication's key; the header wins."),
                    TRACE,
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
                    TRACE,
                ),
                answers=ok("Published.", ref("Published")),
            ),
        )

    def _admit_one(self, request: Request) -> None:
        request.identity.check_publish(check_channel(request.params["channel"]))

    def check_rate(self, request: Request, count: int) -> None:
        """Count publications of the request's sender; raise `RateLimitedError` above its limit."""
        if self._check_publish is not None:
            address = request.address
            publisher = request.identity.publisher_or(party(address))
            self._check_publish(publisher, count, address=address)

    def check_body(self, request: Request) -> None:
        """Count the bytes of the request's body; raise `RateLimitedError` above the limit."""
        if self._check_body is not None:
            address = request.address
            publisher = request.identity.publisher_or(party(address))
            self._check_body(publisher, len(request.body), address=address)

    def one(self, request: Request) -> Answer | Coroutine[Any, Any, Answer]:
        """Publish the body, whatever its content type is."""
        if self._check_publish is not None:
            self.check_rate(request, 1)
        self.check_body(request)
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
        return self._answer(request, asked)

    def remove(self, request: Request) -> Answer | Coroutine[Any, Any, Answer]:
        """Publish that the key's row is gone: subscribers get a message with `remove`."""
        channel, identity = request.params["channel"], request.identity
        self._node.check_keyed(channel)
        self.check_rate(request, 1)
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
        return self._answer(request, asked)

    def _answer(
        self, request: Request, asked: PublishRequest
    ) -> Answer | Coroutine[Any, Any, Answer]:
        if self._hooks is not None and self._hooks.asks_publish(request.identity):
            return self._answer_judged(self._hooks, request, asked)
        result = self._node.publish(asked)
        if isinstance(result, PublishResult):
            return _published(asked.channel, result)
        return _published_later(asked.channel, result)

    async def answer(self, request: Request, asked: PublishRequest) -> Answer:
        """Publish `asked`, as the application allows and changes it where it is asked."""
        answer = self._answer(request, asked)
        return answer if isinstance(answer, Answer) else await answer

    async def _answer_judged(self, hooks: Hooks, request: Request, asked: PublishRequest) -> Answer:
        asked = await judged_by_application(hooks, request, asked)
        result = self._node.publish(asked)
        return _published(
            asked.channel, result if isinstance(result, PublishResult) else await result
        )


def _published(channel: str, result: PublishResult) -> Answer:
    return Answer(result_json(channel, result).encode())


async def _published_later(channel: str, work: Coroutine[Any, Any, PublishResult]) -> Answer:
    return _published(channel, await work)


async def judged_by_application(
    hooks: Hooks, request: Request, asked: PublishRequest
) -> PublishRequest:
    """Return the request as the application allows it; raise `HubError` where it refuses."""
    asker = Asker(request.identity, None, request.address, request.headers)
    return await judged(hooks, asker, asked)


# -- header fields and results ---------------------------------------------------------------------


def result_json(channel: str, result: PublishResult) -> str:
    """Return the result as JSON: a channel and an epoch have no character that JSON escapes."""
    position = result.position
    again = ',"duplicate":true' if result.duplicate else ""
    return f'{{"channel":"{channel}","offset":{position.offset},"epoch":"{position.epoch}"{again}}}'


def message_key(request: Request) -> str | None:
    """Return the publication's key: the header `X-Message-Key`, else `?key=`."""
    if "x-message-key" in request.headers:
        return optional_key(text_header(request, "x-message-key"), "X-Message-Key")
    if b"?" not in request.target:
        return None
    query = split_form(request.query)
    _QUERY_NAMES.refuse_misspelt(query)
    return optional_key(single(query, "key"), "key")


def optional_key(value: str | None, name: str) -> str | None:
    return None if value is None else check_key(value, name)


def tags_of(request: Request) -> bytes | None:
    """Return the publication's tags: the header `X-Message-Tags`."""
    if "x-message-tags" not in request.headers:
        return None
    return read_tags(text_header(request, "x-message-tags") or "")


def keep_ms_of(request: Request) -> int | None:
    """Return how many milliseconds history may hold it: `X-Message-TTL`, `X-Message-History`."""
    headers = request.headers
    if "x-message-ttl" not in headers and "x-message-history" not in headers:
        return None
    kept = headers.get("x-message-history", "true").strip().lower()
    if kept not in {"true", "false"}:
        raise BadRequestError(f"X-Message-History is {kept[:40]!r}, allowed are true and false")
    ttl_seconds = None
    if (text := headers.get("x-message-ttl")) is not None:
        ttl_seconds = decimals.number(text.strip())
        if ttl_seconds is None:
            raise BadRequestError(f"X-Message-TTL is {text[:40]!r}, expected seconds")
    return keep_of(ttl_seconds=ttl_seconds, history=kept == "true")


# -- behind a head that came before ----------------------------------------------------------------
#
# A publisher's head is the same for each publication (`hub.transports.http.known`). The identity,
# the channel, the key and the tags follow from it, so only the body, the idempotency key and the
# publisher's limit are left for each publication.

_Asked = Callable[[bytes, str | None, str], PublishRequest]
"""Makes a request of a body, an idempotency key and an address; raises `HubError`."""


def prepared(deps: HttpDeps, request: Request) -> Prepared | None:
    """Return a handler for requests with this head; None where each head has to be read."""
    if deps.hooks is not None and deps.hooks.asks_publish(request.identity):
        return None
    try:
        asked = _asking(deps, request)
    except HubError:
        # Each of them gets its own answer.
        return None
    channel = request.params["channel"]
    if (publish_now := deps.node.publish_now) is not None:
        return Prepared(now=_answering_now(channel, asked, publish_now))
    if (publish_soon := deps.node.publish_soon) is not None:
        return Prepared(later=_answering_later(channel, asked, publish_soon))
    return None


def _asking(deps: HttpDeps, request: Request) -> _Asked:
    identity, check_rate, check_body = request.identity, deps.check_publish, deps.check_body
    channel, publisher, subject = request.params["channel"], identity.publisher, identity.subject
    key, tags, keep_ms = message_key(request), tags_of(request), keep_ms_of(request)
    trace = request.headers.get("traceparent") if deps.traced else None
    max_bytes = deps.limits.max_message_bytes

    def asked(body: bytes, idempotency_key: str | None, address: str) -> PublishRequest:
        if check_rate is not None:
            check_rate(identity.publisher_or(party(address)), 1, address=address)
        if check_body is not None:
            check_body(identity.publisher_or(party(address)), len(body), address=address)
        if idempotency_key is not None:
            check_key(idempotency_key, "Idempotency-Key")
        return PublishRequest(
            channel,
            check_payload(body, limit=max_bytes),
            publisher,
            key,
            subject,
            None,
            idempotency_key,
            trace,
            tags,
            0,
            keep_ms,
        )

    return asked


def _answering_now(channel: str, asked: _Asked, publish: PublishNow) -> PreparedNow:
    def answer(body: bytes, key: str | None, address: str) -> bytes:
        return result_json(channel, publish(asked(body, key, address))).encode()

    return answer


def _answering_later(channel: str, asked: _Asked, publish: PublishSoon) -> PreparedLater:
    def answer(body: bytes, key: str | None, address: str, on_answer: OnAnswer) -> None:
        def published(outcome: PublishResult | HubError) -> None:
            if isinstance(outcome, PublishResult):
                on_answer(result_json(channel, outcome).encode())
            else:
                on_answer(outcome)

        publish(asked(body, key, address), published)

    return answer
