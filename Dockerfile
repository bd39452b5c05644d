FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /opt/memx
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY memx_sdk memx_sdk
COPY server server
COPY integrations/mcp integrations/mcp
RUN /opt/memx/bin/pip install --no-cache-dir --constraint constraints.txt . "./server[mcp]" ./integrations/mcp

FROM python:3.12-slim
COPY --from=build /opt/memx /opt/memx
ENV PATH=/opt/memx/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/var/lib/memx
WORKDIR /var/lib/memx
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
# The exec form makes memx the process that gets SIGTERM; it ends its sockets and exits by itself.
CMD ["memx", "serve", "--host", "0.0.0.0"]
