"""Successful answers as JSON, and the shapes in which records appear in them."""

from collections.abc import Mapping
from dataclasses import asdict

import orjson
from starlette.responses import Response

from hub.core.pushes import Member
from hub.core.records import ChannelRecord, NodeRecord, SessionRecord, SubscriptionRecord

_NO_STORE = {"Cache-Control": "no-store"}


def json_answer(
    content: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """`content` encoded by orjson; live state, so nobody may keep it."""
    return json_bytes_answer(orjson.dumps(content), status=status, headers=headers)


def json_bytes_answer(
    body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """JSON that somebody else encoded."""
    return Response(body, status, _NO_STORE | dict(headers or {}), "application/json")


def member_fields(member: Member) -> dict[str, object]:
    """As in a `join` push."""
    fields: dict[str, object] = {"id": member.id, "connection": member.connection}
    if member.subject is not None:
        fields["sub"] = member.subject
    return fields


def channel_fields(record: ChannelRecord) -> dict[str, object]:
    return {
        "channel": record.channel,
        "position": str(record.position),
        "subscribers": record.subscribers,
        "history": record.history,
        "presence": record.presence,
        "publications_per_second": record.publications_per_second,
    }


def session_fields(record: SessionRecord) -> dict[str, object]:
    return {
        "connection": record.connection,
        "node": record.node,
        "transport": record.transport,
        "subject": record.subject,
        "address": record.address,
        "user_agent": record.user_agent,
        "opened_ms": record.opened_ms,
        "round_trip_ms": record.round_trip_ms,
        "sent": record.sent,
        "dropped": record.dropped,
        "outbox_messages": record.outbox_messages,
        "outbox_bytes": record.outbox_bytes,
        "outbox_age_seconds": record.outbox_age_seconds,
        "subscriptions": [_subscription_fields(item) for item in record.subscriptions],
    }


def _subscription_fields(record: SubscriptionRecord) -> dict[str, object]:
    return {
        "channel": record.channel,
        "position": str(record.position),
        "state": record.state,
        "outbox_messages": record.outbox_messages,
        "dropped": record.dropped,
    }


def node_fields(record: NodeRecord) -> dict[str, object]:
    return asdict(record)
