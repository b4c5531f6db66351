# syntax=docker/dockerfile:1
# Build and run: docs/deployment.md. Shortest:
#     docker build --tag token-service:local .
#
# One image for the service (`serve`, `migrate`, …) and for `gateway`. It listens on all interfaces, so it wants the settings of
# production: TLS, callers, an issuer and a database. The service says which of them it misses and does not start without.

# The Python that constraints.txt was made with. The tag moves; for a build that can be repeated, name the image by
# its digest, as `docker buildx imagetools inspect python:3.11-slim-bookworm` shows it:
#     docker build --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:... --tag token-service:local .
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS builder
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/token-service && python -m venv /opt/build
WORKDIR /src
# Only files with the hashes in these lists (scripts/lock makes them), whatever an index serves.
COPY requirements.txt requirements-build.txt ./
RUN /opt/build/bin/pip install --require-hashes -r requirements-build.txt \
    && /opt/token-service/bin/pip install --compile --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY token_service ./token_service
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .
# Compiled here: nothing is written when it runs. The module of an HSM is the vendor's: mount it, or build on this image.
RUN /opt/token-service/bin/pip install --compile --no-deps --no-index /wheels/*.whl \
    && /opt/token-service/bin/pip uninstall --yes pip setuptools
# A label with another version than that of the program ends the build.
ARG VERSION=
RUN test -z "${VERSION}" || test "${VERSION}" = "$(/opt/token-service/bin/token-service version)"

FROM ${PYTHON_IMAGE} AS runtime
# The init reaps orphans and passes signals on. Without it (`--entrypoint token-service`) the service handles SIGTERM as PID 1.
# hadolint ignore=DL3008 # the distribution's version, as for all packages of the base image
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/*
# A fixed number, so that Kubernetes' runAsNonRoot and volume ownership can refer to it.
RUN groupadd --gid 10001 token-service \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin token-service \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/token-service
COPY --from=builder /opt/token-service /opt/token-service
# hadolint ignore=DL3064 # no secrets: the names of the settings begin with TOKEN_
ENV PATH=/opt/token-service/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TOKEN_SERVICE_GRPC_ADDRESS=0.0.0.0:50051 \
    TOKEN_SERVICE_HTTP_ADDRESS=0.0.0.0:8080 \
    TOKEN_SERVICE_DATA_DIR=/var/lib/token-service
WORKDIR /var/lib/token-service
USER 10001:10001
VOLUME /var/lib/token-service
EXPOSE 50051 50052 8080 9464
STOPSIGNAL SIGTERM
# Alive, not ready: a node that waits for its database must not be restarted for it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["python", "-m", "token_service.probe"]
ENTRYPOINT ["tini", "--", "token-service"]
CMD ["serve"]
# Last, so that another revision reuses all layers.
ARG PYTHON_IMAGE
ARG VERSION=
ARG REVISION=
ARG CREATED=
ARG SOURCE=
LABEL org.opencontainers.image.title="token-service" \
      org.opencontainers.image.description="Issues, validates, refreshes and revokes tokens, and checks them for gateways" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}"
