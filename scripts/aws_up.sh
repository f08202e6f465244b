#!/usr/bin/env bash
# Makes a ParallelCluster with mpibo installed on it, and waits until jobs can be submitted.
#
#   scripts/aws_up.sh [cpu|gpu|efa|FILE.yaml] [flags of pcluster create-cluster]
#
# With --dryrun true only what is free is made: the bucket, its files, the key pair. scripts/aws.sh names the variables;
# these are of aws_up.sh alone:
#
#   MPIBO_SUBNET          public subnet of the head node (default: one of the default VPC)
#   MPIBO_COMPUTE_SUBNET  subnet of the other nodes (default: the same); efa wants a private one behind a NAT gateway
#   MPIBO_SSH_FROM        the addresses that ssh to the head node may come from (default 0.0.0.0/0: any, with the key)
#   MPIBO_TORCH_INDEX     the package index for torch (scripts/environment.sh)
set -eu
. "$(dirname -- "${BASH_SOURCE[0]}")/aws.sh"

kind=cpu
case ${1:-} in '' | -*) ;; *) kind=$1 && shift ;; esac
template=$kind
[ "${kind%.yaml}" != "$kind" ] || template=$root/aws-parallelcluster/$kind.yaml
[ -f "$template" ] || fail "expected cpu, gpu, efa or a cluster file, got $kind"
dryrun=
case " $* " in *" --dryrun true "* | *" --dryrun=true "*) dryrun=1 ;; esac

# Prints the first subnet of the default VPC in whose zone every instance type of the template is to be had, or which is
# in the zone of the compute nodes.
choose_subnet() {
    local types zones zone subnet count
    types=$(sed -n 's/^[ -]*InstanceType: *\([a-z0-9.-]*\).*/\1/p' "$template" | sort -u)
    count=$(wc -l <<<"$types")
    zones=$(aws ec2 describe-instance-type-offerings --location-type availability-zone --filters "Name=instance-type,Values=${types//$'\n'/,}" \
        --query 'InstanceTypeOfferings[].[Location]' --output text | sort | uniq -c | awk -v count="$count" '$1 == count {print $2}')
    if [ -n "${MPIBO_COMPUTE_SUBNET:-}" ]; then
        zones=$(aws ec2 describe-subnets --subnet-ids "$MPIBO_COMPUTE_SUBNET" --query 'Subnets[].[AvailabilityZone]' --output text)
    fi
    while read -r zone subnet; do
        if grep -qx "$zone" <<<"$zones"; then
            echo "$subnet"
            return
        fi
    done < <(aws ec2 describe-subnets --filters Name=default-for-az,Values=true \
        --query 'Subnets[].[AvailabilityZone,SubnetId]' --output text | sort)
    fail "no zone of $region has a subnet of the default VPC and all of ${types//$'\n'/, }: set MPIBO_SUBNET"
}

find_bucket
[ "$kind" != efa ] || [ -n "${MPIBO_COMPUTE_SUBNET:-}" ] || fail "efa needs MPIBO_COMPUTE_SUBNET, a private subnet behind a NAT gateway"
subnet=${MPIBO_SUBNET:-}
[ -n "$subnet" ] || subnet=$(choose_subnet) || exit

aws s3api head-bucket --bucket "$bucket" >/dev/null 2>&1 || aws s3 mb "s3://$bucket" >/dev/null
if ! [ -f "$key" ]; then
    mkdir -p "$(dirname "$key")"
    ssh-keygen -q -t ed25519 -N '' -C mpibo -f "$key" # the private half never leaves this machine
fi
name=mpibo-$(ssh-keygen -l -E sha256 -f "$key.pub" | sed 's/.*SHA256:\([A-Za-z0-9]*\).*/\1/') # another key, another pair
aws ec2 describe-key-pairs --key-names "$name" >/dev/null 2>&1 ||
    aws ec2 import-key-pair --key-name "$name" --public-key-material "fileb://$key.pub" >/dev/null

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# This working tree as it is, without what git ignores.
(cd "$root" && git ls-files -z --cached --others --exclude-standard |
    tar --null --files-from=- --ignore-failed-read -czf "$work/mpibo.tar.gz") || fail "could not pack $root"
aws s3 cp --only-show-errors "$work/mpibo.tar.gz" "s3://$bucket/$prefix/mpibo.tar.gz"
aws s3 cp --only-show-errors "$root/aws-parallelcluster/install.sh" "s3://$bucket/$prefix/install.sh"

text=$(<"$template")
text=${text//\$\{REGION\}/"$region"}
text=${text//\$\{SUBNET\}/"$subnet"}
text=${text//\$\{COMPUTE_SUBNET\}/"${MPIBO_COMPUTE_SUBNET:-$subnet}"}
text=${text//\$\{KEY\}/"$name"}
text=${text//\$\{BUCKET\}/"$bucket"}
text=${text//\$\{PREFIX\}/"$prefix"}
text=${text//\$\{SSH_FROM\}/"${MPIBO_SSH_FROM:-0.0.0.0/0}"}
text=${text//\$\{TORCH_INDEX\}/"${MPIBO_TORCH_INDEX:+=$MPIBO_TORCH_INDEX}"}
echo "$text" >"$work/cluster.yaml"

create=(pcluster create-cluster --cluster-name "$cluster" --region "$region" --cluster-configuration "$work/cluster.yaml" "$@")
if [ "$dryrun" ]; then
    # Of a dry run pcluster's exit code is 1 either way.
    answer=$("${create[@]}" 2>&1) || :
    echo "$answer"
    grep -q "Request would have succeeded" <<<"$answer" || fail "$template is refused: the reasons stand above"
    exit
fi
"${create[@]}" || fail "the cluster can't be made: the reasons stand above"
echo "mpibo: AWS makes the cluster $cluster, 15 to 40 minutes; it costs money from now on until scripts/aws_down.sh" >&2
while :; do
    status=$(ask_cluster clusterStatus)
    case $status in
    CREATE_COMPLETE) break ;;
    '' | CREATE_IN_PROGRESS) sleep "${MPIBO_WAIT:-20}" ;;
    *) fail "the cluster is $status; pcluster get-cluster-stack-events --cluster-name $cluster --region $region says why; then scripts/aws_down.sh" ;;
    esac
done
echo "mpibo: ready: scripts/aws_submit.sh slurm/mnist.sh" >&2
