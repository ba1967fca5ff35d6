"""The plan of a run, and the messages between its processes, as values."""

from dataclasses import dataclass, field
from enum import Enum, StrEnum

from hub.errors import HubError

PUBLISHER_WINDOW = 32
"""The number of publications under way at most when flat out. With a larger window each write has
more of them, so there are more deliveries, and each waits longer. Measured with 1,000 subscribers
and 200 bytes, when a broadcast was one batch for all of them and the bare send loop took 6.5 us (M
deliveries/s, p99 ms): 8: 0.43, 30; 16: 0.77, 33; 24: 0.96, 36; 32: 1.2, 38; 48: 1.6, 42; 64: 1.9,
46; 128: 2.4, 73."""


class BenchError(HubError):
    """The benchmark could not be run, or its server did not answer as it must."""

    code = "bench"


class Contestant(StrEnum):
    """A server or loop that a round measures."""

    WEBSOCKET = "websocket"
    SSE = "sse"
    COMPRESSED = "compressed"
    """WebSocket with permessage-deflate."""
    SEND_LOOP = "send_loop"
    """A bare loop in C: one `send` for each frame."""
    DESCRIPTOR_LOOP = "descriptor_loop"
    """The same in Python: one `os.write` for each frame, over an array of descriptors."""

    PEER = "peer"
    """Another server that speaks as the hub does: an earlier version, or other settings."""
    NCHAN = "nchan"
    """nginx with the nchan module (https://nchan.io)."""


FLOORS = (Contestant.SEND_LOOP, Contestant.DESCRIPTOR_LOOP)
"""No server that sends each frame singly can cost less than these, in its language."""


class LoadCommand(Enum):
    """An order to a process of the load."""

    BEGIN = "begin"
    """Begin the measured phase; the answer is the same."""
    FINISH = "finish"
    """Report and end."""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The address of the server; `token` authenticates where the hub asks for one."""

    host: str
    port: int
    base_path: str = ""
    token: str | None = None
    tls: bool = False
    """Whether the server speaks TLS, with a certificate that is not verified."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The figures of a run of the benchmark: how many peers, publications and processes."""

    subscribers: int = 1000
    rate: float = 100.0
    """Publications per second; 0 is flat out: as fast as the subscribers receive them."""
    publications: int | None = None
    """With None the number follows from `seconds`."""
    seconds: float = 10.0
    payload_bytes: int = 200
    hold_seconds: float = 0.0
    """The time for which the connections are held idle before anything is published."""
    window: int = PUBLISHER_WINDOW
    contestants: tuple[Contestant, ...] = (Contestant.WEBSOCKET,)
    rounds: int = 1
    readers: int = 1
    """The number of processes that hold the subscribers' connections."""
    in_flight: int = 64
    """The number of connections that are set up at the same time."""
    channels: int = 1
    """The number of channels; publications go to them in turn."""
    channels_each: int = 1
    """The number of channels of one subscriber; every channel has as many subscribers."""

    @property
    def receivers(self) -> int:
        """The number of subscribers that each publication goes to."""
        return self.subscribers * self.channels_each // self.channels

    @property
    def measured_publications(self) -> int | None:
        """The number of publications in the measured phase; with None its time decides."""
        if self.publications is not None:
            return self.publications
        return max(1, round(self.rate * self.seconds)) if self.rate else None

    @property
    def warm_publications(self) -> int:
        """Publications before the measured phase: interpreters and caches settle within these.

        The number is a guess that a run of 10 s does not feel.
        """
        return min(50, self.measured_publications or 50)


@dataclass(frozen=True, slots=True)
class ReadJob:
    """The work of one reader process: `count` connections to `target`, numbered for sampling."""

    target: ServerAddress
    contestant: Contestant
    channel: str
    count: int
    in_flight: int
    slot: int
    first: int = 0
    """The number of its first connection among all."""
    channels: int = 1
    channels_each: int = 1


@dataclass(frozen=True, slots=True)
class PublishJob:
    """The work of the publisher process: its server and its channels."""

    target: ServerAddress
    contestant: Contestant


@dataclass(frozen=True, slots=True)
class PublishSeries:
    """A series of publications; `count` None goes on until `seconds` are over."""

    channel: str
    count: int | None
    seconds: float
    rate: float
    window: int
    payload_bytes: int
    subscribers: int
    """The subscribers of each publication; their deliveries hold the flat-out publisher back."""
    channels: int = 1
    prose: bool = False
    """Whether the payload is words and numbers instead of one letter, for compressed connections.
    """


@dataclass(frozen=True, slots=True)
class Failed:
    """A process of the load could not go on; `reason` is one line."""

    reason: str


@dataclass(frozen=True, slots=True)
class PublishReport:
    """The outcome of a batch; the time is of the monotonic clock, in nanoseconds."""

    count: int
    acknowledged: int
    first_ns: int
    error: str = ""
    bunched: int = 0
    """The number of paced publications that were so late that they left together with the next."""


@dataclass(frozen=True, slots=True)
class ReaderReport:
    """The report of one reader; latencies, bytes and CPU count from the measured phase on."""

    failures: tuple[str, ...]
    """The connections that were refused or lost, each with its reason (the first ten)."""
    alive: int
    """The number of connections that are still open at the end."""
    received: int
    duplicates: int
    skipped: int
    """The number of offsets that did not come although a later one did."""
    gaps: int
    announced: int
    """The number of offsets that the gaps named."""
    heartbeats: int
    """The number of chunks without a message, so heartbeats and pings, over all connections."""
    fewest_heartbeats: int
    """The same number, of the connection that had the fewest."""
    measured_bytes: int
    """The bytes received since the measured phase began."""
    last_ns: int
    """The time of the last message, by the monotonic clock."""
    cpu_seconds: float
    latency_counts: dict[int, int] = field(default_factory=dict)
    latency_max_ns: int = 0
