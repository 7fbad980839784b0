# One recipe for CPU and GPU: --build-arg EXTRA=gpu,redis,tracing brings CUDA as wheels, so a slim base does for both.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
ARG EXTRA=cpu,redis,tracing
WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
COPY schemas schemas
COPY monitoring monitoring
COPY models models
COPY streams streams
COPY topology topology
RUN python -m venv /opt/vibestream \
    && /opt/vibestream/bin/pip install --no-cache-dir --constraint constraints.txt ".[${EXTRA}]"

FROM ${BASE}
COPY --from=build /opt/vibestream /opt/vibestream
# HOME is where compiled code of the retrieval is kept between starts.
ENV PATH=/opt/vibestream/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/data \
    VIBESTREAM_STORE_URI=/data/lancedb \
    VIBESTREAM_REPORTS=/data/reports \
    VIBESTREAM_METRICS_PORT=9100
RUN mkdir /data && chown 10001:10001 /data
USER 10001:10001
VOLUME /data
EXPOSE 9100 8300
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"VIBESTREAM_METRICS_PORT\"]}/livez', timeout=4)"]
ENTRYPOINT ["vibestream"]
CMD ["--help"]
