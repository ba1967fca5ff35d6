"""The browser client as a package: its types, its size, and what would be published.

Needs the tools of `clients/js` (`npm install --prefix clients/js`); skipped without them.
"""

import gzip
import json
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "clients" / "js"
BINARIES = PACKAGE / "node_modules" / ".bin"
USER = Path(__file__).parent / "js" / "user.ts"
NPM = shutil.which("npm")
# Of these, 900 are for moving between connections without a gap that is none, for tokens that take
# long, and for clocks that are set.
MAX_BYTES = 14_000
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
    """What a program that succeeds prints."""
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_the_sources_pass_the_strict_type_checker() -> None:
    """JSDoc types, read by `tsc --checkJs --strict`."""
    run(BINARIES / "tsc", "--checkJs", "--strict", "--noEmit", "-p", PACKAGE)


def test_one_minified_bundle_stays_below_its_limit() -> None:
    """What a page loads when it bundles the client; compressed it is half of that."""
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


def install(directory: Path) -> Path:
    """The package as a user gets it: packed, and unpacked into `node_modules`."""
    packed = json.loads(
        run(str(NPM), "pack", "--ignore-scripts", "--json", "--pack-destination", directory)
    )
    [archive] = packed if isinstance(packed, list) else packed.values()
    place = directory / "node_modules" / "broadcast-hub-client"
    place.mkdir(parents=True)
    run("tar", "-xzf", directory / archive["filename"], "-C", place, "--strip-components=1")
    return place


def test_a_typescript_program_compiles_against_the_installed_package(tmp_path: Path) -> None:
    """And what is wrong in it does not: `@ts-expect-error` fails where there is no error."""
    install(tmp_path)
    shutil.copy(USER, tmp_path / "user.ts")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    settings = {"compilerOptions": STRICT, "files": ["user.ts"]}
    (tmp_path / "tsconfig.json").write_text(json.dumps(settings))
    run(BINARIES / "tsc", "-p", tmp_path, cwd=tmp_path)


def test_the_installed_package_holds_what_its_exports_name_and_nothing_else(tmp_path: Path) -> None:
    """Sources, types and the README; a program imports it by its name."""
    place = install(tmp_path)
    names = {path.relative_to(place).parts[0] for path in place.rglob("*") if path.is_file()}
    assert names == {"src", "types", "README.md", "package.json"}
    manifest = json.loads((place / "package.json").read_text())
    assert all((place / path).is_file() for path in manifest["exports"]["."].values())
    assert not manifest.get("dependencies")
    program = 'import { Hub } from "broadcast-hub-client"; console.log(new Hub("http://h").state)'
    assert run("node", "--input-type=module", "-e", program, cwd=tmp_path) == "waiting\n"
