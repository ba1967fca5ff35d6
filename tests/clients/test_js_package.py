"""The browser client as a package: its types, its size, and what would be published.

Needs the tools of `clients/js` (`npm install --prefix clients/js`); skipped without them.
"""

import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).parents[2] / "clients" / "js"
BINARIES = PACKAGE / "node_modules" / ".bin"
USER = Path(__file__).parent / "js" / "user.ts"
NPM = shutil.which("npm")
# Of these, 900 are for moving between connections without a gap that is none, for tokens that take
# long, and for clocks that are set.
# Tags, filters and what publications say beside their data took the last of 14,000.
# Presence with data, `everyMs` and `getState` took 900 more; patterns and rows of channels
# took 3,600 (1,450 compressed); several channels at once, history by time, and the times of
# commands that stand behind others took 800. What is replayed as one message (`joined`), which has
# to know where a replay ends and may be split again, took the last of 20,500 and 400 more;
# what history lacks behind a state of the application took 240. Presence beside messages that come
# with a filter, rows or an interval, what a later subscription says of the member, and where a
# replay ends of which history lacks the beginning took 1,050; what to do about a token took 130.
MAX_BYTES = 22_200
TIMEOUT_SECONDS = 90
pytestmark = [
    pytest.mark.skipif(
        NPM is None or not (BINARIES / "tsc").exists(),
        reason="the tools of clients/js are not installed",
    ),
    pytest.mark.timeout(200),
]
STRICT = {
    "strict": True,
    "noEmit": True,
    "target": "es2022",
    "module": "nodenext",
    "lib": ["es2022", "dom"],
    "types": [],
}


def run(*command: str | Path, cwd: Path = PACKAGE) -> str:
    """Runs a program that must succeed, and returns what it prints."""
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_the_sources_pass_the_strict_type_checker() -> None:
    """JSDoc types, read by `tsc --checkJs --strict`."""
    run(BINARIES / "tsc", "--checkJs", "--strict", "--noEmit", "-p", PACKAGE)


def test_the_minified_bundle_stays_below_its_limit() -> None:
    """A page that bundles the client loads this much; compressed it is half of the limit."""
    options = ("--bundle", "--minify", "--format=esm")
    bundle = run(BINARIES / "esbuild", "src/hub.js", *options).encode()
    assert len(bundle) < MAX_BYTES
    assert len(gzip.compress(bundle)) < MAX_BYTES // 2


def test_the_checked_in_types_are_those_of_the_sources(tmp_path: Path) -> None:
    """`npm run types` makes them; nobody edits them."""
    run(BINARIES / "tsc", "-p", "tsconfig.types.json", "--outDir", tmp_path)
    made = {path.name: path.read_text() for path in tmp_path.glob("*.d.ts")}
    kept = {path.name: path.read_text() for path in (PACKAGE / "types").glob("*.d.ts")}
    assert made == kept


def test_the_file_that_hubs_serve_is_built_of_these_sources(tmp_path: Path) -> None:
    """`npm run build` makes it; it is checked in, because a hub is installed without Node."""
    options = ("--bundle", "--minify", "--format=esm", f"--outfile={tmp_path / 'client.js'}")
    run(BINARIES / "esbuild", "src/served.js", "--log-level=error", *options)
    kept = PACKAGE.parents[1] / "hub" / "pages" / "client.min.js"
    assert (tmp_path / "client.js").read_bytes() == kept.read_bytes(), "run: npm run build"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as a user gets it: packed, and unpacked."""
    directory = tmp_path_factory.mktemp("package")
    run("node", "build.mjs", "--package")
    packed = json.loads(
        run(str(NPM), "pack", "--ignore-scripts", "--json", "--pack-destination", directory)
    )
    [archive] = packed if isinstance(packed, list) else packed.values()
    run("tar", "-xzf", archive["filename"], cwd=directory)
    return directory / "package"


@pytest.fixture
def installed(unpacked: Path, tmp_path: Path) -> Path:
    """The package in the `node_modules` of the test's folder."""
    place = tmp_path / "node_modules" / "broadcast-hub-client"
    return Path(shutil.copytree(unpacked, place))


