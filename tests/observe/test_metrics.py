"""The metrics page has every count, in both formats and in a fixed number of series."""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_plain

from hub.core.counters import LATENCY_BOUNDS, Counters, Histogram
from hub.core.labels import (
    CLOSE_CODE,
    CODE,
    CONNECTION,
    HOOK,
    KEY_FETCH,
    KEY_RELOAD,
    LIMIT,
    OP,
    OTHER,
    OUTCOME,
    POLICY,
    REASON,
    REFUSAL,
    REFUSED_FOR,
    TRANSPORT,
    WEBHOOK,
    Label,
)
from hub.core.node_records import BrokerRecord
from hub.core.options import Overflow
from hub.core.pushes import GapReason
from hub.errors import HubError
from hub.observe.loop_lag import LoopLag
from hub.observe.metrics import Gauges, HubCollector, Metrics, merged
from hub.wire.codes import CLOSE_CODE as CLOSE_CODE_OF_ERROR
from hub.wire.codes import HTTP_STATUS, CloseCode

CALM = Gauges(
    connections={},
    subscriptions=0,
    channels=0,
    outbox_bytes=0,
    outbox_oldest_age_seconds=0.0,
    congested_sessions=0,
    ready=True,
    draining=False,
    to_leave=0,
    journal_bytes=0,
    journal_disk_bytes=0,
    http_connections=0,
    body_bytes=0,
    connections_limit=0,
    outbox_limit_bytes=0,
    memory_limit_bytes=0,
    broker=BrokerRecord(),
)
LABELS = (
    CLOSE_CODE, CODE, CONNECTION, HOOK, KEY_FETCH, KEY_RELOAD, LIMIT, OP, OUTCOME, POLICY, REASON,
    REFUSAL, REFUSED_FOR, TRANSPORT, WEBHOOK,
)  # fmt: skip
METRICS_PAGE = Path("hub/docs/metrics.md")
OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5"
# The library leaves this function untyped.
read_openmetrics: Callable[[str], Iterable[Metric]] = openmetrics.text_string_to_metric_families
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def new_loop_lag() -> LoopLag:
    return LoopLag(structlog.get_logger())


def hub_families(
    counters: Counters, gauges: Gauges = CALM, lag: LoopLag | None = None
) -> list[Metric]:
    collector = HubCollector(counters, lambda: gauges, lag or new_loop_lag(), version="1.2.3")
    return list(collector.collect())


def samples_of(families: list[Metric]) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def page(counters: Counters, accept: str = "", gauges: Gauges = CALM) -> tuple[str, str]:
    collector = HubCollector(counters, lambda: gauges, new_loop_lag(), version="1.2.3")
    text, content_type = Metrics(CollectorRegistry(), collector).render(accept)
    return text.decode(), content_type


def busy_counters() -> Counters:
    counters = Counters(publications=7, deliveries=70, bytes_sent=7_000)
    counters.dropped[Overflow.LATEST_PER_KEY] += 3
    counters.gaps[GapReason.SLOW] += 2
    counters.closed["4508"] += 1
    counters.publish_to_write.observe(0.003, 5)
    counters.publish_to_write.observe(20.0)
    return counters


