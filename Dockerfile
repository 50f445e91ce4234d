# The image of xlt. `make image` builds VARIANT=gpu as xlt:latest and VARIANT=cpu as xlt:cpu.
#   docker run --gpus all -v xlt-data:/data xlt reproduce

# No CUDA base: torch, FAISS and Triton bring CUDA's libraries and ptxas as packages, the container toolkit the driver.
# Another base: any Debian or Ubuntu image with Python 3.11 or newer. What a name stands for changes with time, a digest
# does not; `docker buildx imagetools inspect python:3.12-slim-bookworm` tells today's:
#   docker build --build-arg BASE=python:3.12-slim-bookworm@sha256:... --build-arg COMMIT=$(git rev-parse HEAD) .
ARG BASE=python:3.12-slim-bookworm
ARG VARIANT=gpu

FROM ${BASE} AS base
# Lists and archives stay out of the layer.
RUN --mount=type=bind,source=artifact/image,target=/steps \
    --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt,sharing=locked \
    sh /steps/system.sh

FROM base AS packages
ARG VARIANT
# For VARIANT=cpu: the index of CPU builds that torch's installation page names. Without it torch comes for CUDA, 2.7 GB.
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_CACHE_DIR=/var/cache/pip PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY artifact/lock artifact/lock
COPY artifact/image/packages.sh artifact/image/
RUN --mount=type=cache,target=/var/cache/pip sh artifact/image/packages.sh "$VARIANT"

FROM packages AS program
COPY . .
RUN --mount=type=cache,target=/var/cache/pip sh artifact/image/program.sh /dist

FROM base
# The packages are a layer of their own, and change with the locks alone. All that is written lies in the volume; any
# --user may write there, also one without a name or a home.
COPY --from=packages /opt/xlt /opt/xlt
RUN --mount=type=bind,from=program,source=/dist,target=/dist \
    /opt/xlt/bin/pip install --no-cache-dir --no-deps --root-user-action=ignore /dist/xlt-*.whl \
    && cp /dist/sbom.json /opt/xlt/ \
    && install --directory --mode=1777 /data
ENV PATH=/opt/xlt/bin:$PATH \
    XLT_VOLUME=/data \
    XLT_RESULTS=/data/results \
    XLT_DATA_LOCK=/data/data.lock \
    HF_HOME=/data/cache/huggingface \
    TORCH_EXTENSIONS_DIR=/data/cache/torch_extensions \
    TORCHINDUCTOR_CACHE_DIR=/data/cache/torchinductor \
    TRITON_CACHE_DIR=/data/cache/triton \
    XDG_CACHE_HOME=/data/cache \
    XDG_CONFIG_HOME=/data/cache/config \
    HOME=/data USER=xlt LOGNAME=xlt \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME /data
WORKDIR /data
USER 1000:1000
ENTRYPOINT ["xlt"]
# Last, since they differ in each build.
ARG VARIANT
ARG VERSION=0.1.0
ARG COMMIT=
ARG CREATED=
ENV XLT_VARIANT=$VARIANT XLT_COMMIT=$COMMIT
LABEL org.opencontainers.image.title="xlt" \
      org.opencontainers.image.description="Reproducible artifact of X-STILTs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$COMMIT \
      org.opencontainers.image.created=$CREATED
