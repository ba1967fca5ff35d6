"""Pages with React or Vue, bundled with the client's package as npm would install it."""

import shutil
from pathlib import Path

import pytest

from tests.support.programs import completed

ROOT = Path(__file__).parents[2]
MODULES = ROOT / "clients" / "js" / "node_modules"
SECONDS = 60
needs_frameworks = pytest.mark.skipif(
    not (MODULES / "react-dom").exists() or not (MODULES / "vue").exists(),
    reason="the tools of clients/js are not installed",
)


def install(folder: Path) -> None:
    """Put the package and the frameworks into the `node_modules` of a project."""
    modules = folder / "node_modules"
    modules.mkdir()
    for found in MODULES.iterdir():
        (modules / found.name).symlink_to(found)
    package = modules / "broadcast-hub-client"
    shutil.copytree(ROOT / "clients" / "js" / "src", package / "src")
    shutil.copy(ROOT / "clients" / "js" / "package.json", package)


def bundle(folder: Path, source: str, out: str) -> None:
    """Bundle `source`, and all that it imports, as the file `out`."""
    flags = [
        "--bundle",
        "--preserve-symlinks",
        "--jsx=automatic",
        "--log-level=error",
        "--define:process.env.NODE_ENV='development'",
        "--define:__VUE_OPTIONS_API__=true",
        "--define:__VUE_PROD_DEVTOOLS__=false",
        "--define:__VUE_PROD_HYDRATION_MISMATCH_DETAILS__=false",
        f"--outfile={out}",
    ]
    completed(MODULES / ".bin" / "esbuild", source, *flags, cwd=folder, seconds=SECONDS)
