# One hub node. Two stages: what builds stays behind, and only the finished environment is kept.
# tests/test_container.py runs these steps as they stand here.

# A tag can be moved to another image. For production name the one that you have looked at:
#   --build-arg BASE=python:3.13.14-slim-bookworm@sha256:...   (hub/docs/kubernetes.md)
ARG BASE=python:3.13.14-slim-bookworm
FROM ${BASE} AS build

RUN pip install --no-cache-dir --disable-pip-version-check uv==0.13.9

# The interpreter is the image's own; files are copied because the cache is another file system;
# bytecode is compiled now because the user of the last stage may not write it.
ENV UV_PROJECT_ENVIRONMENT=/opt/hub \
    UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1

WORKDIR /src

# Dependencies first: this layer changes only with the lock.
COPY pyproject.toml uv.lock ./
COPY clients/python/pyproject.toml clients/python/
RUN uv sync --frozen --no-dev --no-install-workspace

# clients/js/src is what hub/pages/client points to, clients/PROTOCOL.md is a page of hub/docs; README.md is named in pyproject.toml.
COPY README.md ./
COPY clients/python clients/python
COPY clients/js/src clients/js/src
COPY clients/PROTOCOL.md clients/
COPY hub hub
RUN uv sync --frozen --no-dev --no-editable


FROM ${BASE}

# The same path as in the first stage: an environment's scripts name their interpreter.
COPY --from=build /opt/hub /opt/hub

# Every address, IPv4 and IPv6: without a key the hub says so and refuses to start.
ENV PATH=/opt/hub/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HUB_HOST=:: \
    HUB_PORT=8000

EXPOSE 8000

# By number, so that an orchestrator can see that it is not root. It owns nothing.
USER 10001:10001

# What `hub serve` drains on; a second one would stop it at once.
STOPSIGNAL SIGTERM

# Alive, not ready: a node that drains must not be restarted. As long as a slow start takes, then
# every 10 s.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-m", "hub.healthcheck"]

CMD ["hub", "serve"]
