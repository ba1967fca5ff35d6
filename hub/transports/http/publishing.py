"""`POST /api/publish/{channel}` and `POST /api/publish`."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from hub.core.identity import Identity
from hub.core.ports import PublishRequest, PublishResult
from hub.core.publication import check_channel
from hub.errors import HubError, OutcomeUnknownError
from hub.transports.http.access import credentials_of, header, text_header
from hub.transports.http.answer import json_answer
from hub.transports.http.body import read_body
from hub.transports.http.ports import HttpDeps
from hub.transports.http.problem import problem_fields, problem_headers
from hub.wire.codes import http_status
from hub.wire.payload import Item, check_key, check_payload, split_items
from hub.wire.query import single, split_form

_MULTI_STATUS = 207  # RFC 4918 section 11.1: the items tell


class Publishing:
    """Hands what backends send to the engine; the whole body is checked first."""

    def __init__(self, deps: HttpDeps) -> None:
        self._engine = deps.engine
        self._policy = deps.policy
        self._tally = deps.tally
        self._limits = deps.limits
        self._log = deps.log
        self._traced = deps.traced

    async def one(self, request: Request) -> Response:
        """The body is the data, whatever its content type says."""
        identity = self._policy.identify_publisher(credentials_of(request))
        channel = check_channel(request.path_params["channel"])
        identity.check_publish(channel)
        limit = self._limits.max_message_bytes
        raw = await self._read(request, limit)
        result = await self._engine.publish(
            PublishRequest(
                channel=channel,
                data=check_payload(raw, limit=limit),
                publisher=identity.publisher,
                key=_message_key(request),
                sender=identity.subject,
                idempotency_key=_optional_key(
                    text_header(request, b"idempotency-key"), "Idempotency-Key"
                ),
                trace=self._trace(request),
            )
        )
        return json_answer(_result_fields(channel, result))

    async def batch(self, request: Request) -> Response:
        """One object or an array of them; an array is answered with one, in its order."""
        identity = self._policy.identify_publisher(credentials_of(request))
        raw = await self._read(request, self._limits.max_body_bytes)
        batch = split_items(raw, max_items=self._limits.max_batch_items)
        trace = self._trace(request)
        if not batch.is_array:
            item = batch.items[0]
            request_ = self._checked(identity, item, trace)
            return json_answer(
                _result_fields(request_.channel, await self._engine.publish(request_))
            )
        # Tasks start in the order in which they were made, so one channel's items keep
        # theirs, and what the broker can carry in one round trip travels together.
        attempts = (self._attempt(identity, item, trace) for item in batch.items)
        return _batch_answer(await asyncio.gather(*attempts))

    async def _read(self, request: Request, limit: int) -> bytes:
        return await read_body(
            request, limit=limit, timeout_seconds=self._limits.body_timeout_seconds
        )

    def _trace(self, request: Request) -> str | None:
        """What the publisher's trace goes by (W3C Trace Context), where anybody wants to know."""
        return header(request, b"traceparent") if self._traced else None

    async def _attempt(
        self, identity: Identity, item: Item | HubError, trace: str | None
    ) -> dict[str, object] | HubError:
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


def _optional_key(value: str | None, name: str) -> str | None:
    return None if value is None else check_key(value, name)


def _message_key(request: Request) -> str | None:
    """The publication's key: the header `X-Message-Key`, else `?key=`."""
    header = text_header(request, b"x-message-key")
    if header is not None:
        return check_key(header, "X-Message-Key")
    raw_query = request.scope["query_string"]
    return _optional_key(single(split_form(raw_query), "key"), "key") if raw_query else None


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


def _batch_answer(outcomes: list[dict[str, object] | HubError]) -> Response:
    """200 where all were published, the common status where all failed with it, else 207."""
    statuses = {http_status(o.code) if isinstance(o, HubError) else 200 for o in outcomes}
    body = [problem_fields(o) if isinstance(o, HubError) else o for o in outcomes]
    if len(statuses) > 1:
        return json_answer(body, status=_MULTI_STATUS)
    first = outcomes[0]
    headers = problem_headers(first) if isinstance(first, HubError) else {}
    return json_answer(body, status=statuses.pop(), headers=headers)
