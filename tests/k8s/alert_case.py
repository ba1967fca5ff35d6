"""The case of an alert: series that make it fire, and similar ones that must not."""

from collections.abc import Mapping
from dataclasses import dataclass

Series = Mapping[str, str]
"""A series to its samples, one every 15 s, as promtool writes them: `0+3x40` is 0, 3, 6, ..."""

HUB = {"namespace": "hub"}
"""The labels of an alert about all nodes together."""
NODE = {"job": "hub", "namespace": "hub", "pod": "hub-1"}
"""The labels of an alert about one node, as the Prometheus operator's scrape gives them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One alert, looked at when both kinds of series have run `at`, such as `10m`."""

    alert: str
    at: str
    fires: Series
    calm: Series
    labels: Mapping[str, str]
    summary: str
    """The whole text, its placeholders filled in."""


def node(name: str, pod: str = "hub-1", **labels: str) -> str:
    """The series `name` of one node, with more `labels`."""
    every = NODE | {"pod": pod} | labels
    matchers = ",".join(f'{label}="{value}"' for label, value in every.items())
    return f"{name}{{{matchers}}}"
