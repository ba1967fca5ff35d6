"""One node put together: the only folder that names concrete classes.

Here a broker, transports, the core and what operators ask are made and handed to each other, each
part once. The behaviour of a part stands in the part's own folder; that of the process (signals,
limits, exit code) stands in `hub.main`.
"""
