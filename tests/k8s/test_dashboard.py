"""The dashboard and the alerts ask for metrics that the hub has."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.k8s.tools import K8S, Manifest, alerts, built, run, the
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer

FILE = K8S / "components" / "monitoring" / "hub-dashboard.json"
ADAPTER = FILE.with_name("prometheus-adapter-values.yaml")
ROWS = {
    "Connections",
    "Publications",
    "Deliveries",
    "Drops and gaps",
    "Latency",
    "Event loop and process",
    "Redis",
    "Who may",
    "Hooks",
}
# Prometheus' own, and those of kube-state-metrics.
FOREIGN = re.compile(r"up|kube_(deployment|horizontalpodautoscaler)_\w+")
_KEYWORDS = {
    "and",
    "or",
    "unless",
    "on",
    "by",
    "without",
    "ignoring",
    "group_left",
    "bool",
    "offset",
}


def panels() -> list[dict[str, Any]]:
    every: list[dict[str, Any]] = json.loads(FILE.read_text())["panels"]
    return every


def dashboard_queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel.get("targets", [])]


def names_in(query: str) -> set[str]:
    """The metrics of a PromQL expression: what is neither label, function nor keyword."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\boffset \w+', " ", query)
    bare = re.sub(r"\b(?:by|without|on|ignoring|group_left)\s*\([^)]*\)", " ", bare)
    words = re.findall(r"[a-zA-Z_:][\w:]*(?!\w*\s*\()", bare)
    return set(words) - _KEYWORDS


@pytest.fixture(scope="module")
def exported() -> Iterator[set[str]]:
    """The series of a real node with a real Redis."""
    with RedisServer() as redis, HubProcess(HUB_BROKER=redis.url) as hub:
        text = httpx.get(f"{hub.url}/metrics", timeout=30).text
        families = text_string_to_metric_families(text)
        yield {sample.name for family in families for sample in family.samples}


def test_the_names_in_a_query_are_its_metrics() -> None:
    """The reader itself, or nothing below could fail."""
    query = (
        'sum by (le) (rate(a_b{c="d_e"}[5m])) / on (f) g_h > clamp_min(0.5 * i, 10) unless j == 1'
    )
    assert names_in(query) == {"a_b", "g_h", "i", "j"}


def test_the_dashboard_asks_for_nothing_that_the_hub_does_not_export(exported: set[str]) -> None:
    """A panel whose metric is misspelt would stay empty, and look like a calm hub."""
    asked = {name for query in dashboard_queries() for name in names_in(query)}
    assert {name for name in asked - exported if not FOREIGN.fullmatch(name)} == set()


def test_the_alerts_ask_for_nothing_that_the_hub_does_not_export(exported: set[str]) -> None:
    """An alert whose metric is misspelt would never fire."""
    asked = {name for rule in alerts().values() for name in names_in(rule["expr"])}
    assert {name for name in asked - exported if not FOREIGN.fullmatch(name)} == set()


def test_the_adapter_asks_for_nothing_that_the_hub_does_not_export(exported: set[str]) -> None:
    """Otherwise nothing would be scaled by it."""
    rules = yaml.safe_load(ADAPTER.read_text())["rules"]["custom"]
    assert {name for rule in rules for name in names_in(rule["seriesQuery"])} <= exported


def test_every_metric_of_the_hub_is_on_the_dashboard(exported: set[str]) -> None:
    """A new one fails here until somebody can see it."""
    asked = {
        re.sub("_(bucket|count|sum)$", "", n) for q in dashboard_queries() for n in names_in(q)
    }
    hub = {re.sub("_(bucket|count|sum)$", "", name) for name in exported if name.startswith("hub_")}
    # `_created` is when a counter began, which the client library adds.
    assert {name for name in hub - asked if not name.endswith("_created")} == set()


def test_the_dashboard_has_its_rows_and_its_panels_do_not_overlap() -> None:
    """The dashboard has all required rows, and each panel has its own place and id."""
    assert {panel["title"] for panel in panels() if panel["type"] == "row"} >= ROWS
    assert len({panel["id"] for panel in panels()}) == len(panels())
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels()):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, place
        assert max(x for x, _ in cells) < 24, place
        taken |= cells


def test_every_query_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    """By promtool, with Grafana's variables filled in as Grafana does."""
    filled = [
        query.replace("$__rate_interval", "1m").replace("$namespace", ".*").replace("$pod", ".*")
        for query in dashboard_queries()
    ]
    rules: list[Manifest] = [{"record": f"q:{n}", "expr": query} for n, query in enumerate(filled)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert not any("$" in query for query in filled)
    ended = run("promtool", "check", "rules", file)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_grafana_finds_the_dashboard_by_its_label() -> None:
    """The ConfigMap holds the file as it is."""
    config = the(built("production"), "ConfigMap", "hub-dashboard")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(config["data"][FILE.name]) == json.loads(FILE.read_text())