@pytest.mark.parametrize("kind", ["module", "commonjs"])
@pytest.mark.parametrize("module", ["nodenext", "node16"])
@pytest.mark.usefixtures("installed")
def test_a_typescript_program_compiles_against_the_installed_package(
    tmp_path: Path, module: str, kind: str
) -> None:
    """Wrong calls in the program do not compile: `@ts-expect-error` fails
    where there is no error."""
    shutil.copy(USER, tmp_path / "user.ts")
    (tmp_path / "package.json").write_text(json.dumps({"type": kind}))
    settings = {"compilerOptions": STRICT | {"module": module}, "files": ["user.ts"]}
    (tmp_path / "tsconfig.json").write_text(json.dumps(settings))
    run(BINARIES / "tsc", "-p", tmp_path, cwd=tmp_path)


def paths(exported: dict[str, Any] | str) -> list[str]:
    """All files that `exports` of a package names, under whatever conditions."""
    if isinstance(exported, str):
        return [exported]
    return [path for entry in exported.values() for path in paths(entry)]


def test_the_installed_package_holds_what_its_exports_name_and_nothing_else(
    installed: Path,
) -> None:
    """Sources, what is built of them, types and the README; nothing depends on anything."""
    files = [path for path in installed.rglob("*") if path.is_file()]
    names = {path.relative_to(installed).parts[0] for path in files}
    assert names == {"src", "dist", "types", "README.md", "package.json"}
    manifest = json.loads((installed / "package.json").read_text())
    exported = paths(manifest["exports"])
    assert len(exported) >= 14
    assert [path for path in exported if not (installed / path).is_file()] == []
    assert not manifest.get("dependencies")


@pytest.mark.parametrize(
    ("kind", "program"),
    [
        (
            "module",
            'import { Hub } from "broadcast-hub-client"; console.log(new Hub("http://h").state)',
        ),
        ("commonjs", 'console.log(new (require("broadcast-hub-client").Hub)("http://h").state)'),
        (
            "commonjs",
            (
                'require("node:vm").runInThisContext(require("node:fs").readFileSync('
                'require.resolve("broadcast-hub-client/iife"), "utf8"));'
                'console.log(new broadcastHub.Hub("http://h").state)'
            ),
        ),
    ],
    ids=["import", "require", "script"],
)
@pytest.mark.usefixtures("installed")
def test_a_program_uses_the_installed_package(tmp_path: Path, kind: str, program: str) -> None:
    """As a module, by `require`, and as a plain script that makes a global of it."""
    assert run("node", f"--input-type={kind}", "-e", program, cwd=tmp_path) == "waiting\n"


@pytest.mark.parametrize("framework", ["react", "vue"])
@pytest.mark.parametrize("kind", ["module", "commonjs"])
@pytest.mark.usefixtures("installed")
def test_a_server_renders_a_component_with_the_bindings(
    tmp_path: Path, framework: str, kind: str
) -> None:
    """Without a page nothing is subscribed to, and nothing throws."""
    for name in ("react", "react-dom", "scheduler", "vue", "@vue", "entities", "estree-walker"):
        found = PACKAGE / "node_modules" / name
        if found.exists():
            (tmp_path / "node_modules" / name).symlink_to(found)
    program = (Path(__file__).parent / "js" / f"server_{framework}.mjs").read_text()
    if kind == "commonjs":
        program = re.sub(
            r"^import (.*) from (.*);", r"const \1 = require(\2);", program, flags=re.MULTILINE
        )
    assert run("node", f"--input-type={kind}", "-e", program, cwd=tmp_path) == "<p>0 waiting</p>\n"


def test_a_server_component_that_takes_a_hook_is_told_so_by_name(unpacked: Path) -> None:
    """Without the directive React says there that `createContext` is not a function."""
    for name in ("src/react.js", "dist/react.cjs"):
        code = re.sub(r"/\*.*?\*/", "", (unpacked / name).read_text(), flags=re.DOTALL)
        code = code.replace('"use strict";', "").lstrip()
        assert code.startswith('"use client";'), name
