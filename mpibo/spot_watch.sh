#!/usr/bin/env bash
# spot_watch.sh COMMAND ...: runs COMMAND when this EC2 spot instance is told that it will be taken away, two minutes
# before that; then ends with COMMAND's exit code.
# spot_watch.sh --check: exit code 0 on a spot instance, 1 elsewhere
#
#   AWS_EC2_METADATA_SERVICE_ENDPOINT   the instance metadata service (default http://169.254.169.254)
#   MPIBO_SPOT_SECONDS                  between two questions (default 5)
set -u
service=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}
service=${service%/}/latest
trap '' USR1 USR2 # they are meant for the search, and a scheduler may send them to all that run

ask() { # SECONDS [flags of curl] PATH
    curl -s --noproxy '*' --max-time "$1" "${@:2:$#-2}" "$service/${*: -1}"
}

# Version 2 of the service answers only to a token, which lasts six hours at most.
renew() { # SECONDS
    token=$(ask "$1" -f -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 21600" api/token)
}

# Sets `answer`; exit code 0: there is such an item.
read_item() { # PATH
    local all
    all=$(ask 2 -w '\n%{http_code}' -H "X-aws-ec2-metadata-token: ${token:-}" "meta-data/$1") || return 2
    answer=${all%$'\n'*}
    case ${all##*$'\n'} in
    200) return 0 ;;
    401) renew 2 && return 2 || return 2 ;;
    *) return 1 ;;
    esac
}

if [ "${1:-}" = --check ]; then
    renew 1 && read_item instance-life-cycle && [ "$answer" = spot ]
    exit $(($? != 0))
fi
[ $# -gt 0 ] || {
    echo "usage: spot_watch.sh COMMAND ..." >&2
    exit 2
}

token=
renew 2
until read_item spot/instance-action; do
    sleep "${MPIBO_SPOT_SECONDS:-5}"
done
echo "mpibo: $(uname -n) is taken away, the run ends in order: $answer" >&2
"$@"
