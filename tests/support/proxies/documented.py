"""The proxies as `hub/docs/proxies.md` has them: whole configurations, with other ports."""

from collections.abc import Sequence
from pathlib import Path

from tests.support.proxies.daemon import GENERATION, Daemon
from tests.support.proxies.haproxy import HaProxy
from tests.support.proxies.nginx import Nginx, whole_file
from tests.support.snippets import blocks

_PORTS = ("8001", "8002")


def _with_ports(text: str, ports: Sequence[int]) -> str:
    for documented, port in zip(_PORTS, ports, strict=True):
        assert f":{documented}" in text
        text = text.replace(f":{documented}", f":{port}")
    return text


def _replaced(text: str, line: str, by: str) -> str:
    assert line in text
    return text.replace(line, by)


class DocumentedNginx(Nginx):
    """The documents' nginx in front of two nodes."""

    probe = "/docs"

    def __init__(self, ports: Sequence[int]) -> None:
        (block,) = blocks("two-nodes-nginx")
        super().__init__(_with_ports(block.text, ports))

    def configuration(self, rules: str, generation: int) -> str:
        mark = f"listen 127.0.0.1:{self.port}; add_header {GENERATION} {generation} always;"
        return whole_file(_replaced(rules, "listen 80;", mark))


class DocumentedHaProxy(HaProxy):
    """The documents' HAProxy in front of two nodes."""

    probe = "/docs"

    def __init__(self, ports: Sequence[int]) -> None:
        (block,) = blocks("two-nodes-haproxy")
        super().__init__(_with_ports(block.text, ports))

    def configuration(self, rules: str, generation: int) -> str:
        (answer,) = blocks("come-back-answer")
        file: Path = self.path / "come-back.http"
        file.write_text(answer.text + "\n")
        mark = f"http-after-response set-header {GENERATION} {generation}"
        bind = f"bind 127.0.0.1:{self.port}\n  {mark}"
        text = _replaced(rules, "bind :80", bind)
        text = _replaced(text, "/etc/haproxy/come-back.http", str(file))
        return f"global\n  maxconn 1000\n{text}"


DOCUMENTED: dict[str, type[DocumentedNginx] | type[DocumentedHaProxy]] = {
    "nginx": DocumentedNginx,
    "HAProxy": DocumentedHaProxy,
}


def documented(proxy: str, ports: Sequence[int]) -> Daemon:
    """Returns a documented proxy in front of the nodes at these ports."""
    return DOCUMENTED[proxy](ports)
