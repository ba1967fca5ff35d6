"""The fenced blocks of a document, which tests run.

One that is to be run has a label behind its language (```` ```sh publish ````).
"""

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.support.programs import outside

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "hub" / "docs"
GUIDES = (
    ROOT / "README.md",
    ROOT / "clients" / "README.md",
    ROOT / "clients" / "js" / "README.md",
    ROOT / "clients" / "python" / "README.md",
    ROOT / "k8s" / "README.md",
    *sorted(path for path in DOCS.glob("*.md") if not path.is_symlink()),
)
"""READMEs and the documents for users. A label means the same in all of them."""
URL = "http://127.0.0.1:8000"
"""Where the hub is in every document."""
RUN_SECONDS = 30.0
FENCE = re.compile(r"^```(\w+)(?: ([\w-]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""Language, label and text of a block."""
_NO_VARIABLES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Block:
    """A fenced block, as it stands in a document."""

    language: str
    label: str
    text: str
    document: str = ""
    """The name of the file that it stands in."""

    def __str__(self) -> str:
        return f"{self.document}-{self.language}-{self.label}"

    def against(self, url: str) -> str:
        """Returns its text for the hub at `url`, and for this interpreter."""
        return self.text.replace(URL, url).replace("uv run hub", f"{sys.executable} -m hub")

    def command(self, url: str) -> tuple[str, ...]:
        """Returns the command that runs the block; a shell reads the repository's
        files from any directory."""
        text = self.against(url)
        if self.language == "sh":
            return ("bash", "-euc", text.replace("clients/", f"{ROOT}/clients/"))
        return (sys.executable, "-c", text)


def blocks_in(document: Path) -> list[Block]:
    """Returns all fenced blocks of a document."""
    return [
        Block(match[1], match[2] or "", match[3], document.stem)
        for match in FENCE.finditer(document.read_text())
    ]


def blocks(label: str) -> list[Block]:
    """Returns the blocks with this label in any guide; fails if there is none."""
    chosen = [each for guide in GUIDES for each in blocks_in(guide) if each.label == label]
    assert chosen, f"no document has a block labelled {label!r}"
    return chosen


def environment(url: str) -> dict[str, str]:
    """Returns the environment of a block: the hub's address, and output that comes at once."""
    return outside() | {"HUB_URL": url, "PYTHONUNBUFFERED": "1"}


def finished(
    block: Block, url: str = URL, *, cwd: Path = ROOT, variables: Mapping[str, str] = _NO_VARIABLES
) -> str:
    """Run the block to its end; return its output."""
    ended = subprocess.run(
        block.command(url),
        env=environment(url) | dict(variables),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
