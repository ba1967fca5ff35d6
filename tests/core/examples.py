"""The shape of an example of the node's model: its channels, peers and limits."""

from hypothesis import strategies as st

from hub.core.options import SessionLimits
from hub.core.ports import Dialect
from hub.wire.sse import SeveralSseDialect, SseDialect
from hub.wire.websocket import TextDialect, WebSocketDialect
from tests.core.node_truth import NAMESPACES
from tests.core.small_node import Shape
from tests.core.streams import Read, read_lines, read_sse, read_websocket

NAMES = ("long", "short:a", "none:a", "key:a", "die:a", "here:a")
PEERS = 3
ALL = 1 << 26
"""A journal of so many bytes forgets nothing of an example."""
SEVERAL = SeveralSseDialect()
DIALECTS: tuple[tuple[Dialect, Read], ...] = (
    (TextDialect(), read_lines),
    (WebSocketDialect(), read_websocket),
    (SseDialect(SEVERAL), read_sse),
)
LIMITS = st.builds(
    SessionLimits,
    outbox_max_messages=st.sampled_from((2, 4, 1000)),
    outbox_max_bytes=st.sampled_from((900, 3000, 1 << 20)),
    control_max_bytes=st.sampled_from((700, 1 << 20)),
)
SHAPES = st.builds(
    Shape,
    namespaces=st.just(NAMESPACES),
    limits=LIMITS,
    slice_sessions=st.sampled_from((1, 2, 1000)),
    outbox_total_bytes=st.sampled_from((2500, 1 << 30)),
    journal_bytes=st.sampled_from((ALL, ALL, 6000, 3000)),
    latent=st.booleans(),
)
peers = st.integers(0, PEERS - 1)
names = st.integers(0, 1)
"""Which of the two channels of an example: more would only meet each other less often."""
