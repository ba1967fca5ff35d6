"""`POST /api/publish/{channel}` and `POST /api/publish`."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from hub.core.eager import Rest, begin
from hub.core.identity import Identity
from hub.core.ports import PublishRequest, PublishResult
from hub.core.publication import check_channel
from hub.errors import HubError, OutcomeUnknownError
from hub.transports.http.access import text_header
from hub.transports.http.answer import Answer, json_answer
from hub.transports.http.parameters import documented, header
from hub.transports.http.ports import HttpDeps
from hub.transports.http.problem import problem_fields, problem_headers
from hub.transports.http.routes import Access, Route
from hub.transports.http.schemas import ANY_JSON, KEY, STRING, Json, array, content, ok, ref
from hub.transports.request import Request
from hub.wire.codes import http_status
from hub.wire.payload import Item, check_key, check_payload, split_items
from hub.wire.query import single, split_form

_MULTI_STATUS = 207  # RFC 4918 section 11.1: the items tell
_TRACE = header("traceparent", STRING, "W3C Trace Context; followed where the hub traces.")

Outcome = dict[str, object] | HubError


class Publishing:
    """Hands what backends send to the engine; the whole body is checked first."""

    def __init__(self, deps: HttpDeps) -> None:
        self._engine = deps.engine
        self._tally = deps.tally
        self._limits = deps.limits
        self._max_bytes = deps.limits.max_message_bytes
        self._log = deps.log
        self._traced = deps.traced
        self._at_once = deps.at_once

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
                summary="Publish the body",
                parameters=(
                    header("Idempotency-Key", KEY, "Makes a retry within 5 minutes harmless."),
                    header("X-Message-Key", KEY, "The publication's key."),
                    documented("key", KEY, "The publication's key; the header wins."),
                    _TRACE,
                ),
                body=ANY_JSON,
                body_limit=self._limits.max_message_bytes,
                answers=ok("Published.", ref("Published")),
            ),
            Route(
                method="POST",
                path="/api/publish",
                access=Access.PUBLISHER,
                handler=self.batch,
                at_once=True,
                summary="Publish one or many",
                parameters=(_TRACE,),
                body={
                    "anyOf": [
                        ref("Item"),
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

    def one(self, request: Request) -> Answer | Coroutine[Any, Any, Answer]:
        """The body is the data, whatever its content type says."""
        channel, identity, headers = request.params["channel"], request.identity, request.headers
        idempotency_key = None
        if "idempotency-key" in headers:
            idempotency_key = _optional_key(
                text_header(request, "idempotency-key"), "Idempotency-Key"
            )
        asked = PublishRequest(
            channel,
            check_payload(request.body, limit=self._max_bytes),
            identity.publisher,
            _message_key(request),
            identity.subject,
            None,
            idempotency_key,
            headers.get("traceparent") if self._traced else None,
        )
        work = self._engine.publish(asked)
        if not self._at_once:
            return _published_later(channel, work)
        result = begin(work)
        if isinstance(result, Rest):
            return _published_later(channel, result.run())
        return _published(channel, result)

    async def batch(self, request: Request) -> Answer:
        """One object or an array of them; an array is answered with one, in its order."""
        batch = split_items(request.body, max_items=self._limits.max_batch_items)
        trace = request.headers.get("traceparent") if self._traced else None
        identity = request.identity
        if not batch.is_array:
            item = batch.items[0]
            request_ = self._checked(identity, item, trace)
            result = await self._engine.publish(request_)
            return json_answer(_result_fields(request_.channel, result))
        attempts = [self._attempt(identity, item, trace) for item in batch.items]
        return _batch_answer(await self._carry_out(attempts))

    async def _carry_out(self, attempts: list[Coroutine[Any, Any, Outcome]]) -> list[Outcome]:
        """All of them, begun in their order, so that one channel's items keep theirs.

        Where a broker takes a round trip, what can travel together does.
        """
        if not self._at_once:
            return await asyncio.gather(*attempts)
        outcomes = []
        for attempt in attempts:
            outcome = begin(attempt)
            outcomes.append(await outcome.run() if isinstance(outcome, Rest) else outcome)
        return outcomes

    async def _attempt(
        self, identity: Identity, item: Item | HubError, trace: str | None
    ) -> Outcome:
        try:
            request = self._checked(identity, item, trace)
            return _result_fields(request.channel, await self._engine.publish(request))
        except HubError as error:
            self._tally.http_errors[error.code] += 1
            return error
        except Exception:  # noqa: BLE001 - the other items' answers must not be lost with this one
            self._log.exception("http_batch_item_failed")
            return OutcomeUnknownError("something went wrong in the hub; it is in its log")

    def _checked(
        self, identity: Identity, item: Item | HubError, trace: str | None
    ) -> PublishRequest:
        if isinstance(item, HubError):
            raise item
        channel = check_channel(item.channel)
        identity.check_publish(channel)
        return PublishRequest(
            channel=channel,
            data=check_payload(item.payload, limit=self._limits.max_message_bytes),
            publisher=identity.publisher,
            key=_optional_key(item.key, "key"),
            sender=identity.subject,
            idempotency_key=_optional_key(item.idempotency_key, "idempotency_key"),
            trace=trace,
        )


def _published(channel: str, result: PublishResult) -> Answer:
    """Neither a channel nor an epoch has a character that JSON would escape."""
    position = result.position
    again = ',"duplicate":true' if result.duplicate else ""
    fields = f'"channel":"{channel}","offset":{position.offset},"epoch":"{position.epoch}"{again}'
    return Answer(f"{{{fields}}}".encode())


async def _published_later(channel: str, work: Coroutine[Any, Any, PublishResult]) -> Answer:
    return _published(channel, await work)


def _optional_key(value: str | None, name: str) -> str | None:
    return None if value is None else check_key(value, name)


def _message_key(request: Request) -> str | None:
    """The publication's key: the header `X-Message-Key`, else `?key=`."""
    if "x-message-key" in request.headers:
        return _optional_key(text_header(request, "x-message-key"), "X-Message-Key")
    if b"?" not in request.target:
        return None
    return _optional_key(single(split_form(request.query), "key"), "key")


def _result_fields(channel: str, result: PublishResult) -> dict[str, object]:
    position = result.position
    fields: dict[str, object] = {
        "channel": channel,
        "offset": position.offset,
        "epoch": position.epoch,
    }
    if result.duplicate:
        fields["duplicate"] = True
    return fields


def _batch_answer(outcomes: list[Outcome]) -> Answer:
    """200 where all were published, the common status where all failed with it, else 207."""
    statuses = {http_status(o.code) if isinstance(o, HubError) else 200 for o in outcomes}
    body = [problem_fields(o) if isinstance(o, HubError) else o for o in outcomes]
    if len(statuses) > 1:
        return json_answer(body, status=_MULTI_STATUS)
    first = outcomes[0]
    headers = problem_headers(first) if isinstance(first, HubError) else {}
    return json_answer(body, status=statuses.pop(), headers=headers)
