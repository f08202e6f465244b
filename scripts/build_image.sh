#!/usr/bin/env bash
# Builds the image of the Dockerfile with docker, podman or buildah: the first that is there.
#
#   scripts/build_image.sh [flags of the engine's build]      --build-arg TORCH=gpu for one with CUDA
#
#   MPIBO_IMAGE    its name (default mpibo)
#   MPIBO_ENGINE   docker, podman or buildah
#   MPIBO_BASE     debian: where no registry can be reached, make the base image of Debian's packages first, once
#                  (root; buildah and mmdebstrap)
#
# With podman and buildah pip gets this machine's certificates (PIP_CERT) and folders of wheels (PIP_FIND_LINKS), mounted
# while it builds: nothing of them stays in the image.
set -eu
root=$(CDPATH="" cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
image=${MPIBO_IMAGE:-mpibo}
base=localhost/mpibo-debian:bookworm

fail() {
    echo "mpibo: $1" >&2
    exit 2
}

engine=${MPIBO_ENGINE:-}
for name in docker podman buildah; do
    [ -n "$engine" ] || ! command -v "$name" >/dev/null || engine=$name
done
[ -n "$engine" ] || fail "there is no docker, podman or buildah in the PATH"

make_base() {
    local work container
    buildah inspect --type image "$base" >/dev/null 2>&1 && return
    work=$(mktemp -d)
    # As slim as the registry's: without manuals and translations.
    mmdebstrap --quiet --variant=minbase --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' bookworm "$work/base.tar" || return
    container=$(buildah from scratch) &&
        buildah add -q "$container" "$work/base.tar" / >/dev/null &&
        buildah config --cmd bash "$container" &&
        buildah commit -q "$container" "$base" >/dev/null &&
        buildah rm "$container" >/dev/null
    rm -rf "$work"
}

flags=()
case ${MPIBO_BASE:-} in
'') ;;
debian)
    [ "$engine" = buildah ] || fail "MPIBO_BASE=debian needs MPIBO_ENGINE=buildah, got $engine"
    make_base || fail "could not make the base image of Debian's packages"
    flags+=(--build-arg "BASE_IMAGE=$base" --pull-never)
    ;;
*) fail "MPIBO_BASE must be debian or nothing, got $MPIBO_BASE" ;;
esac
if [ "$engine" != docker ]; then
    if [ -r "${PIP_CERT:-}" ]; then flags+=(--volume "$PIP_CERT:/run/pip.crt:ro" --build-arg PIP_CERT=/run/pip.crt); fi
    if [ -d "${PIP_FIND_LINKS:-}" ]; then flags+=(--volume "$PIP_FIND_LINKS:/run/wheels:ro" --build-arg PIP_FIND_LINKS=/run/wheels); fi
    flags+=(--network host)
fi
exec "$engine" build "${flags[@]}" -t "$image" "$@" "$root"
