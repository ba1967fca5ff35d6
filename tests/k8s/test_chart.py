"""The Helm chart is what kustomize makes, and what Kubernetes takes.

Rendered by Helm's own engine, which the package helm-python-sdk brings as a library.
"""

import re
from typing import Any

import pytest
import yaml

from hub.settings.sources import environment_layer, unknown_variables
from tests.k8s.test_manifests import KUBERNETES, check_schema
from tests.k8s.tools import (
    CHART,
    K8S,
    OVERLAYS,
    ROOT,
    Manifest,
    built,
    deployment,
    of_chart,
    rendered,
    the,
)

helm = pytest.importorskip("helm_python", reason="comes with `uv sync --group k8s` on Linux")

# Made by hand for the chart (`hub/docs/kubernetes.md`), or by Helm itself.
NOT_IN_CHART = {"Namespace", "Secret"}
_HASH = re.compile(r"^(hub-settings|hub-keys|hub-redis)-[a-z0-9]{10}$")


def essence(manifest: Manifest) -> Any:
    """Returns what a manifest asks for, without labels and with names as
    they are before kustomize."""
    found: dict[str, Any] = {
        key: plain(manifest[key]) for key in ("spec", "data") if key in manifest
    }
    if manifest["kind"] == "Deployment":
        found["spec"]["template"]["metadata"].pop("annotations", None)
    if manifest["kind"] == "Ingress":
        found["annotations"] = manifest["metadata"]["annotations"]
        (rule,) = found["spec"]["rules"]
        rule["http"]["paths"].sort(key=lambda one: one["path"])
    return found


def plain(value: Any) -> Any:
    """Without the hash that kustomize puts behind the names of what it generates."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return _HASH.sub(r"\1", value) if isinstance(value, str) else value


def by_name(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    return {
        (each["kind"], plain(each["metadata"]["name"])): each
        for each in manifests
        if each["kind"] not in NOT_IN_CHART
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_chart_asks_for_what_kustomize_asks_for(overlay: str) -> None:
    """The objects are compared one by one, so that a change of one side alone fails."""
    ours, theirs = by_name(of_chart(overlay)), by_name(built(overlay))
    assert ours.keys() == theirs.keys()
    for name, manifest in theirs.items():
        assert essence(ours[name]) == essence(manifest), name


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_manifest_of_the_chart_fits_the_schema_of_kubernetes(
    overlay: str, version: str, tmp_path: Any
) -> None:
    """Strictly, as for kustomize's."""
    check_schema(of_chart(overlay), version, tmp_path)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_of_the_chart_is_in_its_namespace_and_says_who_made_it(overlay: str) -> None:
    for manifest in of_chart(overlay):
        assert manifest["metadata"]["namespace"] == "hub"
        if "redis" not in manifest["metadata"]["name"]:
            assert manifest["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_chart_has_nothing_that_helm_complains_of(overlay: str) -> None:
    """Helm's only complaint is the missing icon."""
    found = helm.lint(CHART, yaml.safe_load((CHART / f"{overlay}.yaml").read_text()))
    assert found["errors"] == []
    assert [each for each in found["messages"] if "icon" not in each["error"]] == []


def test_the_settings_of_the_chart_are_settings_of_the_hub() -> None:
    """With values that it takes."""
    for file in ("values.yaml", "dev.yaml"):
        settings = yaml.safe_load((CHART / file).read_text())["settings"]
        assert list(unknown_variables(settings)) == []
        assert environment_layer(settings).values


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": {"tag": "latest"}},
        {"image": {"digest": "sha256:short"}},
        {"redis": {"image": "redis"}},
        {"dns": {"label": ""}},
        {"settings": {"HUB_OPERATOR_KEYS": "a-key-that-everybody-could-read"}},
        {"settings": {"HUB_DRAIN_SECONDS": 30}},
        {"ingress": {"enabled": True}},
        {"secondNodeOnOneMachine": "Never"},
        {"replicas": 3},
    ],
    ids=str,
)
def test_values_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    """The chart's schema refuses them before anything is applied, and a misspelt value too."""
    with helm.Chart.load(CHART) as chart, pytest.raises(helm.HelmError):
        chart.validate_schema(wrong)


def test_the_values_in_the_documents_commands_are_values_of_the_chart() -> None:
    """Whatever stands behind `--set` and `-f` there."""
    text = (ROOT / "hub" / "docs" / "kubernetes.md").read_text()
    given = re.findall(r"--set ([\w.]+=\S+)", text)
    files = re.findall(r" -f (k8s/helm/\S+)", text)
    assert len(given) >= 3
    assert files
    with helm.Chart.load(CHART) as chart:
        for each in given:
            chart.validate_schema(helm.parse_set_string(each) | host_of(each))
        for file in files:
            chart.validate_schema(yaml.safe_load((ROOT / file).read_text()))


def host_of(given: str) -> dict[str, Any]:
    """Returns the values that these values need beside them."""
    if "ingress" not in given:
        return {}
    return {"ingress": {"enabled": True, "host": "a.example", "operatorsHost": "b.example"}}


def test_a_digest_wins_over_a_tag() -> None:
    """Of the hub's own image, and of Redis' where it stands behind the tag or alone."""
    digest = "sha256:" + "0a" * 32
    for redis in (f"redis:7.2.11-bookworm@{digest}", f"redis@{digest}"):
        given = {
            "image": {"repository": "r.example/hub", "tag": "1.2.3", "digest": digest},
            "redis": {"enabled": True, "image": redis},
        }
        manifests = rendered(given)
        images = {
            name: deployment(manifests, name)["spec"]["template"]["spec"]["containers"][0]["image"]
            for name in ("hub", "hub-redis")
        }
        assert images == {"hub": f"r.example/hub@{digest}", "hub-redis": redis}


def test_the_way_to_the_application_is_open_where_it_is_named_and_only_there() -> None:
    """Nodes that ask or tell it, or an identity provider, get no further."""
    named = rendered({"application": {"cidrs": ["203.0.113.0/24"], "ports": [8443]}})
    (policy,) = [each for each in named if each["metadata"]["name"] == "hub-to-application"]
    assert policy["spec"]["egress"] == [
        {"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"port": 8443}]}
    ]
    assert "hub-to-application" not in [each["metadata"]["name"] for each in rendered({})]


def test_a_changed_setting_rolls_the_nodes() -> None:
    """As kustomize's generated names do."""
    sums = {
        deployment(of_chart(overlay), "hub")["spec"]["template"]["metadata"]["annotations"][
            "checksum/settings"
        ]
        for overlay in OVERLAYS
    }
    assert len(sums) == 2


def test_alerts_and_dashboard_are_the_files_that_kustomize_takes() -> None:
    """Not copies: the chart's folder holds a link."""
    assert (CHART / "files" / "monitoring").resolve() == K8S / "components" / "monitoring"
    dashboard = the(of_chart("production"), "ConfigMap", "hub-dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
