"""`hub ingest`: publish a file to a channel, line by line.

The package reads, remembers its place, paces and counts. It publishes through `hub_client` like any
other back end. Modules of the server do not belong here.
"""
