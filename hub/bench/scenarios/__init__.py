"""Work that the hub is measured by, each with what it is to reach: `hub bench --scenario`.

`registry` is the table. A new scenario is a row there, and a module where it is measured in a
way of its own. How load is made and costs are measured is not here but in `hub.bench`.
"""
