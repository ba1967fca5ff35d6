"""The manifests that `kubectl apply -k` sends are valid, restricted, closed,
and agree with each other."""

import ipaddress
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s.tools import (
    CHART,
    K8S,
    OVERLAYS,
    Manifest,
    built,
    deployment,
    of_kind,
    rendered,
    run,
    the,
)

# The oldest in which the preStop hook `sleep` needs no feature gate, and the newest there is.
KUBERNETES = ("1.30", "1.37")
# Of the Prometheus operator: no part of Kubernetes' own schemas.
FOREIGN = {"ServiceMonitor", "PrometheusRule"}
SECRET_NAMES = {
    "dev": {"hub-keys", "hub-redis"},
    "production": {"hub-keys", "hub-broker"},
}


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Every pod template's spec by the name of what makes it."""
    return {
        m["metadata"]["name"]: m["spec"]["template"]["spec"]
        for m in of_kind(manifests, "Deployment")
    }


def containers(spec: Manifest) -> list[Manifest]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def found(value: Any, key: str) -> list[Any]:
    """Every value under `key`, at any depth."""
    if isinstance(value, dict):
        here = [value[key]] if key in value else []
        return here + [one for inner in value.values() for one in found(inner, key)]
    if isinstance(value, list):
        return [one for inner in value for one in found(inner, key)]
    return []


def check_schema(manifests: Iterable[Manifest], version: str, folder: Path) -> None:
    """Assert that all but foreign kinds fit the schema of this version of Kubernetes, strictly."""
    own = [each for each in manifests if each["kind"] not in FOREIGN]
    files = [folder / f"{number}.yaml" for number in range(len(own))]
    for file, manifest in zip(files, own, strict=True):
        file.write_text(yaml.safe_dump(manifest))
    ended = run("kubernetes-validate", "--strict", "-k", version, *files)
    assert ended.returncode == 0, ended.stdout + ended.stderr


