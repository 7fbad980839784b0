# One recipe for CPU and GPU: --build-arg EXTRA=gpu brings CUDA as wheels, so a slim base does for both.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
ARG EXTRA=cpu
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
ENV PATH=/opt/vibestream/bin:$PATH PYTHONUNBUFFERED=1 VIBESTREAM_STORE_URI=/data/lancedb VIBESTREAM_METRICS_PORT=9100
RUN mkdir /data && chown 10001:10001 /data
USER 10001:10001
VOLUME /data
EXPOSE 9100
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9100/metrics', timeout=4)"]
ENTRYPOINT ["vibestream"]
CMD ["--help"]
