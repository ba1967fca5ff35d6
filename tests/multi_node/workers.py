"""A hub of several processes behind one port, and which of them is what."""

import contextlib
import json
from collections.abc import Mapping

import psutil

from tests.multi_node.fleet import SETTINGS
from tests.support.hub_process import HubProcess

BROKER = 0
# On a busy machine a process dies only when it gets its turn.
_GONE_SECONDS = 20.0
COMMON = SETTINGS | {"HUB_LOG_LEVEL": "info", "HUB_HISTORY_SIZE": "1000"}


class WorkersHub(HubProcess):
    """`hub serve --workers N`."""

    def __init__(self, workers: int = 2, *arguments: str, **environment: str) -> None:
        settings = COMMON | {"HUB_WORKERS": str(workers)} | environment
        super().__init__(*arguments, allow_tracebacks=False, **settings)

    def processes(self) -> Mapping[int, int]:
        """Pids of the children that run now, by their number; 0 is the broker process."""
        found: dict[int, int] = {}
        for child in psutil.Process(self.pid).children():
            with contextlib.suppress(psutil.Error, KeyError):
                found[json.loads(child.environ()["_HUB_ROLE"])["number"]] = child.pid
        return found

    def kill_child(self, number: int) -> None:
        """Return once it is gone: until then it stands among `processes`, as if it ran."""
        child = psutil.Process(self.processes()[number])
        child.kill()
        child.wait(timeout=_GONE_SECONDS)
