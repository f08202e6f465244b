#!/usr/bin/env bash
# install.sh ARCHIVE FOLDER TORCH[=INDEX]: what each node runs once it is configured (OnNodeConfigured), as root.
#
# The head node unpacks ARCHIVE (s3://...), this repository, in FOLDER, which all nodes share, and makes its .venv there;
# the others wait until it has. TORCH and INDEX are MPIBO_TORCH and MPIBO_TORCH_INDEX of scripts/environment.sh.
#
#   MPIBO_NODE_CONFIG     what ParallelCluster tells a node about itself (default /etc/parallelcluster/cfnconfig)
#   MPIBO_INSTALL_WAIT    seconds that a node waits (default 1500: ParallelCluster gives a node up after 1800)
set -eu

fail() {
    echo "mpibo: $1" >&2
    exit 1
}

[ $# = 3 ] || fail "usage: install.sh s3://BUCKET/mpibo.tar.gz FOLDER cpu|gpu[=INDEX]"
archive=$1 folder=$2
export MPIBO_TORCH=${3%%=*} MPIBO_TORCH_INDEX=
[ "$MPIBO_TORCH" = "$3" ] || MPIBO_TORCH_INDEX=${3#*=}
config=${MPIBO_NODE_CONFIG:-/etc/parallelcluster/cfnconfig}
[ -r "$config" ] || fail "there is no $config: this is no node of ParallelCluster"
# shellcheck source=/dev/null
. "$config"
state=$folder/.installed # "ready", or "failed" and why: written by the head node, read by the others

tell() {
    echo "$1" >"$state.new"
    mv "$state.new" "$state"
}

# Prints the user who submits jobs: not every release names it.
owner() {
    local user
    for user in "${cfn_cluster_user:-}" ubuntu ec2-user rocky root; do
        ! id -u "$user" >/dev/null 2>&1 || break
    done
    echo "$user"
}

install() {
    mkdir -p "$folder"
    rm -f "$state"
    aws s3 cp --only-show-errors "$archive" - | tar -xz -C "$folder" || return
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y python3-venv >/dev/null || return
    fi
    (cd "$folder" && bash -c '. scripts/environment.sh && set_up run') || return
    chown -R "$(owner):" "$folder" || return
}

if [ "${cfn_node_type:-}" = HeadNode ]; then
    if ! install; then
        tell "failed on $(uname -n): its log of cloud-init says why"
        fail "could not install mpibo in $folder"
    fi
    tell ready
else
    waited=0
    until [ -f "$state" ]; do
        [ "$waited" -lt "${MPIBO_INSTALL_WAIT:-1500}" ] || fail "the head node has not installed mpibo in $folder within $waited s"
        sleep 1
        waited=$((waited + 1))
    done
    [ "$(<"$state")" = ready ] || fail "$(<"$state")"
fi