# -- valid -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_manifest_fits_the_schema_of_kubernetes(
    overlay: str, version: str, tmp_path: Path
) -> None:
    """Strictly: a misspelt field fails too, which a cluster would drop without a word."""
    check_schema(built(overlay), version, tmp_path)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_but_the_namespace_is_in_the_namespace(overlay: str) -> None:
    """Nothing is applied to wherever the operator happens to be."""
    manifests = built(overlay)
    (namespace,) = of_kind(manifests, "Namespace")
    others = [m for m in manifests if m["kind"] != "Namespace"]
    assert {m["metadata"].get("namespace") for m in others} == {namespace["metadata"]["name"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_meet_the_pods_they_are_for(overlay: str) -> None:
    """A Service, budget or policy whose selector misses by a letter guards nothing."""
    manifests = built(overlay)
    labels = [m["spec"]["template"]["metadata"]["labels"] for m in of_kind(manifests, "Deployment")]
    wanted = [service["spec"]["selector"] for service in of_kind(manifests, "Service")]
    for kind in ("Deployment", "PodDisruptionBudget"):
        wanted += [m["spec"]["selector"]["matchLabels"] for m in of_kind(manifests, kind)]
    wanted += [m["spec"]["podSelector"]["matchLabels"] for m in of_kind(manifests, "NetworkPolicy")]
    wanted += [
        constraint["labelSelector"]["matchLabels"]
        for constraints in found(manifests, "topologySpreadConstraints")
        for constraint in constraints
    ]
    for selector in wanted:
        assert any(selector.items() <= pod.items() for pod in labels), selector


def test_production_spreads_nodes_over_machines_and_zones_by_one_rule_each() -> None:
    """An overlay's list is merged with the base's by value: a changed entry would be one more."""
    [constraints] = found(built("production"), "topologySpreadConstraints")
    rules = [(each["topologyKey"], each["whenUnsatisfiable"]) for each in constraints]
    assert rules == [
        ("topology.kubernetes.io/zone", "ScheduleAnyway"),
        ("kubernetes.io/hostname", "DoNotSchedule"),
    ]


# -- restricted --------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_keep_to_the_restricted_standard_and_the_namespace_enforces_it(overlay: str) -> None:
    """Kubernetes' Pod Security Standards, profile "restricted", and a read-only root besides."""
    manifests = built(overlay)
    (namespace,) = of_kind(manifests, "Namespace")
    enforced = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert enforced == "restricted"
    for name, spec in pods(manifests).items():
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "volumes"}, name
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(spec):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert not found(container["ports"], "hostPort")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_get_no_token_of_the_cluster_and_no_variables_of_services(overlay: str) -> None:
    """A Service called `hub` would set HUB_PORT to `tcp://...`, and the hub would not start."""
    for name, spec in pods(built(overlay)).items():
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_container_has_what_it_asks_for_and_no_limit_on_processor_time(overlay: str) -> None:
    """Memory as requested, so that nobody else's pods get it evicted; throttling stalls a loop."""
    for name, spec in pods(built(overlay)).items():
        for container in containers(spec):
            resources = container["resources"]
            assert resources["limits"] == {"memory": resources["requests"]["memory"]}, name
            assert "cpu" in resources["requests"], name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_images_have_a_version(overlay: str) -> None:
    """`latest`, or none, would make two nodes of one roll-out differ."""
    for image in found(pods(built(overlay)), "image"):
        _, _, tag = image.rpartition(":")
        assert tag, image
        assert "@" not in image or re.search(r"@sha256:[0-9a-f]{64}$", image), image
        assert tag not in {image, "latest"}, image


BY_DIGEST = re.compile(r"[a-z0-9./-]+@sha256:[0-9a-f]{64}")


def images(manifests: list[Manifest]) -> dict[str, str]:
    """The image of each deployment's only container."""
    return {name: spec["containers"][0]["image"] for name, spec in pods(manifests).items()}


def test_production_names_every_image_by_its_digest_also_that_of_a_redis_it_adds(
    tmp_path: Path,
) -> None:
    """Zeros until somebody writes his own: what no registry has cannot run by mistake."""
    redis = {"enabled": True, "image": of_production()["redis"]["image"]}
    for made in (
        images(with_redis(tmp_path)),
        images(rendered(of_production() | {"redis": redis})),
    ):
        assert made.keys() == {"hub", "hub-redis"}
        for image in made.values():
            assert BY_DIGEST.fullmatch(image), image
            assert image.endswith("0" * 64)


def test_an_image_that_kustomize_edit_writes_is_the_image_that_runs(tmp_path: Path) -> None:
    """`kustomize edit set image hub=registry.example.com/hub@sha256:...`: an entry as here."""
    digest = "sha256:" + "0a" * 32

    def edit(said: Manifest) -> None:
        kept = [each for each in said["images"] if each["name"] != "hub"]
        written = {"digest": digest, "name": "hub", "newName": "registry.example.com/hub"}
        said["images"] = [written, *kept]

    made = images(edited_production(tmp_path, edit))
    assert made == {"hub": f"registry.example.com/hub@{digest}"}


def edited_production(tmp_path: Path, edit: Callable[[Manifest], None]) -> list[Manifest]:
    """Returns the manifests of a copy of the overlay whose file `edit` has changed."""
    folder = shutil.copytree(K8S, tmp_path / "k8s", symlinks=True)
    file = folder / "overlays" / "production" / "kustomization.yaml"
    said = yaml.safe_load(file.read_text())
    edit(said)
    file.write_text(yaml.safe_dump(said))
    ended = run("kubectl", "kustomize", file.parent)
    assert ended.returncode == 0, ended.stderr
    return list(yaml.safe_load_all(ended.stdout))


def with_redis(tmp_path: Path) -> list[Manifest]:
    """As the document says: the component in place of the policy, which is the way to another."""

    def edit(said: Manifest) -> None:
        said["resources"].remove("network-policy.yaml")
        said["components"].append("../../components/redis")

    return edited_production(tmp_path, edit)


def of_production() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CHART / "production.yaml").read_text())
    return values


def test_production_holds_no_secret_and_dev_only_examples() -> None:
    """Keys in the repository would be known to everybody."""
    assert of_kind(built("production"), "Secret") == []
    for secret in of_kind(built("dev"), "Secret"):
        assert secret["metadata"]["name"].startswith(tuple(SECRET_NAMES["dev"]))
    for file in K8S.rglob("*.env"):
        if file.name != "settings.env":
            assert "example" in file.name
            assert all("for-dev-only" in line for line in file.read_text().splitlines())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_refer_to_the_secrets_that_are_documented(overlay: str) -> None:
    """The references are not optional, so a pod does not start without keys and a shared broker."""
    manifests = built(overlay)
    references = found(pods(manifests), "secretRef") + found(pods(manifests), "secretKeyRef")
    names = {reference["name"] for reference in references}
    generated = {m["metadata"]["name"] for m in of_kind(manifests, "Secret")}
    if generated:
        assert names == generated
    assert len(names) == len(SECRET_NAMES[overlay])
    for name in names:
        assert name.startswith(tuple(SECRET_NAMES[overlay]))
    assert not any(reference.get("optional") for reference in references)


