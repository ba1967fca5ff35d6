"""Options of the browser client and its bindings: what types say, what the code takes, and what the
documents list are the same names, in both directions.

Needs the tools of `clients/js` (`npm install --prefix clients/js`); skipped without them.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "clients" / "js" / "src"
TSC = ROOT / "clients" / "js" / "node_modules" / ".bin" / "tsc"
TIMEOUT_SECONDS = 90
pytestmark = [
    pytest.mark.skipif(
        shutil.which("node") is None or not TSC.exists(),
        reason="the tools of clients/js are not installed",
    ),
    pytest.mark.timeout(200),
]

# Where each type is, and the list that the code checks names against.
TYPES = {
    "Options": ("options", "options.HUB_OPTIONS"),
    "SubscribeOptions": ("subscription", "options.SUBSCRIBE_OPTIONS"),
    "PatternOptions": ("subscription", "options.PATTERN_OPTIONS"),
    "PublishOptions": ("publishing", "options.PUBLISH_OPTIONS"),
    "HistoryOptions": ("hub", "options.HISTORY_OPTIONS"),
    "ChannelOptions": ("feed", "feed.CHANNEL_OPTIONS"),
    "PatternOptions of the bindings": ("feed", "feed.PATTERN_OPTIONS"),
    "TableOptions": ("feed", "feed.TABLE_OPTIONS"),
    "PresenceOptions": ("feed", "feed.PRESENCE_OPTIONS"),
}


def taken() -> dict[str, list[str]]:
    """By the name of its type, what the code takes; without names that types leave to the past."""
    lists = ", ".join(f"{json.dumps(name)}: {kept}" for name, (_, kept) in TYPES.items())
    program = f"""
        import * as options from "{SOURCES / "options.js"}";
        import * as feed from "{SOURCES / "feed.js"}";
        const isKept = (name) => !options.EARLIER_OPTIONS.includes(name);
        const found = {{ {lists} }};
        for (const name in found) found[name] = found[name].filter(isKept);
        console.log(JSON.stringify(found));
    """
    done = subprocess.run(
        ["node", "--input-type=module", "-e", program],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=True,
    )
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def test_the_types_name_what_the_code_takes_and_nothing_else(tmp_path: Path) -> None:
    """`tsc` compares the keys of each type with the list: one that only one of them has fails."""
    lines = [
        "type Only<A, B> = Exclude<A, B>;",
        "type None<T extends never> = T;",
    ]
    for number, (name, names) in enumerate(taken().items()):
        module, _ = TYPES[name]
        lines += [
            f'type Typed{number} = keyof import("{SOURCES / f"{module}.js"}").{name.split()[0]};',
            f"type Taken{number} = {' | '.join(map(json.dumps, names))};",
            f"export type Untyped{number} = None<Only<Taken{number}, Typed{number}>>; // {name}",
            f"export type Refused{number} = None<Only<Typed{number}, Taken{number}>>; // {name}",
        ]
    program = tmp_path / "options.ts"
    program.write_text("\n".join(lines))
    settings = json.loads((ROOT / "clients" / "js" / "tsconfig.json").read_text())
    settings["compilerOptions"]["skipLibCheck"] = True
    settings |= {"files": [str(program)], "include": []}
    (tmp_path / "tsconfig.json").write_text(json.dumps(settings))
    (tmp_path / "node_modules").symlink_to(ROOT / "clients" / "js" / "node_modules")
    done = subprocess.run(
        [TSC, "-p", tmp_path], capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout


def listed(guide: str, head: str) -> set[str]:
    """The names in the first column of the table of a guide that begins with `head`."""
    text = (ROOT / "hub" / "docs" / guide).read_text()
    [table] = re.findall(rf"^{re.escape(head)}.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    rows = [row.split("|")[1] for row in table.splitlines()]
    return {name for cell in rows for name in re.findall(r"`(\w+)`", cell)}


@pytest.mark.parametrize(
    ("guide", "head", "name"),
    [
        ("react.md", "| option | meaning |", "ChannelOptions"),
        ("vue.md", "| option | meaning |", "ChannelOptions"),
        ("browser.md", "| of `new Hub(url, ...)` |", "Options"),
        ("browser.md", "| of `hub.subscribe(channel, onMessage?, ...)` |", "SubscribeOptions"),
        ("browser.md", "| of `hub.publish(channel or [channels], data, ...)` |", "PublishOptions"),
        ("browser.md", "| of `hub.history(channel, ...)` |", "HistoryOptions"),
    ],
)
def test_a_guide_lists_every_option(guide: str, head: str, name: str) -> None:
    """The guide lists no option that does not exist."""
    by_place = {"onMessage"} if name == "SubscribeOptions" else set()
    assert listed(guide, head) | by_place == set(taken()[name])
