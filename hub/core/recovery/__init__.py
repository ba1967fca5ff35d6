"""How a subscription starts and comes to be live: from a position, through history, to the head.

Publications that are sent as they come do not belong here (`hub.core.fanout`).
"""
