"""Access: keys, tokens, origins, hosts, and the one policy object that every transport asks.

What is done with the answer, and how credentials came, does not belong here.
"""
