"""A file to a channel, line by line: what `hub ingest` does.

Reads, remembers, paces and counts; it publishes through `hub_client` like any other backend and
knows nothing of the hub's inside.
"""