# -- the network -------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_is_closed_in_both_directions_but_for_what_is_named(overlay: str) -> None:
    """Where one policy selects a pod for a direction, only what some policy names passes."""
    manifests = built(overlay)
    policies = [m["spec"] for m in of_kind(manifests, "NetworkPolicy")]
    for name in pods(manifests):
        closed = [
            direction
            for policy in policies
            if policy["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": name}
            for direction in policy["policyTypes"]
        ]
        assert {"Ingress", "Egress"} <= set(closed), name
    for policy in policies:
        for rule in policy.get("ingress", []):
            # An empty peer list would mean anybody.
            assert rule["from"], policy
            assert rule["ports"], policy
        for rule in policy.get("egress", []):
            assert rule["ports"], policy
            # Nor would one of these mean nobody.
            assert rule["to"], policy


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nodes_may_ask_for_names(overlay: str) -> None:
    """Without names they would find no Redis: DNS is open over both protocols, to
    the cluster's own alone."""
    base = next(
        m["spec"]
        for m in of_kind(built(overlay), "NetworkPolicy")
        if m["metadata"]["name"] == "hub"
    )
    assert base["policyTypes"] == ["Ingress", "Egress"]
    ports = [port for rule in base["egress"] for port in rule["ports"]]
    assert ports == [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    (rule,) = base["egress"]
    dns, cache = rule["to"]
    assert dns["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}
    assert dns["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kube-system"}
    assert ipaddress.ip_network(cache["ipBlock"]["cidr"]).is_link_local


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nodes_may_reach_dns_and_redis_and_nothing_else(overlay: str) -> None:
    """Over all policies that select them, which add up."""
    hub = {"app.kubernetes.io/name": "hub"}
    policies = [m["spec"] for m in of_kind(built(overlay), "NetworkPolicy")]
    ports = {
        port["port"]
        for policy in policies
        if policy["podSelector"]["matchLabels"] == hub
        for rule in policy.get("egress", [])
        for port in rule["ports"]
    }
    assert ports <= {53, 6379, 26379}
    assert {53, 6379} <= ports


def test_behind_the_ingress_every_limit_is_set() -> None:
    """One that is off there is one that somebody forgot."""
    settings = the(built("production"), "ConfigMap", "hub-settings")["data"]
    limits = {name for name in settings if "RATE" in name or name.endswith("_CONNECTIONS")}
    assert limits == {
        "HUB_MAX_CONNECTIONS", "HUB_ADDRESS_CONNECTIONS", "HUB_SUBJECT_CONNECTIONS",
        "HUB_RATE_HANDSHAKES", "HUB_RATE_COMMANDS", "HUB_RATE_PUBLISHES", "HUB_RATE_INBOUND_BYTES",
    }  # fmt: skip


def test_the_nodes_of_dev_may_go_to_its_redis_and_nobody_else_may() -> None:
    """From both ends: out of the hub, into Redis, on the port that it listens on."""
    manifests = built("dev")
    out = the(manifests, "NetworkPolicy", "hub-to-redis")["spec"]["egress"]
    into = next(
        m["spec"]["ingress"]
        for m in of_kind(manifests, "NetworkPolicy")
        if m["metadata"]["name"] == "hub-redis"
    )
    redis = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "hub-redis"}}}
    assert out == [{"to": [redis], "ports": [{"port": 6379}]}]
    peers = [peer["podSelector"]["matchLabels"] for rule in into for peer in rule["from"]]
    assert peers == [{"app.kubernetes.io/name": "hub"}, {"hub-redis-peer": "true"}]


def test_the_nodes_of_production_reach_private_addresses_only() -> None:
    """Whatever `hub-broker` says, the hub is no way out to the Internet."""
    out = the(built("production"), "NetworkPolicy", "hub-to-redis")["spec"]["egress"]
    blocks = [ipaddress.ip_network(block["cidr"]) for block in found(out, "ipBlock")]
    assert blocks
    assert all(block.is_private for block in blocks)


def test_dev_brings_the_redis_that_its_nodes_are_told_of() -> None:
    """Name, port and password are those of the component."""
    manifests = built("dev")
    environment = pods(manifests)["hub"]["containers"][0]["env"]
    names = [variable["name"] for variable in environment]
    # Kubernetes puts into a value only what stands before it.
    assert names.index("REDIS_PASSWORD") < names.index("HUB_BROKER")
    broker = environment[names.index("HUB_BROKER")]
    service = the(manifests, "Service", "hub-redis")
    port = service["spec"]["ports"][0]["port"]
    assert broker == {
        "name": "HUB_BROKER",
        "value": f"redis://:$(REDIS_PASSWORD)@{service['metadata']['name']}:{port}/0",
    }
    (redis,) = pods(manifests)["hub-redis"]["containers"]
    password = redis["env"][0]["valueFrom"]
    assert environment[names.index("REDIS_PASSWORD")]["valueFrom"] == password
    assert deployment(manifests, "hub-redis")["spec"]["strategy"] == {"type": "Recreate"}
