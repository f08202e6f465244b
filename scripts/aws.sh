# shellcheck shell=bash
# What aws_up.sh, aws_submit.sh and aws_down.sh agree on. Sourced; nothing of it is written to a file, so that they can be
# called from anywhere with the same variables:
#
#   MPIBO_CLUSTER       the cluster's name (default mpibo)
#   AWS_DEFAULT_REGION  where it is (default: that of `aws configure`, else us-east-1)
#   MPIBO_BUCKET        the bucket for its files and results (default mpibo-ACCOUNT-REGION, made where it is not there)
#   MPIBO_KEY           the private key for ssh (default ~/.ssh/mpibo, made where it is not there); MPIBO_KEY.pub beside it
#   MPIBO_WAIT          seconds between two looks at what AWS is doing (default 20)

root=$(CDPATH="" cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
[ ! -d "$root/.venv-aws/bin" ] || PATH=$PATH:$root/.venv-aws/bin

fail() {
    echo "mpibo: $1" >&2
    exit 2
}

for program in pcluster aws; do
    command -v "$program" >/dev/null || fail "there is no $program in the PATH: docs/aws.md says how to get it"
done
cluster=${MPIBO_CLUSTER:-mpibo}
region=${AWS_DEFAULT_REGION:-$(aws configure get region || true)}
region=${region:-us-east-1}
export AWS_DEFAULT_REGION=$region
key=${MPIBO_KEY:-$HOME/.ssh/mpibo}
# shellcheck disable=SC2034 # they use it
prefix=mpibo/$cluster # what is the cluster's in the bucket

# Sets `bucket`, and with it tries the credentials.
find_bucket() {
    local account
    account=$(aws sts get-caller-identity --query Account --output text) || fail "AWS takes no credentials from here: call aws configure"
    # shellcheck disable=SC2034 # they use it
    bucket=${MPIBO_BUCKET:-mpibo-$account-$region}
}

# Prints a field of what AWS says about the cluster; GONE where there is no such cluster, nothing where AWS can't be asked.
ask_cluster() { # FIELD
    local answer
    if answer=$(pcluster describe-cluster --cluster-name "$cluster" --region "$region" --query "$1" 2>&1); then
        tr -d '" \n' <<<"$answer"
    elif grep -q "does not exist" <<<"$answer"; then
        echo GONE
    fi
}

# Runs a command on the head node. (pcluster ssh itself ends with 0 whatever becomes of the command.)
on_head() { # COMMAND, a line for its shell
    local address
    address=$(pcluster ssh --cluster-name "$cluster" --region "$region" --dryrun true | sed -n 's/.*"ssh \([^ "]*\).*/\1/p')
    [ -n "$address" ] || fail "there is no head node of a cluster $cluster in $region"
    ssh -i "$key" -o StrictHostKeyChecking=accept-new "$address" "$1"
}
