from pathlib import Path

import pytest

from tests.transports.http.fakes import BUILT_CLIENT, Hub, make_hub


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A page and a client module, and things that must never be served."""
    contents = {
        "pages/index.html": "<!doctype html><title>demo</title>",
        "pages/demo.js": 'import { Hub } from "./client.js";',
        "pages/client.min.js": BUILT_CLIENT.decode(),
        "pages/.hidden.js": "secret",
        "pages/notes.txt": "not of a type that is served",
        "client/hub.js": "export class Hub {}",
        "outside.js": "secret",
    }
    for name, text in contents.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture
def hub(files: Path) -> Hub:
    return make_hub(files)
