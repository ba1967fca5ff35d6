"""Access: keys, tokens, origins, hosts, and the one policy object that every transport asks.

The use of the policy's answer, and the transport of credentials, do not belong here.
"""
