"""The scenarios of `hub bench --scenario`, each with the figures that it is to reach.

`registry` is the table. A new scenario is a row there, and a module where it is measured in a way
of its own. The making of load and the measuring of costs do not belong here but in `hub.bench`.
"""