def test_counters_gauges_and_histograms_have_the_values_of_the_moment() -> None:
    """One scrape shows what was counted and what holds now."""
    gauges = Gauges(
        connections={"websocket": 4, "poll": 1},
        subscriptions=9,
        channels=3,
        outbox_bytes=1024,
        outbox_oldest_age_seconds=2.5,
        congested_sessions=1,
        ready=False,
        draining=True,
        to_leave=3,
        journal_bytes=520,
        journal_disk_bytes=4096,
        http_connections=6,
        body_bytes=2048,
        connections_limit=100,
        outbox_limit_bytes=4096,
        memory_limit_bytes=16384,
        unkept_bytes=512,
        broker=BrokerRecord(servers=2, canary_age_seconds=1.5, versions={"7.0.15": 2}),
    )

    found = samples_of(hub_families(busy_counters(), gauges))

    expected = {
        ("hub_publications_total", ()): 7,
        ("hub_deliveries_total", ()): 70,
        ("hub_sent_bytes_total", ()): 7_000,
        ("hub_dropped_total", (("policy", "latest_per_key"),)): 3,
        ("hub_dropped_total", (("policy", "drop_oldest"),)): 0,
        ("hub_gaps_total", (("reason", "slow"),)): 2,
        ("hub_closes_total", (("code", "4508"),)): 1,
        ("hub_delivery_seconds_bucket", (("le", "0.0025"),)): 0,
        ("hub_delivery_seconds_bucket", (("le", "0.005"),)): 5,
        ("hub_delivery_seconds_bucket", (("le", "10.0"),)): 5,
        ("hub_delivery_seconds_bucket", (("le", "+Inf"),)): 6,
        ("hub_delivery_seconds_count", ()): 6,
        ("hub_connections", (("transport", "websocket"),)): 4,
        ("hub_connections", (("transport", "sse"),)): 0,
        ("hub_connections", (("transport", "poll"),)): 1,
        ("hub_subscriptions", ()): 9,
        ("hub_channels", ()): 3,
        ("hub_outbox_bytes", ()): 1024,
        ("hub_outbox_oldest_age_seconds", ()): 2.5,
        ("hub_congested_sessions", ()): 1,
        ("hub_ready", ()): 0,
        ("hub_draining", ()): 1,
        ("hub_connections_to_leave", ()): 3,
        ("hub_journal_bytes", ()): 520,
        ("hub_journal_disk_bytes", ()): 4096,
        ("hub_journal_lost_total", ()): 0,
        ("hub_http_connections", ()): 6,
        ("hub_body_bytes", ()): 2048,
        ("hub_connections_limit", ()): 100,
        ("hub_outbox_limit_bytes", ()): 4096,
        ("hub_memory_limit_bytes", ()): 16384,
        ("hub_unkept_bytes", ()): 512,
        ("hub_build_info", (("version", "1.2.3"),)): 1,
        ("hub_broker_servers", ()): 2,
        ("hub_broker_canary_age_seconds", ()): 1.5,
        ("hub_broker_info", (("version", "7.0.15"),)): 2,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert found["hub_delivery_seconds_sum", ()] == pytest.approx(20.015)


def test_the_loops_lag_is_exported() -> None:
    """Last, highest, how often it stalled, and the whole distribution."""
    lag = new_loop_lag()
    lag.lag_seconds, lag.max_lag_seconds, lag.stalls = 0.02, 0.7, 3
    lag.histogram.observe(0.7)

    found = samples_of(hub_families(Counters(), lag=lag))

    assert found["hub_event_loop_lag_seconds", ()] == 0.02
    assert found["hub_event_loop_lag_max_seconds", ()] == 0.7
    assert found["hub_event_loop_stalls_total", ()] == 3
    assert found["hub_event_loop_lag_distribution_seconds_count", ()] == 1


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Counters)])
def test_every_field_of_the_counters_is_exported(name: str) -> None:
    """An operator can see all that the core counts, and a new field fails
    here until it is exported."""
    counters = Counters()
    match getattr(counters, name):
        case Counter() as counter:
            cast("Counter[str]", counter)["whatever"] += 13
        case Histogram() as histogram:
            histogram.observe(0.1, 13)
        case _:
            setattr(counters, name, 13)

    changed = (
        samples_of(hub_families(counters)).items() - samples_of(hub_families(Counters())).items()
    )
    assert 13 in {value for _, value in changed}


@pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(Gauges) if field.name != "broker"]
)
def test_every_gauge_is_exported(name: str) -> None:
    """A gauge that the node fills in is on the page."""
    value: object = {"sse": 13} if name == "connections" else 13
    changed = dataclasses.replace(CALM, **{name: value})  # type: ignore[arg-type]  # by name

    new = (
        samples_of(hub_families(Counters(), changed)).items()
        - samples_of(hub_families(Counters())).items()
    )
    assert 13 in {number for _, number in new}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(BrokerRecord)])
def test_everything_that_is_known_of_the_broker_is_exported(name: str) -> None:
    """The same of a broker outside this process."""
    value: object = {"7.0.15": 13} if name == "versions" else 13
    broker = dataclasses.replace(CALM.broker, **{name: value})  # type: ignore[arg-type]  # by name

    new = samples_of(hub_families(Counters(), dataclasses.replace(CALM, broker=broker)))

    assert 13 in {
        number for _, number in new.items() - samples_of(hub_families(Counters())).items()
    }


@given(st.lists(st.text(max_size=20), max_size=30))
def test_no_label_grows_with_users_or_channels(values: list[str]) -> None:
    """Whatever strings are counted under, the series stay the same and nothing is lost."""
    counters = Counters()
    labelled = [
        value
        for field in dataclasses.fields(counters)
        if isinstance(value := getattr(counters, field.name), Counter)
    ]
    for counter in labelled:
        counter.update(values)
    gauges = dataclasses.replace(CALM, connections=Counter(values))

    calm, full = samples_of(hub_families(Counters())), samples_of(hub_families(counters, gauges))

    assert full.keys() == calm.keys()
    assert sum(full.values()) - sum(calm.values()) == len(values) * (len(labelled) + 1)


def test_every_label_has_a_listed_set_of_values() -> None:
    """Apart from the version, which is one per node, and a histogram's bounds."""
    listed: dict[str, set[str]] = {}
    for label in LABELS:
        listed.setdefault(label.name, {OTHER}).update(label.meanings)
    listed["version"] = {"1.2.3"}
    listed["le"] = {*map(str, LATENCY_BOUNDS), "+Inf"}

    for name, labels in samples_of(hub_families(Counters())):
        for label_name, value in labels:
            assert value in listed[label_name], name


@pytest.mark.parametrize("label", LABELS)
def test_every_label_value_has_a_meaning(label: Label) -> None:
    """The meaning stands in the documents, and not in each scrape."""
    assert all(meaning.strip() for meaning in label.meanings.values())
    rows = [f"| `{value}` | {meaning} |" for value, meaning in label.meanings.items()]
    assert "\n".join(rows) in METRICS_PAGE.read_text()


