"""The documents: Markdown for users, and what makes a small site of it.

`README.md` is the table of contents: its headings and links are the sidebar, and their order is
that of the pages. The documents are data and know only each other; `hub.transports` serves them.
"""

from pathlib import Path

DIRECTORY = Path(__file__).parent
"""Where the Markdown is. Pages that belong to another folder are symbolic links here."""
