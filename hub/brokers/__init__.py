"""Brokers number publications and keep them: in memory, in a file, or in Redis between nodes.

Here belong implementations of `hub.core.ports.Broker` and their parts. Sessions, dialects
and connections of peers do not: a broker delivers into `hub.core.ports.Downstream` and knows not
what is behind it.
"""
