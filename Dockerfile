# registry-admin as an image: no compiler, no pip, no root, nothing written outside of its volume.
#
#   docker build -t registry-admin .
#
# Behind a firewall: put the wheels of requirements/ into wheels/ and build with
#   --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/src/wheels

ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
ARG PIP_NO_INDEX= PIP_FIND_LINKS=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# A glob may match nothing, as long as something else is copied with it.
COPY requirements/build.txt requirements/runtime.txt wheel[s] wheels/
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/registry-admin
RUN /opt/build/bin/pip install --require-hashes --requirement wheels/build.txt \
 && /opt/build/bin/pip --python /opt/registry-admin/bin/python install \
      --require-hashes --requirement wheels/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY demo demo
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir built . \
 && /opt/build/bin/pip --python /opt/registry-admin/bin/python install --no-deps --no-index built/*.whl \
 && mkdir --mode 0700 /data

FROM ${BASE}
# As process 1 it passes signals on and reaps what the service's children leave.
RUN command -v tini >/dev/null \
 || { apt-get update && apt-get install --yes --no-install-recommends tini \
   && rm -rf /var/lib/apt/lists/*; }
COPY --from=build /opt/registry-admin /opt/registry-admin
# Python's own modules come without bytecode: what the service uses of them is compiled now, since
# at run time nobody may write it, and each process would do it anew.
RUN /opt/registry-admin/bin/python -c \
    "import asyncio, service.app, service.cli, service.supervisor, service.web, service.wiring"
# A named volume takes over owner and mode from here.
COPY --from=build --chown=10001:10001 /data /var/lib/registry-admin
ENV PATH=/opt/registry-admin/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    REGISTRY_ADMIN_BIND=0.0.0.0:8080 \
    REGISTRY_ADMIN_DATA_DIR=/var/lib/registry-admin
# Numbers alone: the socket's group is given at run time, by --group-add.
USER 10001:10001
WORKDIR /var/lib/registry-admin
VOLUME /var/lib/registry-admin
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['REGISTRY_ADMIN_BIND'].rpartition(':')[2] + '/healthz', timeout=4)"]
ENTRYPOINT ["tini", "--", "registry-admin"]
CMD ["serve"]

ARG VERSION= REVISION= CREATED=
LABEL org.opencontainers.image.title="registry-admin" \
      org.opencontainers.image.description="HTTP API to see, safely delete and maintain what a container registry holds" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
