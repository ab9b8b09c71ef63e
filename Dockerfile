# The image of worker, host, store and of the command `pointsman` itself. See docs/deploy.md.
#
# Everything that is installed is in requirements.lock with its hashes: the first stage turns that lock into wheels,
# the second installs the project from these wheels alone, and of them only what running it takes.

FROM python:3.11.16-slim-bookworm AS wheels
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements.lock ./
RUN pip wheel --quiet --require-hashes --requirement requirements.lock --wheel-dir /wheels
COPY pyproject.toml README.md ./
COPY schemas ./schemas
COPY streams ./streams
COPY agents ./agents
COPY loadtest ./loadtest
COPY console ./console
# The build tools are of the lock too: without isolation nothing else is fetched.
RUN pip install --quiet --no-index --find-links /wheels setuptools wheel \
 && pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels .
RUN python -m venv /opt/pointsman \
 && /opt/pointsman/bin/pip install --quiet --no-index --find-links /wheels pointsman \
 && /opt/pointsman/bin/pip uninstall --quiet --yes pip setuptools \
 && /opt/pointsman/bin/python -m compileall -q /opt/pointsman/lib

FROM python:3.11.16-slim-bookworm
LABEL org.opencontainers.image.title="pointsman" \
      org.opencontainers.image.description="An orchestrator for fleets of AI agents, on Kafka, Faust and ClickHouse"
RUN groupadd --gid 10001 pointsman \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin pointsman
COPY --from=wheels /opt/pointsman /opt/pointsman
COPY topology.yaml /etc/pointsman/topology.yaml
# Agents of your own: put their modules into /opt/agents, which the host can import from.
RUN mkdir /opt/agents
ENV PATH=/opt/pointsman/bin:$PATH \
    PYTHONPATH=/opt/agents \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    POINTSMAN_TOPOLOGY=/etc/pointsman/topology.yaml \
    POINTSMAN_METRICS_HOST=0.0.0.0 \
    POINTSMAN_METRICS_PORT=9100
USER 10001:10001
WORKDIR /tmp
EXPOSE 9100
STOPSIGNAL SIGTERM
# Whether the process serves: its partitions are recovered, its inboxes assigned, its history open.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['POINTSMAN_METRICS_PORT'] + '/ready', timeout=3)"]
ENTRYPOINT ["pointsman"]
CMD ["--help"]
