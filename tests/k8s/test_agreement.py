"""Manifests and hub agree: times, limits, paths and names that stand in two places."""

from typing import Any

import httpx2 as httpx
import pytest
import yaml

from hub.settings import Settings
from hub.settings.catalog import by_name
from hub.settings.sources import environment_layer, unknown_variables
from tests.k8s.tools import K8S, OVERLAYS, ROOT, Manifest, alerts, built, deployment, the
from tests.support.hub_process import HubProcess

MONITORING = K8S / "components" / "monitoring"
# hub.node.server gives the last HTTP requests 2 s; the rest is for a busy machine.
SLACK_SECONDS = 2 + 3
# Longer than this a node that hangs would hold up a roll-out for nothing.
MOST_SLACK_SECONDS = 60
# What may wait to be written before publishing is refused (hub/docs/limits.md).
BACKLOG_BYTES = 32 * 2**20
# Of a node with 10,000 connections at 2.5 KB (hub/docs/figures.md), and some. Guess, not measured.
PROCESS_BYTES = 128 * 2**20
# What asks nobody who they are.
PRIVATE = {"/metrics", "/healthz", "/readyz"}


def settings_of(overlay: str) -> Settings:
    """The hub's settings with what the overlay's ConfigMap says; the rest is default."""
    return Settings(**environment_layer(environment_of(overlay)).values)


def environment_of(overlay: str) -> dict[str, str]:
    data: dict[str, str] = the(built(overlay), "ConfigMap", "hub-settings")["data"]
    return data


def container_of(overlay: str) -> Manifest:
    (found,) = deployment(built(overlay), "hub")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def closes_until(overlay: str) -> float:
    """Seconds from the order to stop until the last goodbye is said."""
    settings = settings_of(overlay)
    before = container_of(overlay)["lifecycle"]["preStop"]["sleep"]["seconds"]
    return float(before + settings.ready_delay_seconds + settings.drain_seconds)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_variable_is_a_setting_with_a_value_the_hub_takes(overlay: str) -> None:
    """A misspelt one would have no effect, and a wrong one would keep every node from starting."""
    assert list(unknown_variables(environment_of(overlay))) == []
    assert settings_of(overlay).max_connections == 50_000


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_stop_fits_into_the_grace_period(overlay: str) -> None:
    """preStop, ready delay, drain window and close time-out, or the rest is cut by SIGKILL."""
    spec = deployment(built(overlay), "hub")["spec"]["template"]["spec"]
    slack = spec["terminationGracePeriodSeconds"] - closes_until(overlay)
    slack -= settings_of(overlay).close_timeout_seconds
    assert SLACK_SECONDS <= slack <= MOST_SLACK_SECONDS


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_next_node_drains_when_the_one_before_has_said_its_goodbyes(overlay: str) -> None:
    """The new node counts as available no earlier, and no node is missing meanwhile."""
    spec = deployment(built(overlay), "hub")["spec"]
    assert spec["minReadySeconds"] >= closes_until(overlay)
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_that_is_bounded_fits_into_the_memory_together(overlay: str) -> None:
    """Outboxes, holes, journal and backlog at their limits at once must not end the process."""
    settings = settings_of(overlay)
    limit = memory_bytes(container_of(overlay)["resources"]["limits"]["memory"])
    # hub.settings.fields: a quarter of memory by default.
    bounded = limit // 4 + settings.broker_hold_bytes + settings.journal_bytes
    assert bounded + BACKLOG_BYTES + PROCESS_BYTES <= limit


def memory_bytes(quantity: str) -> int:
    """Of `512Mi` or `1Gi`, the two units that are used."""
    return int(quantity[:-2]) * {"Mi": 2**20, "Gi": 2**30}[quantity[-2:]]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_peer_that_comes_before_load_balancers_know_is_served(overlay: str) -> None:
    """The preStop hook waits, not the hub: while it says "not ready" it turns sessions away."""
    assert container_of(overlay)["lifecycle"]["preStop"]["sleep"]["seconds"] >= 5
    assert settings_of(overlay).ready_delay_seconds == 0


