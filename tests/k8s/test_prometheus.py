"""A real Prometheus scrapes real nodes: every query of the dashboard and every rule has an answer.

promtool judges syntax and made-up series. Only here does an expression meet the labels that the
hub's series really have: two that do not match each other are an error, or an empty answer.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import yaml

from tests.k8s.test_dashboard import dashboard_queries
from tests.k8s.tools import alerts, program, rule_groups
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer, free_port
from tests.support.waiting import eventually_blocking

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

END_SECONDS = 20.0
# What a machine with other work on it may set off as well.
SLOW_MACHINE = {
    "HubEventLoopSlow",
    "HubEventLoopStalls",
    "HubCpuSaturated",
    "HubDeliverySlow",
    "HubBrokerSlow",
    "HubBrokerLag",
}
WITHOUT_REDIS = {"HubBrokerAway", "HubNodeNotReady", "HubNoNodeReady"}


@dataclass
class Prometheus:
    http: httpx.Client
    """Begins with its URL."""

    def ask(self, path: str, **params: str) -> Any:
        return self.http.get(f"/api/v1/{path}", params=params).json()["data"]

    def value(self, query: str) -> float:
        """Of a query with one number for an answer; 0 while it has none."""
        result = self.ask("query", query=query)["result"]
        return float(result[0]["value"][1]) if result else 0.0

    def is_up(self) -> bool:
        try:
            return self.http.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def active(self) -> set[str]:
        """Alerts that fire, or will if it goes on like this."""
        return {rule["name"] for rule in self.rules() if rule["state"] != "inactive"}


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(
    redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """With two nodes, scraped and judged every second, once it has seen both some times."""
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    with HubProcess(HUB_BROKER=redis.url) as first, HubProcess(HUB_BROKER=redis.url) as second:
        configure(folder, [first, second])
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={folder}/prometheus.yaml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
                running = Prometheus(http)
                eventually_blocking(running.is_up, seconds=30, what="Prometheus' readiness")
                seen = 'min(count_over_time(up{job="hub"}[1m])) * (count(up == 1) == 2)'
                eventually_blocking(
                    lambda: running.value(seen) >= 3, what="three scrapes of both nodes"
                )
                yield running
        finally:
            process.kill()
            process.wait(END_SECONDS)


def configure(folder: Path, nodes: list[HubProcess]) -> None:
    """The labels are those that the operator gives a pod's series."""
    targets = [
        {
            "targets": [f"127.0.0.1:{node.port}"],
            "labels": {"namespace": "hub", "pod": f"hub-{number}"},
        }
        for number, node in enumerate(nodes)
    ]
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "hub", "static_configs": targets}],
    }
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": rule_groups()}))
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))


def test_every_query_of_the_dashboard_has_an_answer(prometheus: Prometheus) -> None:
    """Also where nothing has happened; one that filters by `> 0` or `== 1` may be empty."""
    publish_some(prometheus)
    for query in dashboard_queries():
        filled = query.replace("$__rate_interval", "10s")
        filled = filled.replace("$namespace", "hub").replace("$pod", "hub-.*")
        result = prometheus.ask("query", query=filled)["result"]
        assert result or filled.endswith(("> 0", "== 1")), filled


def publish_some(prometheus: Prometheus) -> None:
    """Publishes until a scrape has seen deliveries."""
    (node, *_) = prometheus.ask("targets")["activeTargets"]
    url = node["scrapeUrl"].removesuffix("/metrics")

    def delivered() -> bool:
        httpx.post(f"{url}/api/publish/news", json=1, timeout=30).raise_for_status()
        params = {"channel": "news", "last": "1", "wait": "0"}
        httpx.get(f"{url}/poll", params=params, timeout=30).raise_for_status()
        return prometheus.value("sum(rate(hub_deliveries_total[10s]))") > 0

    eventually_blocking(delivered, what="a rate of deliveries")


def test_every_rule_can_be_evaluated_and_a_calm_hub_sets_off_none(prometheus: Prometheus) -> None:
    """None is about to fire either, unless it is the machine that is slow."""

    def judged() -> bool:
        return all(rule["health"] != "unknown" for rule in prometheus.rules())

    eventually_blocking(judged, what="the first judgement of every rule")
    assert {rule["name"] for rule in prometheus.rules()} == set(alerts())
    assert [rule for rule in prometheus.rules() if rule["health"] != "ok"] == []
    assert prometheus.active() - SLOW_MACHINE == set()


def test_a_redis_that_is_gone_sets_off_what_it_should(
    prometheus: Prometheus, redis: RedisServer
) -> None:
    """Nodes that cannot reach it, that are not ready, and that there is no other."""
    redis.kill()
    eventually_blocking(
        lambda: prometheus.active() >= WITHOUT_REDIS, seconds=40, what="alerts about Redis"
    )
    assert "HubGone" not in prometheus.active()
    assert "HubNodeDown" not in prometheus.active()
