#!/usr/bin/env bash
# Submits a job on the cluster of aws_up.sh: calls sbatch on its head node, in the repository that all nodes share.
#
#   scripts/aws_submit.sh [flags of sbatch] slurm/mnist.sh [flags of `mpibo run`]      without any: slurm/mnist.sh
#
# scripts/aws.sh names the variables.
set -eu
. "$(dirname -- "${BASH_SOURCE[0]}")/aws.sh"

[ $# -gt 0 ] || set -- slurm/mnist.sh
words=
for word; do words+=" $(printf %q "$word")"; done
on_head "cd /shared/mpibo && sbatch$words"
