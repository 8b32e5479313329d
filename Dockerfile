# One image for web, worker and Flower; docker-compose.yml says which line each runs. It needs no writable root:
# `docker run --read-only --tmpfs /tmp -v data:/data …`.
FROM python:3.11-slim-bookworm AS build
WORKDIR /app
COPY requirements/runtime.lock requirements/runtime.lock
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: -r requirements/runtime.lock

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 paydesk \
 && useradd --uid 10001 --gid paydesk --home-dir /data --no-create-home --shell /usr/sbin/nologin paydesk \
 && install -d -o paydesk -g paydesk -m 0700 /data
COPY --from=build /venv /venv
WORKDIR /app
COPY Procfile flowerconfig.py ./
COPY shared shared
COPY api api
COPY worker worker
COPY cli cli
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PAYDESK_DATA_DIR=/data
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
VOLUME /data
EXPOSE 8000
CMD ["sh", "-c", "exec python -m uvicorn --factory api.main:create_app --host ${PAYDESK_HOST:-127.0.0.1} --port ${PAYDESK_PORT:-${PORT:-8000}} --timeout-graceful-shutdown 5 --no-access-log --no-server-header --log-level warning"]
