"""The table of scenarios. Each row holds the work, the contestants and the goals."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from hub.bench.plan import BenchError, Contestant, Plan
from hub.bench.scenarios import durable, feeds, on_workers, storm
from hub.bench.scenarios.beside import with_peer
from hub.bench.scenarios.deliveries import ROUNDS, Deliveries, Measured
from hub.bench.scenarios.probe import stall_goals
from hub.bench.scenarios.scenario import Goal, Scenario

FEW_WINDOW = 256
"""The number of publications under way to 10 subscribers: with fewer the publisher waits for its
replies, and the hub has nothing to do."""
_WEBSOCKET, _SSE = Contestant.WEBSOCKET, Contestant.SSE
_C, _PYTHON = Contestant.SEND_LOOP, Contestant.DESCRIPTOR_LOOP


def _fanout(measured: Measured) -> Sequence[Goal]:
    return (
        Goal("times the send() loop in C", measured.ratio(_WEBSOCKET, _C), at_most=1.4),
        Goal("times the os.write loop in Python", measured.ratio(_WEBSOCKET, _PYTHON), at_most=1.1),
        Goal("p99", measured.hub.latency_p99_ms, unit="ms"),
    )


def _many(measured: Measured) -> Sequence[Goal]:
    waits = measured.waits
    return (
        Goal("times the send() loop in C", measured.ratio(_WEBSOCKET, _C), at_most=1.6),
        Goal("times the os.write loop in Python", measured.ratio(_WEBSOCKET, _PYTHON)),
        *stall_goals(waits, at_most_ms=20),
    )


def _flat_out(plan: Plan, least: float) -> Deliveries:
    def goals(measured: Measured) -> Sequence[Goal]:
        hub, cost = measured.hub, measured.hub.cpu_us_per_delivery
        return (
            Goal("deliveries per second", hub.deliveries_per_second, at_least=least),
            # Where the load's core is full first, the hub's is not.
            Goal("as many as fill the hub's core", cost and 1e6 / cost),
            Goal("p99", hub.latency_p99_ms, at_most=20, unit="ms"),
        )

    return Deliveries(replace(plan, rate=0, rounds=ROUNDS), goals)


def _channels(measured: Measured) -> Sequence[Goal]:
    return (
        Goal("times the send() loop, per write", measured.ratio(_WEBSOCKET, _C), at_most=1.5),
        Goal("p99", measured.hub.latency_p99_ms, unit="ms"),
    )


def _sse(measured: Measured) -> Sequence[Goal]:
    return (
        Goal("SSE against WebSocket", measured.ratio(_SSE, _WEBSOCKET), at_most=1.05),
        Goal("times the send() loop in C", measured.ratio(_SSE, _C), at_most=1.4),
    )


def _compressed(measured: Measured) -> Sequence[Goal]:
    ratio = measured.ratio(Contestant.COMPRESSED, _WEBSOCKET)
    plain = measured.outcome.medians[_WEBSOCKET]
    return (
        Goal("compressed against not", ratio, at_most=1.3),
        Goal("bytes per delivery", measured.hub.frame_bytes),
        Goal("bytes per delivery, not compressed", plain.frame_bytes),
    )


def _idle(measured: Measured) -> Sequence[Goal]:
    hub = measured.hub
    share = hub.idle_cpu_share
    each = None if share is None else share * 1e6 / hub.subscribers
    memory = hub.uss_bytes_per_connection
    return (
        Goal("CPU per second and connection", each, at_most=1, unit="us"),
        Goal("memory per connection", memory and memory / 1000, unit="KB"),
        Goal("lost", hub.failed, at_most=0),
        Goal("heartbeats, fewest on a connection", hub.fewest_heartbeats, at_least=1),
    )


_ALL = (
    Scenario(
        "fanout",
        "1,000 WebSockets x 100/s, 200 bytes",
        Deliveries(Plan(contestants=(_WEBSOCKET, _C, _PYTHON), rounds=ROUNDS), _fanout),
        against_nchan=True,
    ),
    Scenario(
        "many",
        "15,000 WebSockets x 2/s, 200 bytes",
        Deliveries(
            Plan(subscribers=15_000, rate=2, contestants=(_WEBSOCKET, _C, _PYTHON)),
            _many,
            probes=True,
        ),
        against_nchan=True,
    ),
    Scenario(
        "few-flat-out",
        "10 subscribers, as fast as they receive",
        _flat_out(Plan(subscribers=10, window=FEW_WINDOW), 800_000),
        against_nchan=True,
    ),
    Scenario(
        "flat-out",
        "1,000 subscribers, as fast as they receive",
        _flat_out(Plan(), 2_000_000),
        against_nchan=True,
    ),
    Scenario(
        "channels",
        "1,000 WebSockets, each in 10 of 1,000 channels, 5,000 publications/s in all",
        Deliveries(
            Plan(
                rate=5000,
                channels=1000,
                channels_each=10,
                contestants=(_WEBSOCKET, _C),
                rounds=ROUNDS,
            ),
            _channels,
        ),
        against_nchan=True,
    ),
    Scenario(
        "sse",
        "1,000 SSE streams x 100/s, 200 bytes, beside as many WebSockets",
        Deliveries(Plan(contestants=(_SSE, _WEBSOCKET, _C), rounds=ROUNDS), _sse),
        against_nchan=True,
    ),
    Scenario(
        "compressed",
        "1,000 WebSockets with permessage-deflate x 100/s, 1,000 bytes, beside as many without",
        Deliveries(
            Plan(
                payload_bytes=1000,
                contestants=(Contestant.COMPRESSED, _WEBSOCKET),
                rounds=ROUNDS,
            ),
            _compressed,
        ),
        against_nchan=True,
    ),
    Scenario(
        "idle",
        "15,000 WebSockets held for 60 s with heartbeats",
        Deliveries(Plan(subscribers=15_000, rate=2, seconds=5, hold_seconds=60), _idle),
        against_nchan=True,
    ),
    Scenario(
        "workers",
        "the same load on one process and on two workers",
        with_peer(on_workers.measure),
    ),
    Scenario("patterns", "10,000 WebSockets with a pattern each", with_peer(feeds.patterns)),
    Scenario(
        "filters", "1,000 WebSockets in a channel, with 100 filters", with_peer(feeds.filters)
    ),
    Scenario(
        "keyed",
        "single POSTs to a channel that keeps a table",
        with_peer(feeds.keyed),
        has_subscribers=False,
    ),
    Scenario(
        "state",
        "a table of 10,000 rows to new subscribers",
        with_peer(feeds.state),
        has_subscribers=False,
    ),
    Scenario(
        "sqlite",
        "POSTs acknowledged after fsync into a history file",
        with_peer(durable.measure),
        has_subscribers=False,
    ),
    Scenario(
        "storm", "15,000 come back at once, each resumes 20 messages", with_peer(storm.measure)
    ),
)
SCENARIOS: Mapping[str, Scenario] = MappingProxyType({each.name: each for each in _ALL})


def scenario_of(name: str) -> Scenario:
    """Return the scenario of that name.

    Raises:
        BenchError: There is none.
    """
    if (found := SCENARIOS.get(name)) is None:
        raise BenchError(f"scenario is {name!r}, allowed are {', '.join(SCENARIOS)}")
    return found
