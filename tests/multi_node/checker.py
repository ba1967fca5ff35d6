"""Finds what is wrong in what all subscribers saw, given what publishers and history know.

Judges both ways: a message that never came and was not announced is a fault, and so is a gap for
what came, for what history still had, or for what nothing was wrong with.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.support.stream import Place, View


@dataclass(frozen=True)
class Truth:
    """The answers that publishers got, and what is known to have been done to the hub."""

    acknowledged: Mapping[Place, object]
    held: Mapping[Place, object]
    """The publications that history held at the end."""
    head: Place
    may_lose: bool
    """Whether anything happened that can cost a message."""
    epochs: int
    """At most so many, given how often Redis began anew."""


def faults(views: Sequence[View], truth: Truth) -> list[str]:
    """Everything that was wrong; empty when all is well."""
    found = [fault for view in views for fault in view.faults]
    for view in views:
        found += [f"{view.name}: {text}" for text in _of(view, truth)]
        passed = [at for at in truth.held if view.passed_over(at)]
        found += [f"{view.name}: {at} was passed over and is in history" for at in passed]
    found += _different(views, truth)
    seen = {epoch for view in views for epoch, _ in view.delivered}
    if len(seen) > truth.epochs:
        found.append(f"{len(seen)} epochs, at most {truth.epochs} can be explained")
    return found


def _of(view: View, truth: Truth) -> Iterable[str]:
    if view.position != truth.head:
        yield f"ended at {view.position}, the channel at {truth.head}"
    for at in sorted(truth.acknowledged):
        if view.owes(at):
            yield f"{at} was published, is missing and was not announced"
    for at, reason in view.announced.items():
        if at in view.delivered:
            yield f"{at} was announced as {reason} and came"
        if at in truth.held:
            yield f"{at} was announced as {reason} and is in history"
        if not truth.may_lose:
            yield f"{at} was announced as {reason} and nothing was wrong"
    for epoch in {epoch for epoch, _ in view.delivered}:
        data = [str(d) for (of, _), d in view.delivered.items() if of == epoch]
        if len(data) != len(set(data)):
            yield f"something came twice in {epoch}"


def _different(views: Sequence[View], truth: Truth) -> Iterable[str]:
    """One place means one publication, to everybody."""
    known = dict(truth.acknowledged) | dict(truth.held)
    for view in views:
        for at, data in view.delivered.items():
            if known.setdefault(at, data) != data:
                yield f"{view.name}: {at} is {data!r}, elsewhere {known[at]!r}"
