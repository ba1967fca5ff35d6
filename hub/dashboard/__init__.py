"""The operators' page: static files that know the hub only through its public HTTP API."""

from pathlib import Path

DIRECTORY = Path(__file__).parent
"""Where `index.html` and its assets are."""
