"""`hub bench` measures a hub that it starts, or a hub that runs already.

Ends with 0, with 1 when a connection was lost or a message came twice or was lost silently, and
with 2 when it could not measure.
"""

from pathlib import Path
from typing import Annotated

import typer

from hub.cli.ending import reason
from hub.observe.terminal import visible

DEFAULT_SUBSCRIBERS = 1000
DEFAULT_SECONDS = 10.0
DEFAULT_RATE = 100.0
IDLE_RATE = 2.0
IDLE_HOLD_SECONDS = 60.0
"""The time covers two heartbeats of 25 s, so that every connection has answered a ping."""
COMPARED_ROUNDS = 3
_UNSOUND, _NOT_MEASURED = 1, 2
_KEPT = "\n\t"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(bench)


# What each of them takes beside `--json`. Whatever else is given would be forgotten silently.
_TAKEN = {
    "scenario": {"against", "rounds", "subscribers", "seconds", "readers", "out"},
    "intake": {"against", "rounds", "seconds", "way"},
}
_TAKEN_ONLY_BY = {"against": "--scenario or --intake", "out": "--scenario", "way": "--intake"}


def bench(
    context: typer.Context,
    subscribers: Annotated[
        int | None, typer.Option(min=1, help="Connections. [1000, or the scenario's]")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0, help="Publications per second; 0: flat out. [100]")
    ] = None,
    publications: Annotated[
        int | None, typer.Option(min=1, help="Publications; else as many as --seconds allow.")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, help="Length of the measured phase. [10, or the scenario's]"),
    ] = None,
    payload_bytes: Annotated[int, typer.Option(min=40, max=60_000, help="Size of `data`.")] = 200,
    transport: Annotated[str, typer.Option(help="websocket or sse.")] = "websocket",
    compare: Annotated[
        str | None, typer.Option(help="websocket or sse: measure it too, in turns.")
    ] = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Measure bare loops in C and Python too, in turns.")
    ] = False,
    idle: Annotated[
        int | None,
        typer.Option(min=1, help="Hold this many connections idle, then publish 2/s."),
    ] = None,
    hold_seconds: Annotated[
        float | None, typer.Option(min=0, help="Idle time before publishing. [60 with --idle]")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Rounds. [3 when something is compared, else 1]")
    ] = None,
    window: Annotated[
        int | None, typer.Option(min=1, help="Flat out: publications under way at most. [32]")
    ] = None,
    readers: Annotated[
        int | None, typer.Option(min=1, help="Reader processes; else a core each, at most 4.")
    ] = None,
    nodes: Annotated[
        int,
        typer.Option(min=1, help="Nodes on a Redis of their own, published at the first."),
    ] = 1,
    workers: Annotated[
        int | None,
        typer.Option(min=2, help="Instead: the load on one process, then on this many workers."),
    ] = None,
    intake: Annotated[
        bool,
        typer.Option(
            "--intake", help="Instead: publications/s and connects/s that one node takes in."
        ),
    ] = False,
    scenario: Annotated[
        str | None,
        typer.Option(help="Instead: run a scenario with goals; `list` shows all."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Beside a scenario: nchan, or what starts another version of the hub. "
            "Beside --intake: nchan."
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(help="Folder for a scenario's bench-NAME.json and .svg. [the current one]"),
    ] = Path(),
    way: Annotated[str, typer.Option(help="--intake: only rows whose name contains this.")] = "",
    url: Annotated[
        str | None, typer.Option(help="Measure a running hub, http://host:port.")
    ] = None,
    pid: Annotated[
        int | None, typer.Option(help="Process of that hub on this machine, for CPU and memory.")
    ] = None,
    token: Annotated[str | None, typer.Option(help="Bearer token for --url.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Figures as JSON on stdout.")] = False,
) -> None:
    """Measure deliveries, CPU, memory and latency of a hub.

    Starts a hub of its own on one core and the load on the others, unless --url is given.
    Ends with 1 when a connection was lost, or a message came twice or was lost silently.
    """
    from hub.bench import command
    from hub.bench import intake as intakes
    from hub.bench.plan import PUBLISHER_WINDOW, BenchError, Plan

    if (wrong := _forgotten(context)) is not None:
        typer.echo(f"hub bench: {wrong}", err=True)
        raise typer.Exit(_NOT_MEASURED)
    try:
        if scenario is not None:
            request = command.BenchArguments(
                scenario, against, rounds, subscribers, seconds, readers
            )
            if not command.measure_scenario(request, out, as_json=as_json):
                raise typer.Exit(_UNSOUND)
            return
        if intake:
            seconds, peer = _first(seconds, DEFAULT_SECONDS), command.peer_asked_for(against)
            rows = intakes.run(seconds, rounds=rounds or 1, named=way, peer=peer)
            command.show_intake(rows, as_json=as_json)
            return
        asked = command.contestants(transport, compare, baseline=baseline)
        plan = Plan(
            subscribers=idle or subscribers or DEFAULT_SUBSCRIBERS,
            rate=_first(rate, IDLE_RATE if idle else DEFAULT_RATE),
            publications=publications,
            seconds=_first(seconds, DEFAULT_SECONDS),
            payload_bytes=payload_bytes,
            hold_seconds=_first(hold_seconds, IDLE_HOLD_SECONDS if idle else 0.0),
            window=window or PUBLISHER_WINDOW,
            contestants=asked,
            rounds=rounds or (COMPARED_ROUNDS if len(asked) > 1 else 1),
            readers=readers or command.usual_readers(),
        )
        if workers is not None:
            if not command.measure_workers(plan, workers, as_json=as_json):
                raise typer.Exit(_UNSOUND)
            return
        outcome = command.measure(plan, command.opener(url, token=token, pid=pid, nodes=nodes))
    except (BenchError, OSError) as error:
        why = error.message if isinstance(error, BenchError) else reason(error)
        typer.echo(f"hub bench: {visible(why, keep=_KEPT)}", err=True)
        raise typer.Exit(_NOT_MEASURED) from error
    command.show(outcome, is_own=url is None, as_json=as_json)
    if not outcome.sound:
        raise typer.Exit(_UNSOUND)


def _forgotten(context: typer.Context) -> str | None:
    """Return which options of the command line do not go together; None where all do."""
    given = [name for name in context.params if name != "as_json" and _is_given(context, name)]
    mode = next((name for name in _TAKEN if name in given), None)
    if mode is None:
        lost = [name for name in given if name in _TAKEN_ONLY_BY]
        return f"{_option(lost[0])} goes with {_TAKEN_ONLY_BY[lost[0]]} only" if lost else None
    lost = [name for name in given if name != mode and name not in _TAKEN[mode]]
    return f"{_option(lost[0])} does not go with {_option(mode)}" if lost else None


def _is_given(context: typer.Context, name: str) -> bool:
    # By its name, because typer has a copy of click's class.
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _first(asked: float | None, otherwise: float) -> float:
    return otherwise if asked is None else asked