def test_every_metric_has_a_prefix_and_a_meaning() -> None:
    """One prefix to search for, and a short sentence for each, which the documents have too."""
    documented = METRICS_PAGE.read_text()
    for family in hub_families(Counters()):
        assert family.name.startswith("hub_")
        assert re.fullmatch(r"[^.]{1,100}\.", family.documentation), family.name
        counted = "_total" if family.type == "counter" else ""
        assert f"| `{family.name}{counted}` | {family.documentation} |" in documented


def test_the_documents_name_every_histogram() -> None:
    """The documents name no other metric as a histogram, because only a histogram has quantiles."""
    told = METRICS_PAGE.read_text().partition("Histograms are ")[2].partition(". All")[0]
    found = {each.name for each in hub_families(Counters()) if each.type == "histogram"}
    assert set(re.findall("`([^`]+)`", told)) == found


def test_help_texts_are_a_small_part_of_a_page() -> None:
    """Every scrape of every node carries them: they were half of it."""
    text, _ = page(busy_counters())
    lines = [line for line in text.splitlines() if "hub_" in line]
    texts = sum(len(line) for line in lines if line.startswith("# HELP"))
    assert texts < sum(map(len, lines)) / 3


@pytest.mark.parametrize(
    ("label", "values"),
    [
        (POLICY, set(Overflow)),
        (REASON, set(GapReason)),
        (CODE, {error.code for error in HubError.__subclasses__() if "hub.errors" in str(error)}),
        (REFUSAL, set(HTTP_STATUS) | set(CLOSE_CODE_OF_ERROR)),
        (CLOSE_CODE, {str(int(code)) for code in CloseCode}),
    ],
)
def test_the_listed_values_are_those_of_the_code(label: Label, values: set[str]) -> None:
    """A value added elsewhere fails here until it has a meaning; until then it is `other`."""
    assert values <= set(label.meanings)


def test_the_plain_page_is_what_the_parser_reads() -> None:
    """Also with the process, platform and collector numbers beside the hub's."""
    text, content_type = page(busy_counters())

    families = {family.name: family for family in read_plain(text)}
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert families["hub_publications"].samples[0].value == 7
    assert families["hub_delivery_seconds"].type == "histogram"
    assert {"python_info", "python_gc_collections"} <= families.keys()


def test_openmetrics_is_sent_to_who_accepts_it() -> None:
    """Its parser is the stricter one: units, order, `# EOF`."""
    text, content_type = page(busy_counters(), OPENMETRICS)

    families = {family.name: family for family in read_openmetrics(text)}
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert families["hub_delivery_seconds"].unit == "seconds"
    assert families["hub_sent_bytes"].unit == "bytes"


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/plain;version=abc",
        "application/openmetrics-text;version=x.y",
        ",;=",
        "\x00",
    ],
)
def test_no_accept_header_breaks_the_page(accept: str) -> None:
    """Both formats have one version here; a stranger's is not repeated."""
    text, content_type = page(Counters(), accept)

    assert "hub_publications_total 0.0" in text
    assert "abc" not in content_type
    assert "x.y" not in content_type


def test_two_nodes_in_one_process_do_not_share_numbers() -> None:
    """Nothing is registered globally."""
    first, _ = page(Counters(publications=1))
    second, _ = page(Counters(publications=2))

    assert "hub_publications_total 1.0" in first
    assert "hub_publications_total 2.0" in second


def test_scrapes_of_one_turn_of_the_loop_cost_one_page_a_format() -> None:
    """Many in a pipeline would hold the loop; the next turn sees what is new."""
    scrapes: list[None] = []
    deferred: list[Callable[[], None]] = []

    def gauges() -> Gauges:
        scrapes.append(None)
        return CALM

    collector = HubCollector(Counters(), gauges, new_loop_lag(), version="1.2.3")
    metrics = Metrics(CollectorRegistry(), collector, defer=deferred.append)
    scrapes.clear()
    accepted = [
        "",
        "text/plain",
        "application/openmetrics-text",
        "Application/OpenMetrics-Text;q=1",
    ]
    pages = [metrics.render(accept) for accept in accepted]
    assert len(scrapes) == 2
    assert pages[0] == pages[1] != pages[2] == pages[3]
    while deferred:
        deferred.pop()()
    metrics.render()
    assert len(scrapes) == 3


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_pages_of_workers_are_one_page(accept: str) -> None:
    """Each family comes once, and each sample has its worker."""
    pages = []
    for worker in (1, 2):
        counters = Counters(publications=worker)
        collector = HubCollector(
            counters, lambda: CALM, LoopLag(structlog.get_logger()), version="1"
        )
        pages.append(Metrics(CollectorRegistry(), collector, worker=worker).render(accept)[0])
    text = merged(pages).decode()
    families = list((read_openmetrics if accept else read_plain)(text))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    told = {
        sample.labels["worker"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "hub_publications_total"
    }
    assert told == {"1": 1.0, "2": 2.0}
    assert all("worker" in sample.labels for family in families for sample in family.samples)
    lines = [line for line in text.splitlines() if line.startswith("# HELP hub_publications")]
    assert len(lines) == 1
