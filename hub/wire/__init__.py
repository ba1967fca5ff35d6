"""Wire formats: bytes to commands, pushes to bytes. Pure functions.

Connections, sessions and code that waits do not belong here.
"""
