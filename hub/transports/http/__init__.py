"""HTTP: publishing, reading, operating, and the pages. Everything but `/ws` and `/sse`."""
