"""`POST /api/publish/{channel}` behind a head that came before: what it says is read once.

A publisher's head is the same for each publication (`hub.transports.http.known`). The identity,
the channel, the key and the tags follow from it, so that only the body, the idempotency key and the
publisher's limit are left for each of them.
"""

from collections.abc import Callable

from hub.core import decimals
from hub.core.limits import party
from hub.core.ports import PublishNow, PublishRequest, PublishResult, PublishSoon
from hub.errors import BadRequestError, HubError
from hub.transports.http.access import text_header
from hub.transports.http.ports import HttpDeps
from hub.transports.http.routes import OnAnswer, Prepared, PreparedLater, PreparedNow
from hub.transports.request import Request
from hub.wire.filters import read_tags
from hub.wire.payload import check_key, check_payload, keep_of
from hub.wire.query import single, split_form

_Asked = Callable[[bytes, str | None, str], PublishRequest]
"""What a body, an idempotency key and an address ask for; raises `HubError`."""


def prepared(deps: HttpDeps, request: Request) -> Prepared | None:
    """What answers others with the head of `request`; None where each is to be read."""
    if deps.hooks is not None and deps.hooks.asks_publish(request.identity):
        return None
    try:
        asked = _asking(deps, request)
    except HubError:
        # It is said to each of them.
        return None
    channel = request.params["channel"]
    if (publish_now := deps.node.publish_now) is not None:
        return Prepared(now=_answering_now(channel, asked, publish_now))
    if (publish_soon := deps.node.publish_soon) is not None:
        return Prepared(later=_answering_later(channel, asked, publish_soon))
    return None


def _asking(deps: HttpDeps, request: Request) -> _Asked:
    identity, check_rate = request.identity, deps.check_publish
    channel, publisher, subject = request.params["channel"], identity.publisher, identity.subject
    key, tags, keep_ms = message_key(request), tags_of(request), keep_ms_of(request)
    trace = request.headers.get("traceparent") if deps.traced else None
    max_bytes = deps.limits.max_message_bytes

    def asked(body: bytes, idempotency_key: str | None, address: str) -> PublishRequest:
        if check_rate is not None:
            check_rate(identity.publisher_or(party(address)), 1, address=address)
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


def result_json(channel: str, result: PublishResult) -> str:
    """Neither a channel nor an epoch has a character that JSON would escape."""
    position = result.position
    again = ',"duplicate":true' if result.duplicate else ""
    return f'{{"channel":"{channel}","offset":{position.offset},"epoch":"{position.epoch}"{again}}}'


def message_key(request: Request) -> str | None:
    """The publication's key: the header `X-Message-Key`, else `?key=`."""
    if "x-message-key" in request.headers:
        return optional_key(text_header(request, "x-message-key"), "X-Message-Key")
    if b"?" not in request.target:
        return None
    return optional_key(single(split_form(request.query), "key"), "key")


def optional_key(value: str | None, name: str) -> str | None:
    return None if value is None else check_key(value, name)


def tags_of(request: Request) -> bytes | None:
    """The publication's tags: the header `X-Message-Tags`."""
    if "x-message-tags" not in request.headers:
        return None
    return read_tags(text_header(request, "x-message-tags") or "")


def keep_ms_of(request: Request) -> int | None:
    """As long as history may hold it: `X-Message-TTL`, `X-Message-History`."""
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
