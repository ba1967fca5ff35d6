"""Computes from measured slopes what a million connections need, and simulates how they come back.

    uv run python -m tests.benchmarks.million

Nobody here has a million clients. Each slope was measured at thousands, where it is linear, and
says where it is from; whatever is not measured says so. The simulation is of queues: each node
is one core that serves connects one after another beside its other work, each client tries again
as clients/js/src/backoff.js does, or returns within what the goodbye says.
"""

import heapq
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

CONNECTIONS = 1_000_000
NODE_CONNECTIONS = 50_000
"""On a node, which is a process on one core. A choice: so many come back when one dies."""
NODE_SHARE = 0.5
"""Of its core, as an average: the rest is for what comes at once."""


@dataclass(frozen=True, slots=True)
class Slopes:
    """Per unit, on the machine of tests/benchmarks/README.md. Microseconds are of one core."""

    delivery_us: float = 9.3
    """A 200-byte message to one of 15,000 WebSockets (`many`); 7.1 with 1,000 (`fanout`)."""
    frame_bytes: int = 289
    """Of such a message."""
    packet_bytes: int = 66
    """Ethernet, IPv4 and TCP with timestamps around each write, by their standards."""
    idle_us: float = 1.0
    """Per second and connection, with heartbeats: 1.5 % of a core for 15,000 (`idle`)."""
    heartbeat_bytes: float = 18.0
    """Per second: heartbeat and ping, pong, and two acknowledgements each 25 s; by their sizes."""
    resume_us: float = 242.0
    """A connect that reads 20 messages from history, in the dearer of two runs (`storm`)."""
    memory_bytes: int = 2300
    """Of the process (`idle`)."""
    kernel_bytes: int = 4000
    """Of an idle TCP socket with its file. Guess, not measured."""
    publish_us: float = 18.1
    """The cost for a node of handing a publication to Redis (`redis_publish`, 64 at once)."""
    hear_us: float = 5.4
    """The cost for each node with a subscriber of hearing it (the same)."""
    batch_us: float = 40.0
    """To seal, encode and account for it, caches cold: `channels`, less its writes and replies."""
    redis_us: float = 26.3
    """The cost of a publication for Redis (the same)."""
    redis_node_us: float = 0.8
    """The cost for Redis of each node that hears it: PUBLISH to 1, 10 and 40 subscribers."""


SLOPES = Slopes()


@dataclass(frozen=True, slots=True)
class Work:
    """The load: publications and their receivers."""

    name: str
    per_second: float
    """Publications, over all channels."""
    receivers: int
    """Subscribers of each, spread over the nodes."""


WORKS = (
    Work("held idle", 0, 0),
    Work("one feed to all, once in 10 s", 0.1, CONNECTIONS),
    Work("one feed to all, once a second", 1, CONNECTIONS),
    Work("a notification to 1, 20,000/s", 20_000, 1),
    Work("rooms of 100, 2,000/s", 2000, 100),
)


@dataclass(frozen=True, slots=True)
class Need:
    """The nodes, memory, bytes and Redis time that a load takes."""

    nodes: int
    node_share: float
    """Of a node's core."""
    memory_bytes: float
    """Of all nodes, with the kernel's part."""
    wire_bytes: float
    """Per second, to all clients."""
    redis_share: float
    """Of one core; a Redis server runs on one, so above a half channels are to be spread."""


def need(work: Work, slopes: Slopes = SLOPES) -> Need:
    """Computes what a million connections with this load need."""
    nodes = math.ceil(CONNECTIONS / NODE_CONNECTIONS)
    while (share := _busy(work, slopes, nodes) / nodes) > NODE_SHARE:
        nodes = max(nodes + 1, math.ceil(nodes * share / NODE_SHARE))
    deliveries = work.per_second * work.receivers
    each = slopes.heartbeat_bytes * CONNECTIONS
    return Need(
        nodes=nodes,
        node_share=share,
        memory_bytes=CONNECTIONS * (slopes.memory_bytes + slopes.kernel_bytes),
        wire_bytes=deliveries * (slopes.frame_bytes + slopes.packet_bytes) + each,
        redis_share=work.per_second
        * (slopes.redis_us + slopes.redis_node_us * _hearing(work, nodes))
        / 1e6,
    )


def _hearing(work: Work, nodes: int) -> float:
    """On how many nodes a publication has a subscriber, on average."""
    return nodes * (1 - (1 - 1 / nodes) ** work.receivers)


def _busy(work: Work, slopes: Slopes, nodes: int) -> float:
    """Cores of all nodes together."""
    hearing = _hearing(work, nodes)
    each = slopes.publish_us + hearing * (slopes.hear_us + slopes.batch_us)
    microseconds = CONNECTIONS * slopes.idle_us
    microseconds += work.per_second * (each + work.receivers * slopes.delivery_us)
    return microseconds / 1e6


# -- how they come back ------------------------------------------------------------------------

