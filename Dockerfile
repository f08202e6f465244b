# The main job in an image: `docker run mpibo`; what follows the image's name are flags of `mpibo run` (docs/container.md).
#
#   BASE_IMAGE                Debian, Ubuntu or what is made of them, with Python 3.11 or newer
#   TORCH                     cpu or gpu: MPIBO_TORCH of scripts/environment.sh; TORCH_INDEX: MPIBO_TORCH_INDEX
#   PIP_CERT, PIP_FIND_LINKS  for pip, while it builds; mount what they name (scripts/build_image.sh does)
ARG BASE_IMAGE=debian:bookworm-slim

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS python
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin

FROM python AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3-venv \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
ARG TORCH=cpu
ARG TORCH_INDEX
ARG PIP_CERT
ARG PIP_FIND_LINKS
WORKDIR /opt/mpibo
# What the environment is made of; a change elsewhere does not make it anew.
COPY LICENSE README.md pyproject.toml setup.cfg ./
COPY scripts ./scripts
COPY mpibo/__init__.py ./mpibo/
RUN MPIBO_TORCH="$TORCH" MPIBO_TORCH_INDEX="$TORCH_INDEX" scripts/image.sh
COPY mpibo ./mpibo
COPY slurm ./slurm
RUN .venv/bin/python -m compileall -q mpibo

FROM python
COPY --from=build /opt/mpibo /opt/mpibo
# Runs are left in the folder that is mounted here, by the user that `docker run --user` names, or by this one.
RUN useradd --uid 1000 --create-home mpibo && install -d -m 1777 /job
# The latter two for NVIDIA's container toolkit, where a run is given GPUs.
ENV PATH=/opt/mpibo/.venv/bin:$PATH NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
WORKDIR /job
ENTRYPOINT ["/opt/mpibo/scripts/run.sh"]
