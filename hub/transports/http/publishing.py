"""`POST /api/publish/{channel}`: one publication, whose data is the body; and a row taken away."""

from collections.abc import Coroutine
from functools import partial
from typing import Any

from hub.core.hooks import Asker, Hooks, judged
from hub.core.limits import party
from hub.core.ports import PublishRequest, PublishResult
from hub.core.publication import REMOVES, check_channel
from hub.transports.http.access import text_header
from hub.transports.http.answer import Answer
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
from hub.transports.http.routes import Access, Route
from hub.transports.http.schemas import (
    ANY_JSON,
    BOOLEAN,
    KEY,
    STRING,
    TTL,
    ok,
    ref,
)
from hub.transports.request import Request
from hub.wire.payload import check_key, check_payload

TRACE = header("traceparent", STRING, "W3C Trace Context; followed where the hub traces.")


class Publishing:
    """Hands one publication to the node."""

    def __init__(self, deps: HttpDeps) -> None:
        self._node = deps.node
        self._limits = deps.limits
        self._max_bytes = deps.limits.max_message_bytes
        self._traced = deps.traced
        self._check_publish = deps.check_publish
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

    def one(self, request: Request) -> Answer | Coroutine[Any, Any, Answer]:
        """The body is the data, whatever its content type says."""
        if self._check_publish is not None:
            self.check_rate(request, 1)
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
        """Publish it, by the application's word where that is asked."""
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
    """What is published by the application's word over HTTP; raise `HubError` where it refuses."""
    asker = Asker(request.identity, None, request.address, request.headers)
    return await judged(hooks, asker, asked)