BASE_SECONDS = 1.0
"""The first ceiling of the browser client's back-off, and the factor of the last."""
CEILINGS = 30
GIVE_UP_SECONDS = 10.0
"""A client that is not connected by then tries again; a hub gives a handshake as long."""


BACKLOG = 2048
"""Connections that wait to be accepted (`HUB_BACKLOG`); the kernel drops the handshake of any
more."""
SYN_SECONDS = (0.0, 1.0, 3.0, 7.0)
"""When a kernel sends a handshake again that was not answered (RFC 6298: 1 s, then doubled)."""


@dataclass(frozen=True, slots=True)
class Story:
    """Some clients have lost their nodes; when each first tries is drawn from `first`."""

    name: str
    clients: int
    nodes: int
    """The number of nodes that take them."""
    first_seconds: tuple[float, float]
    """From when until when they first try, evenly."""


@dataclass(slots=True)
class Return:
    """The result of a simulated return: when each client was back, and the longest queue."""

    back_at: list[float] = field(default_factory=list)
    tries: int = 0
    busiest_seconds: float = 0.0
    """The longest queue of a node, as time."""

    def percentile(self, share: float) -> float:
        ordered = sorted(self.back_at)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def simulate(story: Story, *, busy: float, slopes: Slopes = SLOPES, seed: int = 1) -> Return:
    """Let all of them come back to nodes that are `busy` already, a share of their core."""
    dice = random.Random(seed)
    service = slopes.resume_us / 1e6 / (1 - busy)
    first, last = story.first_seconds
    free_at = [0.0] * story.nodes
    queue = [
        (dice.uniform(first, last), BASE_SECONDS, 0, dice.randrange(story.nodes))
        for _ in range(story.clients)
    ]
    heapq.heapify(queue)
    found = Return()
    while queue:
        at, ceiling, repeats, node = heapq.heappop(queue)
        found.tries += not repeats
        begins = max(at, free_at[node])
        if begins - at > BACKLOG * service:
            # The kernel drops it unseen, so the node does no work for who gives up.
            if (again := repeats + 1) < len(SYN_SECONDS):
                later = at + SYN_SECONDS[again] - SYN_SECONDS[repeats]
                heapq.heappush(queue, (later, ceiling, again, node))
            else:
                gives_up = at + GIVE_UP_SECONDS - SYN_SECONDS[repeats]
                higher = min(BASE_SECONDS * CEILINGS, ceiling * 2)
                next_try = gives_up + dice.random() * ceiling
                heapq.heappush(queue, (next_try, higher, 0, dice.randrange(story.nodes)))
            continue
        found.busiest_seconds = max(found.busiest_seconds, begins - at)
        free_at[node] = begins + service
        found.back_at.append(free_at[node])
    return found


def stories(connections: int = CONNECTIONS, nodes: int = 20) -> Sequence[Story]:
    """Lists the events that are simulated: a node dies, a node drains, and the proxy restarts."""
    each = connections // nodes
    return (
        Story("a node dies", each, nodes - 1, (0, BASE_SECONDS)),
        # Closed evenly over `HUB_DRAIN_SECONDS`, with a tenth more to return (hub/admin/drain.py).
        Story("a node drains", each, nodes - 1, (0, 11.0)),
        Story("the proxy before all nodes restarts", connections, nodes, (0, BASE_SECONDS)),
    )


# -- the page ------------------------------------------------------------------------------------


_NEEDS = ("nodes", "of a node's core", "memory", "to clients", "Redis, of a core")
_RETURNS = ("tries each", "half are back", "99 %", "all", "longest queue")


def _head(first: str, others: Sequence[str]) -> Iterator[str]:
    yield "| " + " | ".join((first, *others)) + " |"
    yield "|---" * (len(others) + 1) + "|"


def needs() -> Iterator[str]:
    """The first table of tests/benchmarks/README.md."""
    yield from _head("a million connections, and", _NEEDS)
    for work in WORKS:
        found = need(work)
        yield (
            f"| {work.name} | {found.nodes} | {found.node_share:.0%} "
            f"| {found.memory_bytes / 1e9:.1f} GB | {found.wire_bytes * 8 / 1e6:,.0f} Mbit/s "
            f"| {found.redis_share:.1%} |"
        )


def returns(told: Sequence[Story] | None = None) -> Iterator[str]:
    """The second, of the simulation: with all stories it takes 40 s."""
    yield from _head("at nodes that are half busy", _RETURNS)
    for story in stories() if told is None else told:
        came = simulate(story, busy=NODE_SHARE)
        yield (
            f"| {story.name}: {story.clients:,} to {story.nodes} nodes "
            f"| {came.tries / story.clients:.2f} | {came.percentile(0.5):.1f} s "
            f"| {came.percentile(0.99):.1f} s | {max(came.back_at):.1f} s "
            f"| {came.busiest_seconds:.1f} s |"
        )


if __name__ == "__main__":
    print("\n".join([*needs(), "", *returns()]))
