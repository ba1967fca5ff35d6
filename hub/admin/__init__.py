"""What operators ask of a node and do to it, carried out here or at any other node.

How a question came (HTTP, the command line) and how nodes reach each other does not belong here.
"""
