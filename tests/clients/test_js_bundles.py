"""The browser client out of bundles: of every format, by the bundlers in use, in Jest.

esbuild is one of the tools of `clients/js`; webpack and Jest are fetched by npm, and skipped
where it reaches nobody.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).parents[2] / "clients" / "js"
ESBUILD = PACKAGE / "node_modules" / ".bin" / "esbuild"
NPM, NODE = shutil.which("npm"), shutil.which("node")
SECONDS = 150.0
pytestmark = [
    pytest.mark.skipif(
        NPM is None or NODE is None or not ESBUILD.exists(),
        reason="the tools of clients/js are not installed",
    ),
    pytest.mark.timeout(400),
]
WEBPACK = ("webpack@5", "webpack-cli@7")
JEST = ("jest@30", "@babel/core@7", "@babel/plugin-transform-modules-commonjs@7")
# What an application does first; what it prints must say where the hub is, and nothing else.
USE = """
import { Hub, HubError } from "broadcast-hub-client";
const asked = [], hubs = [];
class WebSocket { constructor(url) { asked.push(`${url}`); } close() {} }
const open = (url) => {
  const hub = new Hub(url, { WebSocket });
  hubs.push(hub);
  hub.subscribe("a", () => {});
};
const refusal = (url) => { try { open(url); } catch (error) { return error.name; } };
open("https://h/live");
const refused = [refusal(""), refusal("localhost:8000")];
setTimeout(() => {
  hubs.forEach((hub) => hub.close());
  console.log(JSON.stringify({ asked, refused, error: typeof HubError }));
}, 0);
"""
SAID = {"asked": ["wss://h/live/ws"], "refused": ["TypeError", "TypeError"], "error": "function"}


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def installed(folder: Path, *packages: str) -> None:
    """Skip where npm reaches nobody."""
    (folder / "package.json").write_text('{"private": true}')
    quiet = ("--no-audit", "--no-fund", "--loglevel=error", "--prefer-offline")
    done = subprocess.run(
        [str(NPM), "install", *quiet, "--fetch-retries=0", *packages],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"npm cannot install {packages[0]}: {done.stderr[-300:]}")


@pytest.fixture(scope="module")
def built() -> None:
    """Builds the files that the package has besides its sources."""
    run(str(NODE), "build.mjs", "--package", cwd=PACKAGE)


def application(folder: Path) -> Path:
    """A folder with the package as users get it, and a program that uses it."""
    place = folder / "node_modules" / "broadcast-hub-client"
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(PACKAGE / "package.json", place)
    for name in ("src", "dist"):
        shutil.copytree(PACKAGE / name, place / name, dirs_exist_ok=True)
    (folder / "use.mjs").write_text(USE)
    return folder


@pytest.fixture(scope="module")
def webpack(built: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("webpack")
    installed(folder, *WEBPACK)
    return application(folder)


@pytest.fixture(scope="module")
def jest(built: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jest")
    installed(folder, *JEST)
    return application(folder)


def reachable(entry: Path) -> set[Path]:
    """The modules that `entry` imports, directly and through others."""
    seen: set[Path] = set()
    waiting = [entry]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            parts = module.read_text().split(' from "./')[1:]
            waiting += [module.parent / part.split('"')[0] for part in parts]
    return seen


def test_no_module_of_the_package_asks_where_it_came_from() -> None:
    """`import.meta` is a syntax error in scripts, CommonJS, Jest and Hermes; `served.js`, which
    only a hub hands out, may."""
    modules = reachable(PACKAGE / "src" / "hub.js")
    assert len(modules) > 10
    assert PACKAGE / "src" / "served.js" not in modules
    code = {
        module.name: [
            line
            for line in module.read_text().splitlines()
            if "import.meta" in line and not line.lstrip().startswith(("*", "/"))
        ]
        for module in modules
    }
    assert not any(code.values()), code


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("kind", ["iife", "cjs", "esm"])
def test_a_bundle_of_every_format_runs(tmp_path: Path, kind: str) -> None:
    """The bundle is built without the warning of an empty `import.meta`."""
    folder = application(tmp_path)
    bundle = folder / ("bundle.mjs" if kind == "esm" else "bundle.cjs")
    flags = ("--bundle", f"--format={kind}", "--log-override:empty-import-meta=error")
    run(ESBUILD, "use.mjs", *flags, f"--outfile={bundle}", cwd=folder)
    assert str(folder) not in bundle.read_text()
    assert json.loads(run(str(NODE), bundle, cwd=folder)) == SAID


@pytest.mark.usefixtures("built")
def test_a_script_runs_where_there_is_no_module_system_at_all(tmp_path: Path) -> None:
    """As in a page's plain `<script>`, where an address without a scheme is of the page."""
    folder = application(tmp_path)
    run(ESBUILD, "use.mjs", "--bundle", "--format=iife", "--outfile=bundle.js", cwd=folder)
    page = """
    const vm = require("node:vm"), fs = require("node:fs");
    const globals = { console, setTimeout, clearTimeout, setInterval, clearInterval, URL,
      AbortController, queueMicrotask, document: { baseURI: "https://shop/a/b.html" } };
    vm.runInNewContext(fs.readFileSync("bundle.js", "utf8"), globals);
    """
    said = json.loads(run(str(NODE), "-e", page, cwd=folder))
    assert said == {
        **SAID,
        "refused": [None, "TypeError"],
        "asked": ["wss://h/live/ws", "wss://shop/ws"],
    }


@pytest.mark.parametrize("mode", ["production", "development"])
def test_webpack_bundles_it_without_the_path_of_the_machine(webpack: Path, mode: str) -> None:
    """Webpack replaces `import.meta.url` by the file's place at build time."""
    program = webpack / "node_modules" / ".bin" / "webpack"
    flags = (f"--mode={mode}", "--devtool=false", "--target=web", "-o", str(webpack / mode))
    run(program, "./use.mjs", *flags, cwd=webpack)
    bundle = webpack / mode / "main.js"
    assert str(webpack) not in bundle.read_text()
    assert "file://" not in bundle.read_text()
    assert json.loads(run(str(NODE), bundle, cwd=webpack)) == SAID


@pytest.mark.parametrize("file", ["dist/hub.cjs", "src/hub.js"], ids=["built", "modules"])
def test_jest_runs_it_as_commonjs(jest: Path, file: str) -> None:
    """The build for `require`, which Jest finds by itself; or the modules, which are named in
    `transformIgnorePatterns`."""
    (jest / "use.test.js").write_text(
        'import { Hub } from "broadcast-hub-client";\n'
        'test("a hub", () => expect(new Hub("https://h").state).toBe("waiting"));\n'
        'test("which", () => expect(require.resolve("broadcast-hub-client"))'
        f'.toMatch("/broadcast-hub-client/{file}"));\n'
    )
    settings: dict[str, Any] = {
        "transform": {
            r"\.m?js$": ["babel-jest", {"plugins": ["@babel/plugin-transform-modules-commonjs"]}]
        },
        "transformIgnorePatterns": ["/node_modules/(?!broadcast-hub-client/)"],
    }
    if file.startswith("src/"):
        place = f"<rootDir>/node_modules/broadcast-hub-client/{file}"
        settings["moduleNameMapper"] = {"^broadcast-hub-client$": place}
    (jest / "jest.config.json").write_text(json.dumps(settings))
    program = jest / "node_modules" / ".bin" / "jest"
    run(program, "--config=jest.config.json", "--runInBand", cwd=jest, CI="1")
