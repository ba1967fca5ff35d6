"""The nodes that share one Redis: which of them live, who is with them, what they ask each other.

Here belongs what ends by itself when a node is killed. Publications do not: they outlive the node
that sent them.
"""
