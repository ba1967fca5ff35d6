"""`hub bench` once its options are read: plan, run, show."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import typer
from rich.console import Console

from hub.bench import workers
from hub.bench.contest import OpenServer, Outcome, run
from hub.bench.cores import Cores
from hub.bench.intake import Intake
from hub.bench.peers import NCHAN, Peer, peer_of
from hub.bench.phases import ProgressBar
from hub.bench.plan import FLOORS, BenchError, Contestant, Plan
from hub.bench.scenarios.picture import DISTURBED, goal_line, picture
from hub.bench.scenarios.registry import SCENARIOS, scenario_of
from hub.bench.scenarios.scenario import Scenario, ScenarioOptions
from hub.bench.server import BenchServer, interpreter, own_nodes, own_server, running_server
from hub.bench.table import intake_table, table, workers_table

MAX_READERS = 4
"""The number of reader processes by default at most: more than one server keeps busy."""
LIST = "list"
_STREAMS = (Contestant.WEBSOCKET, Contestant.SSE)


def contestants(transport: str, compare: str | None, *, baseline: bool) -> tuple[Contestant, ...]:
    """Return the contestants of a round, in this order.

    Raises:
        BenchError: A transport has another name.
    """
    asked = tuple(_stream(name) for name in (transport, compare) if name)
    return (*dict.fromkeys(asked), *(FLOORS if baseline else ()))


def usual_readers() -> int:
    """Return one reader per core that the server leaves.

    Raises:
        BenchError: This is not Linux.
    """
    if not hasattr(os, "sched_getaffinity"):
        raise BenchError("the benchmark needs Linux: epoll, processor affinity")
    return max(1, min(MAX_READERS, len(os.sched_getaffinity(0)) - 1))


def opener(url: str | None, *, token: str | None, pid: int | None, nodes: int = 1) -> OpenServer:
    """Return how each round opens its hub: fresh processes, or the hub at `url`.

    Raises:
        BenchError: `url` is no hub's, or is given beside several nodes.
    """
    if url is None:
        return own_server if nodes == 1 else partial(own_nodes, count=nodes)
    if nodes > 1:
        raise BenchError("--nodes starts nodes of its own, --url names one that runs already")
    server = running_server(url, token=token, pid=pid)

    def found(_: Cores) -> AbstractContextManager[BenchServer]:
        return contextlib.nullcontext(server)

    return found


def measure(plan: Plan, open_server: OpenServer) -> Outcome:
    """Run the plan with a progress bar on stderr."""
    with ProgressBar(Console(stderr=True)) as bar:
        return run(plan, open_server, bar)


def show_intake(rows: Sequence[Intake], *, as_json: bool) -> None:
    """Print what a node took in, a row for each way of publishing."""
    if as_json:
        _print_rows([asdict(row) for row in rows])
    else:
        Console().print(intake_table(rows, interpreter()))


def measure_workers(plan: Plan, count: int, *, as_json: bool) -> bool:
    """Measure and print; return whether nothing was lost silently and nothing came twice."""
    with ProgressBar(Console(stderr=True)) as bar:
        rows = workers.run(plan, count, bar)
    if as_json:
        _print_rows([asdict(row) for row in rows])
    else:
        Console().print(workers_table(rows, interpreter()))
    return not any(row.faults for row in rows)


def _print_rows(rows: list[dict[str, object]]) -> None:
    by = asdict(interpreter())
    typer.echo(json.dumps([{**row, "interpreter": by} for row in rows], indent=2))


@dataclass(frozen=True, slots=True)
class BenchArguments:
    """A scenario as the command line asks for it."""

    scenario: str
    against: str | None
    rounds: int | None
    subscribers: int | None
    seconds: float | None
    readers: int | None


def peer_asked_for(against: str | None) -> Peer | None:
    """Return the peer that `--against` names; None, with a line on stderr, where nchan is not
    installed.

    Raises:
        BenchError: It names nothing that can be measured.
    """
    try:
        return None if against is None else peer_of(against)
    except BenchError as error:
        if against != NCHAN:
            raise
        typer.echo(f"hub bench: skipped: {error.message}", err=True)
        return None


def measure_scenario(asked: BenchArguments, folder: Path, *, as_json: bool) -> bool:
    """Measure, print and write JSON and a picture; return whether nothing was lost or came twice.

    Raises:
        BenchError: There is no such scenario, it could not be measured, or its files not written.
    """
    if asked.scenario == LIST:
        for each in SCENARIOS.values():
            typer.echo(f"{each.name}: {each.about}")
        return True
    scenario = scenario_of(asked.scenario)
    peer = _peer_of_scenario(scenario, asked.against)
    figures = _writable(folder / f"bench-{scenario.name}.json")
    image = _writable(folder / f"bench-{scenario.name}.svg")
    with ProgressBar(Console(stderr=True)) as bar:
        request = ScenarioOptions(
            bar,
            asked.readers or usual_readers(),
            peer,
            asked.rounds,
            asked.subscribers,
            asked.seconds,
        )
        result = scenario.measure(request)
    about = scenario.about
    if asked.subscribers is not None and scenario.has_subscribers:
        about += f" (here with {asked.subscribers:,} subscribers)"
    told = json.dumps(
        {
            "scenario": scenario.name,
            "about": about,
            "interpreter": asdict(interpreter()),
            "sound": result.sound,
            "disturbed": result.disturbed,
            "goals": [goal.as_dict() for goal in result.goals],
            "bars": [asdict(bar) for bar in result.bars],
            "details": result.details,
        },
        indent=2,
    )
    if as_json:
        typer.echo(told)
    else:
        typer.echo(f"{scenario.name}: {about}")
        for goal in result.goals:
            typer.echo(f"  {goal_line(goal)}")
        typer.echo(f"  {interpreter()}")
        if result.disturbed:
            typer.echo(f"  {DISTURBED}")
    # Behind the figures on the screen, which nobody loses to a full disk.
    for path, text in ((figures, told + "\n"), (image, picture(about, result))):
        with _written(path):
            path.write_text(text)
    typer.echo(f"hub bench: wrote {figures} and {image}; --out names another folder", err=True)
    return result.sound


def _peer_of_scenario(scenario: Scenario, against: str | None) -> Peer | None:
    peer = peer_asked_for(against)
    if peer is None or peer.command is not None or scenario.against_nchan:
        return peer
    others = ", ".join(each.name for each in SCENARIOS.values() if each.against_nchan)
    typer.echo(
        f"hub bench: skipped: nchan cannot do the work of {scenario.name!r} (only of {others})",
        err=True,
    )
    return None


def _writable(path: Path) -> Path:
    """Return `path`, which can be written; raise `BenchError` before minutes of measuring else.

    A file that was not there is not there afterwards either: the measuring may fail.
    """
    with _written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        path.open("a").close()
        if is_new:
            path.unlink()
    return path


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = f"{path} cannot be written: {error.strerror} (--out names another folder)"
        raise BenchError(why) from None


def show(outcome: Outcome, *, is_own: bool, as_json: bool) -> None:
    """Print the figures on stdout; `is_own` says that the benchmark started the hub."""
    by = interpreter() if is_own else None
    if as_json:
        told = {"interpreter": None if by is None else asdict(by), **outcome.as_dict()}
        typer.echo(json.dumps(told, indent=2))
    else:
        Console().print(table(outcome, by))


def _stream(name: str) -> Contestant:
    if name not in _STREAMS:
        raise BenchError(f"transport is {name!r}, allowed are {', '.join(_STREAMS)}")
    return Contestant(name)
