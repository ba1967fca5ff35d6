"""The transports that there are, by name."""

from hub_client.poll import PollDialer
from hub_client.sse import SseDialer
from hub_client.transport import Dialer
from hub_client.websocket import WebSocketDialer


def make_dialers(transports: tuple[str, ...]) -> dict[str, Dialer]:
    """In the order given; raise `ValueError` for a name that is no transport."""
    kinds: dict[str, type[WebSocketDialer | SseDialer | PollDialer]] = {
        WebSocketDialer.transport: WebSocketDialer,
        SseDialer.transport: SseDialer,
        PollDialer.transport: PollDialer,
    }
    unknown = set(transports) - kinds.keys()
    if unknown or not transports:
        raise ValueError(f"transports are {transports!r}, allowed are {', '.join(kinds)}")
    return {name: kinds[name]() for name in transports}
