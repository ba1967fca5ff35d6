"""The start of a subscription: from a position, through history, to the live stream.

Sending new publications does not belong here (`hub.core.fanout`).
"""
