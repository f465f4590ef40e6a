# syntax=docker/dockerfile:1

# The gateway in a container: no compiler, no root, no demo credentials (config.toml is not copied).
#
#   docker build -t signal-gateway .
#   docker run -p 8080:8080 -p 127.0.0.1:9090:9090 -v signal-gateway:/data --stop-timeout 30 --read-only \
#       -e SIGNAL_GATEWAY_SERVER__TRUSTED_PROXIES=172.17.0.1 signal-gateway
#
# Inside of a container the listener must stand on 0.0.0.0, where others reach it; so the start is refused until one of these is set:
#   SIGNAL_GATEWAY_SERVER__TRUSTED_PROXIES   the address or network of the proxy in front that speaks TLS, or
#   SIGNAL_GATEWAY_SERVER__TLS_ENABLED=true  with …__TLS_CERT_PATH and …__TLS_KEY_PATH of files that are mounted, or
#   SIGNAL_GATEWAY_SERVER__INSECURE=true     where nothing but a test reaches it.
# Secrets come as files: SIGNAL_GATEWAY_AUTH__API_KEYS_FILE=/run/secrets/api_keys. Keys of phones are made beside the running server:
#   docker exec <container> signal-gateway key create --label shop

FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/signal-gateway
WORKDIR /src
COPY requirements.lock ./
RUN /opt/signal-gateway/bin/pip install --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY protocol protocol
COPY signal_gateway signal_gateway
RUN /opt/signal-gateway/bin/pip install --no-deps . && /opt/signal-gateway/bin/python -m compileall -q /opt/signal-gateway

FROM python:3.11-slim AS runtime
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin gateway && install -d -o gateway -g gateway -m 0700 /data
COPY --from=build /opt/signal-gateway /opt/signal-gateway
ENV PATH=/opt/signal-gateway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SIGNAL_GATEWAY_SERVER__HOST=0.0.0.0 \
    SIGNAL_GATEWAY_SERVER__DATA_DIR=/data \
    SIGNAL_GATEWAY_HTTP__HOST=0.0.0.0 \
    SIGNAL_GATEWAY_METRICS__HOST=0.0.0.0
USER gateway
WORKDIR /data
# Database, secrets and logs: the only place that is written to, so the root may be read-only.
VOLUME /data
EXPOSE 8080 8081 9090
HEALTHCHECK --interval=10s --timeout=4s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9090/health/live', timeout=3)"]
# SIGTERM: links are told to come back over server.drain_s (8 s), then storage flushes. Give it 30 s: --stop-timeout 30, or
# stop_grace_period and terminationGracePeriodSeconds where a compose file or Kubernetes stops it.
STOPSIGNAL SIGTERM
ENTRYPOINT ["signal-gateway"]
CMD ["serve"]
