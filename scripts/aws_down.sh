#!/usr/bin/env bash
# Ends the cluster of aws_up.sh and what it costs; its run folders are copied to the bucket first.
#
#   scripts/aws_down.sh             copy /shared/mpibo/runs to the bucket, delete the cluster with its file systems, wait
#   scripts/aws_down.sh --discard   delete it, and the runs with it
#   scripts/aws_down.sh --stop      only stop its nodes, the head node too: the file systems stay, and cost
#
# scripts/aws.sh names the variables.
set -eu
. "$(dirname -- "${BASH_SOURCE[0]}")/aws.sh"

how=${1:-}
case $how in '' | --discard | --stop) ;; *) fail "expected --stop, --discard or nothing, got $how" ;; esac

if [ "$how" = --stop ]; then
    pcluster update-compute-fleet --cluster-name "$cluster" --region "$region" --status STOP_REQUESTED >/dev/null ||
        fail "there is no cluster $cluster in $region to stop"
    head=$(ask_cluster headNode.instanceId)
    [ "${head#i-}" != "$head" ] || fail "there is no head node of a cluster $cluster in $region"
    aws ec2 stop-instances --instance-ids "$head" >/dev/null
    echo "mpibo: stopped. To go on: aws ec2 start-instances --region $region --instance-ids $head, then" \
        "pcluster update-compute-fleet --cluster-name $cluster --region $region --status START_REQUESTED" >&2
    exit
fi

find_bucket
if [ -z "$how" ]; then
    runs=s3://$bucket/$prefix/runs
    on_head "[ ! -d /shared/mpibo/runs ] || aws s3 sync --only-show-errors /shared/mpibo/runs $(printf %q "$runs")" ||
        fail "the runs could not be copied to $runs, so the cluster stays; --discard deletes it and them"
    echo "mpibo: the runs are in $runs" >&2
fi
pcluster delete-cluster --cluster-name "$cluster" --region "$region" >/dev/null || fail "could not delete the cluster $cluster in $region"
while status=$(ask_cluster clusterStatus) && [ "$status" != GONE ]; do
    [ "$status" != DELETE_FAILED ] || fail "the cluster is DELETE_FAILED: call this again; it costs until it is gone"
    sleep "${MPIBO_WAIT:-20}"
done
echo "mpibo: the cluster is gone. What stays: s3://$bucket (aws s3 rb --force s3://$bucket) and a key pair, which is free" >&2
