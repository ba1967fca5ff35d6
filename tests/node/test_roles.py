"""The role of a process among several, and what a worker takes over from its supervisor."""

import os
import socket

import pytest

from hub.node.supervisor.roles import BROKER, Role, Worker, adopted, take_role
from hub.settings import Settings


@pytest.fixture(autouse=True)
def _no_other_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of the test keeps its name."""
    monkeypatch.setattr("hub.node.supervisor.roles._be_called", lambda _name: None)


@pytest.mark.parametrize("number", [BROKER, 1])
def test_a_role_is_taken_out_of_the_environment(number: int) -> None:
    """A program that a worker starts is no worker."""
    role = Role(number, 2, "node", 7, (8, 9), "@name", digests={"port": "1"})
    environment = role.environment() | {"OTHER": "x"}
    assert take_role(environment) == role
    assert environment == {"OTHER": "x"}
    assert take_role(environment) is None


def test_a_socket_that_is_taken_over_is_inherited_no_further() -> None:
    """A program that outlives its worker would hold the port."""
    with socket.socket() as made:
        descriptor = os.dup(made.fileno())
        os.set_inheritable(descriptor, True)
        with adopted(descriptor) as taken:
            assert taken.fileno() == descriptor
            assert not taken.get_inheritable()


def test_a_bound_that_follows_from_memory_is_shared_among_workers() -> None:
    """One that is set is each worker's own."""
    worker = Worker(2, 4, (), None)
    default = Settings()
    own = worker.settings(default, node="web")
    assert own.outbox_total_bytes == default.outbox_total_bytes // 4
    assert (own.node, own.broker) == ("web-2", default.broker)
    set_by_hand = worker.settings(Settings(outbox_total_bytes=64 << 20), node="web")
    assert set_by_hand.outbox_total_bytes == 64 << 20
