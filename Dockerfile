# Two images of one tree: `api` also migrates and schedules; `worker` adds the training stack.
#
#   docker build --target api --tag upkeep-api .
#   docker build --target worker --tag upkeep-worker .
#
# TORCH_INDEX_URL: where pip takes torch from; empty is pip's own index. Name an index of CPU builds
# for a small image, or one for your CUDA version. Every build of constraints.txt's version will do.
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim-bookworm AS python
ENV PATH=/opt/upkeep/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

FROM python AS build-api
WORKDIR /src
RUN python -m venv /opt/upkeep
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY client client
COPY app app
COPY workers workers
COPY migrations migrations
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint constraints.txt ./client .

FROM python AS build-worker
ARG TORCH_INDEX_URL=""
WORKDIR /src
RUN python -m venv /opt/upkeep
COPY constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint constraints.txt ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} torch
COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY app app
COPY workers workers
COPY migrations migrations
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint constraints.txt ./client '.[worker]'

# What both run as: nobody in particular, at home in the folder of artifacts and checkpoints.
# libgomp1 is the OpenMP library that LightGBM needs of the system.
FROM python AS runtime
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --home-dir /var/lib/upkeep --create-home upkeep
ENV UPKEEP_HOME=/var/lib/upkeep \
    UPKEEP_HOST=0.0.0.0 \
    UPKEEP_LOG_FORMAT=json
WORKDIR /var/lib/upkeep
USER 10001
ENTRYPOINT ["upkeep"]

FROM runtime AS worker
ENV UPKEEP_METRICS_PORT=9321
COPY --from=build-worker /opt/upkeep /opt/upkeep
EXPOSE 9321
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=6 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9321/metrics', timeout=4)"]
CMD ["worker", "--queue", "checks", "--queue", "training"]

FROM runtime AS api
COPY --from=build-api /opt/upkeep /opt/upkeep
EXPOSE 8321
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8321/healthz', timeout=4)"]
CMD ["api"]
