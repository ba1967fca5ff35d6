"""The operators' page: static files that know the hub only through its public HTTP API."""

from pathlib import Path

DIRECTORY = Path(__file__).parent
"""The directory of `index.html` and its assets."""
