"""`k8s/compose.yaml`: valid by the Compose Specification, and at one with the hub.

`docker compose` itself is not asked: a parser that is strict about the specification is, the
package compose-spec. What nginx does there is shown by `tests/multi_node/test_documented_proxies`,
and what the file starts by `tests/k8s/test_compose_processes`.
"""

import re
from typing import Any

import pytest
import yaml

from hub.settings import Settings
from hub.settings.sources import unknown_variables
from tests.k8s.tools import K8S

compose_spec = pytest.importorskip("compose_spec", reason="comes with `uv sync --group k8s`")

FILE = K8S / "compose.yaml"
NODES = ("hub1", "hub2")
SLACK_SECONDS = 5


IMAGE = re.compile(r"\$\{(\w+_IMAGE):-([^@}]+)\}")


def text() -> str:
    """The file as Compose reads it where the environment names no image."""
    return IMAGE.sub(r"\2", FILE.read_text())


def services(of: str = "") -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(of or text())["services"]
    return found


def test_the_file_is_valid() -> None:
    """By the specification, strictly: every name, every unit, every condition."""
    parsed = compose_spec.PyCompose.from_yaml(text())
    assert sorted(parsed.service_names()) == ["hub1", "hub2", "nginx", "redis"]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("depends_on", "depend_on"), ("service_healthy", "healthy"), ("20s", "twenty seconds")],
)
def test_a_slip_would_be_noticed(right: str, wrong: str) -> None:
    """A parser that takes anything would show nothing."""
    with pytest.raises(ValueError, match=r".+"):
        compose_spec.PyCompose.from_yaml(text().replace(right, wrong))


def test_both_nodes_are_the_same_and_their_variables_are_settings() -> None:
    """Keys come from outside, and without them nothing starts."""
    first, second = (services()[name] for name in NODES)
    assert first == second
    environment = first["environment"]
    assert list(unknown_variables(environment)) == []
    keys = {name for name, value in environment.items() if value.startswith(f"${{{name}:?")}
    assert keys == {"HUB_PUBLISH_KEYS", "HUB_OPERATOR_KEYS", "HUB_TOKEN_KEYS"}
    assert environment["HUB_BROKER"] == "redis://redis:6379"


def test_each_image_may_be_named_by_its_digest() -> None:
    """A variable names the digest; without it the image is the tag that was tried."""
    written = services(FILE.read_text()).items()
    named = {name: IMAGE.fullmatch(service["image"]) for name, service in written}
    assert {name: match and match[1] for name, match in named.items()} == {
        "hub1": "NODE_IMAGE",
        "hub2": "NODE_IMAGE",
        "nginx": "NGINX_IMAGE",
        "redis": "REDIS_IMAGE",
    }


def test_a_stop_fits_into_the_grace_period() -> None:
    """Drain window and close time-out, or the rest is cut by SIGKILL."""
    grace = services()["hub1"]["stop_grace_period"]
    settings = Settings()
    assert int(grace.removesuffix("s")) >= (
        settings.drain_seconds + settings.close_timeout_seconds + SLACK_SECONDS
    )


def test_only_nginx_can_be_reached_and_only_from_this_machine() -> None:
    """Only an operator's own change opens the hub to other machines, behind TLS."""
    published = {name: each["ports"] for name, each in services().items() if "ports" in each}
    assert published == {"nginx": ["127.0.0.1:8000:80"]}


def test_nginx_reads_a_file_that_is_there() -> None:
    (mount,) = services()["nginx"]["volumes"]
    source, target, mode = mount.split(":")
    assert (FILE.parent / source).is_file()
    assert (target, mode) == ("/etc/nginx/conf.d/default.conf", "ro")


def test_images_have_a_version_and_the_redis_is_that_of_kubernetes() -> None:
    """`latest` would be another one tomorrow."""
    for name, service in services().items():
        assert "build" in service or re.search(r":\d", service["image"]), name
    manifest = (K8S / "components" / "redis" / "deployment.yaml").read_text()
    assert f"image: {services()['redis']['image']}\n" in manifest
