"""Live state as the records that operators and the HTTP API see. Made only when asked for."""

from hub.core.records import SessionRecord, SubscriptionRecord
from hub.core.session import Session
from hub.core.subscription import Subscription


def session_record(
    session: Session,
    *,
    node: str,
    now_seconds: float,
    wall_seconds: float,
    subscriptions: bool = True,
) -> SessionRecord:
    """One session of `node` now; the clocks tell monotonic time and seconds since 1970."""
    outbox = session.outbox
    oldest = None if outbox is None else outbox.oldest_at()
    round_trip = session.round_trip_seconds
    return SessionRecord(
        connection=session.id,
        transport=session.link.transport,
        subject=session.identity.subject,
        address=session.link.address,
        user_agent=session.link.user_agent,
        opened_ms=int((wall_seconds - now_seconds + session.opened_at_seconds) * 1000),
        round_trip_ms=None if round_trip is None else round(round_trip * 1000, 3),
        sent=session.sent,
        dropped=session.dropped,
        outbox_messages=0 if outbox is None else outbox.messages,
        outbox_bytes=session.owed_bytes,
        outbox_age_seconds=0.0 if oldest is None else round(now_seconds - oldest, 3),
        subscriptions=tuple(map(_subscription, session.subscriptions.values()))
        if subscriptions
        else (),
        node=node,
    )


def _subscription(subscription: Subscription) -> SubscriptionRecord:
    ring = subscription.ring
    return SubscriptionRecord(
        channel=subscription.channel.name,
        position=subscription.position,
        state=subscription.state,
        outbox_messages=0 if ring is None else len(ring),
        dropped=subscription.dropped,
    )
