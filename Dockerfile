# The image of xlt. `make image` builds VARIANT=gpu as xlt:latest and VARIANT=cpu as xlt:cpu.
#   docker run --gpus all -v xlt-data:/data xlt reproduce

# No CUDA base: torch, FAISS and Triton bring CUDA's libraries and ptxas as packages, the container toolkit the driver.
# Another base: any Debian or Ubuntu image with Python 3.11 or newer, by name or by digest.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS base
# Triton and DeepSpeed's offloading compile small parts on first use, with Python's headers; some bases lack these.
# No versions: Debian keeps only the newest of a package, and a pinned one soon cannot be installed.
# hadolint ignore=DL3008
RUN set -- g++ \
    && { python3 -c "import ensurepip, sysconfig; open(sysconfig.get_paths()['include'] + '/Python.h')" 2>/dev/null \
      || set -- "$@" python3-dev python3-venv; } \
    && apt-get update \
    && apt-get install --yes --no-install-recommends "$@" \
    && rm -rf /var/lib/apt/lists/*

# The steps of `make install`.
FROM base AS build
ARG VARIANT=gpu
ENV PATH=/opt/xlt/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 DS_ACCELERATOR=cpu DS_BUILD_OPS=0
WORKDIR /build
COPY artifact/lock artifact/lock
RUN python3 -m venv /opt/xlt \
    && pip install --no-deps --require-hashes -r artifact/lock/build.lock
# First what DeepSpeed is compiled against: torch, for a GPU with all that its CUDA build needs.
RUN if [ "$VARIANT" = cpu ]; then pip install torch==2.13.0; \
    else awk '/^[a-z]/ { keep = !/^deepspeed==/ } keep' artifact/lock/gpu.lock >torch.lock \
      && pip install --no-deps --require-hashes --no-build-isolation --use-pep517 -r torch.lock; fi
# Else DeepSpeed compiles this operator at its first start without a GPU. One build serves every x86-64 processor: it
# chooses its instructions when it runs.
RUN DS_BUILD_SHM_COMM=1 \
    pip install --no-deps --require-hashes --no-build-isolation --use-pep517 -r "artifact/lock/$VARIANT.lock"
COPY . .
RUN pip install --no-deps --no-build-isolation . \
    && pip check \
    && chmod -R a+rX,go-w /opt/xlt

FROM base
COPY --from=build /opt/xlt /opt/xlt
# All that is written lies in the volume; any --user may write there, also one without a name or a home.
RUN install --directory --mode=1777 /data
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
ARG COMMIT=
ENV XLT_COMMIT=$COMMIT
LABEL org.opencontainers.image.title="xlt" \
      org.opencontainers.image.description="Reproducible artifact of X-STILTs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision=$COMMIT
VOLUME /data
WORKDIR /data
USER 1000:1000
ENTRYPOINT ["xlt"]
