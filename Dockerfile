# syntax=docker/dockerfile:1
# Build:  docker build -t token-service .
# Run:    docker run --read-only --cap-drop ALL -v token-service:/var/lib/token-service \
#             -p 50051:50051 -p 8080:8080 --env-file service.env token-service
#
# The image listens on all interfaces, so it wants the settings of production: TLS, callers, an issuer and a
# database. The service says which of them it misses and does not start without.

# The Python that constraints.txt was made with. The tag moves; for a build that can be repeated, name the image by
# its digest, as `docker buildx imagetools inspect python:3.11-slim-bookworm` shows it:
#     docker build --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:... -t token-service .
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

FROM ${PYTHON_IMAGE} AS runtime
LABEL org.opencontainers.image.title="token-service" \
      org.opencontainers.image.licenses="Apache-2.0"
# A fixed number, so that Kubernetes' runAsNonRoot and volume ownership can refer to it.
RUN groupadd --gid 10001 token-service \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin token-service \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/token-service
COPY --from=builder /opt/token-service /opt/token-service
ENV PATH=/opt/token-service/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TOKEN_SERVICE_GRPC_ADDRESS=0.0.0.0:50051 \
    TOKEN_SERVICE_HTTP_ADDRESS=0.0.0.0:8080 \
    TOKEN_SERVICE_DATA_DIR=/var/lib/token-service
WORKDIR /var/lib/token-service
USER 10001:10001
VOLUME /var/lib/token-service
EXPOSE 50051 8080
STOPSIGNAL SIGTERM
# Alive, not ready: a node that waits for its database must not be restarted for it. A node that has `http_tls` in a file needs
# TOKEN_SERVICE_HTTP_TLS in the environment for this check. The certificate need not name 127.0.0.1.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, ssl, urllib.request as r; port = os.environ['TOKEN_SERVICE_HTTP_ADDRESS'].rpartition(':')[2]; scheme = 'https' if os.environ.get('TOKEN_SERVICE_HTTP_TLS', '').lower() in ('true', '1', 'yes', 'on') else 'http'; r.urlopen(f'{scheme}://127.0.0.1:{port}/healthz', timeout=2, context=ssl._create_unverified_context())"]
ENTRYPOINT ["token-service"]
CMD ["serve"]