def test_probes_and_scrapes_meet_paths_that_answer_without_credentials() -> None:
    """As the kubelet and Prometheus ask: no header but the host's."""
    container = container_of("production")
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["startupProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    (endpoint,) = the(built("production"), "ServiceMonitor", "hub")["spec"]["endpoints"]
    with HubProcess(HUB_OPERATOR_KEYS="o" * 32, HUB_TOKEN_KEYS="t" * 32) as hub:
        for path in ("/healthz", "/readyz", endpoint["path"]):
            assert httpx.get(hub.url + path, timeout=30).status_code == 200, path


def test_ports_are_the_one_that_the_image_listens_on() -> None:
    """Service, policies, probes and ServiceMonitor all name it `http`."""
    (port,) = container_of("production")["ports"]
    assert port == {"name": "http", "containerPort": 8000}
    assert "HUB_PORT=8000" in (ROOT / "Dockerfile").read_text()
    service = the(built("production"), "Service", "hub")
    assert service["spec"]["ports"][0]["targetPort"] == "http"
    (endpoint,) = the(built("production"), "ServiceMonitor", "hub")["spec"]["endpoints"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    # Where Prometheus takes the value of its label `job` from, which the alerts ask for.
    monitor = the(built("production"), "ServiceMonitor", "hub")["spec"]
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "hub"
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()


def test_the_user_is_the_one_of_the_image() -> None:
    """The user has number 10001 and owns nothing in the image."""
    context = deployment(built("production"), "hub")["spec"]["template"]["spec"]["securityContext"]
    user, group = context["runAsUser"], context["runAsGroup"]
    assert f"USER {user}:{group}" in (ROOT / "Dockerfile").read_text()


# -- the ingress -------------------------------------------------------------------------------


INGRESSES = ("hub", "hub-operators")


def ingress(name: str = "hub") -> Manifest:
    return the(built("production"), "Ingress", name)


def leads_to_hub(path: str, name: str = "hub") -> bool:
    """Whether an ingress has a rule for `path`, by the rules of its path types."""
    (rule,) = ingress(name)["spec"]["rules"]
    return any(
        path == one["path"] or (one["pathType"] == "Prefix" and path.startswith(one["path"] + "/"))
        for one in rule["http"]["paths"]
    )


def public_paths() -> list[str]:
    """Of the documents' table of endpoints: whatever somebody outside may need."""
    lines = (ROOT / "hub/docs/endpoints.md").read_text().splitlines()
    heads = [line.split("`")[1] for line in lines if line.startswith(("| `GET /", "| `POST /"))]
    return [head.split()[1].replace("{", "").replace("}", "") for head in heads]


def test_the_ingress_leads_to_all_that_is_public_and_to_nothing_else() -> None:
    """/metrics and the probes ask nobody who they are, so nobody outside gets there."""
    documented = set(public_paths())
    assert documented >= PRIVATE | {"/ws", "/sse", "/poll", "/command"}
    # What the client's entry and the dashboard load besides.
    wanted = documented | {"/client/hub.js", "/dashboard/dashboard.js"}
    operators = {path for path in wanted if path.startswith(("/api", "/dashboard"))}
    operators -= {"/api/publish", "/api/publish/channel"}
    assert {path for path in wanted if leads_to_hub(path)} == wanted - PRIVATE - operators
    assert {path for path in wanted if leads_to_hub(path, "hub-operators")} == wanted - PRIVATE
    assert not any(leads_to_hub("/", name) for name in INGRESSES)


def test_behind_the_ingress_the_clients_address_is_known_and_each_peer_has_limits() -> None:
    """Else all clients would share the limits of nginx' address."""
    settings = settings_of("production")
    assert settings.trusted_proxies
    limits = settings.peer_limits()
    assert limits.address_connections
    assert limits.handshakes
    assert limits.commands
    assert limits.inbound_bytes
    assert limits.address_connections < settings.max_connections


@pytest.mark.parametrize(
    ("prefix", "off"), [("nginx.ingress.kubernetes.io/", "off"), ("nginx.org/", "False")]
)
def test_nginx_neither_cuts_what_is_quiet_nor_buffers_what_is_said(prefix: str, off: str) -> None:
    """Heartbeats and the longest poll come sooner than its time-out, in both dialects of nginx."""
    annotations = ingress()["metadata"]["annotations"]
    assert annotations == ingress("hub-operators")["metadata"]["annotations"]
    settings = settings_of("production")
    quiet = max(settings.heartbeat_seconds, settings.poll_max_wait_seconds)
    for name in ("proxy-read-timeout", "proxy-send-timeout"):
        assert int(annotations[prefix + name].rstrip("s")) > quiet + 5
    assert annotations[prefix + "proxy-buffering"] == off
    size = (
        annotations.get(prefix + "proxy-body-size") or annotations[prefix + "client-max-body-size"]
    )
    assert int(size.removesuffix("m")) * 2**20 > settings.max_body_bytes


@pytest.mark.parametrize("name", INGRESSES)
def test_the_ingress_has_a_certificate_for_every_host_it_names(name: str) -> None:
    """Tokens travel in it."""
    spec = ingress(name)["spec"]
    assert {rule["host"] for rule in spec["rules"]} == {h for t in spec["tls"] for h in t["hosts"]}
    assert not any(rule["host"].endswith(".invalid") for rule in spec["rules"])


# -- scaling -----------------------------------------------------------------------------------


def adapter_rules() -> dict[str, dict[str, Any]]:
    values = yaml.safe_load((MONITORING / "prometheus-adapter-values.yaml").read_text())
    return {rule["name"]["as"]: rule for rule in values["rules"]["custom"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_autoscaler_asks_for_what_the_adapter_serves(overlay: str) -> None:
    """The autoscaler adds nodes well below the number of connections at
    which a node refuses them."""
    scaler = the(built(overlay), "HorizontalPodAutoscaler", "hub")["spec"]
    targets = {m["pods"]["metric"]["name"]: m["pods"]["target"] for m in scaler["metrics"]}
    assert targets.keys() == adapter_rules().keys()
    assert (
        int(targets["hub_connections"]["averageValue"]) * 2 <= settings_of(overlay).max_connections
    )
    assert scaler["minReplicas"] >= 2
    # Two hands on one number: every apply would undo what the autoscaler did.
    assert "replicas" not in deployment(built(overlay), "hub")["spec"]


def test_the_alert_on_the_loop_comes_after_the_autoscaler_has_tried() -> None:
    """The autoscaler adds nodes at half of the lag that the alert calls slow."""
    scaler = the(built("production"), "HorizontalPodAutoscaler", "hub")["spec"]
    (lag,) = (
        m["pods"]["target"]["averageValue"]
        for m in scaler["metrics"]
        if m["pods"]["metric"]["name"] == "hub_event_loop_lag_p99_seconds"
    )
    assert int(lag.removesuffix("m")) / 1000 == 0.05
    assert alerts()["HubEventLoopSlow"]["expr"].strip().endswith("> 0.1")


def test_every_setting_that_the_comments_name_exists() -> None:
    """A comment that names a setting which is gone misleads."""
    known = {info.env for info in by_name().values()}
    for file in K8S.rglob("*.yaml"):
        for word in file.read_text().replace("`", " ").replace("=", " ").split():
            name = word.strip("(),.:;")
            if name.startswith("HUB_"):
                assert name in known, f"{file}: {name}"
