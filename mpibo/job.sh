# shellcheck shell=bash
# What our batch scripts do: find the Python, start the ranks, and go on in another allocation where the search is not
# done. The scripts of slurm/ source it; `mpibo submit` writes it into those that it makes. Variables, all optional:
#
#   MPIBO_PYTHON    the Python to run (default: .venv of the repository, else python3)
#   MPIBO_SETUP     a file to source first: module load, ulimit, export
#   MPIBO_LAUNCH    srun (default), or mpirun: the one beside that Python, else the one in the PATH
#   SLURM_MPI_TYPE  how srun and the MPI library find each other (default pmi2: MPICH; Open MPI wants pmix)
#   MPIBO_SRUN      further flags of srun, such as --cpu-bind=cores
#   MPIBO_OUT       the run folder (default runs/OBJECTIVE-JOBID); --out wins over it
#   MPIBO_START     seconds that the ranks may take until the search begins, before they are started again (default 300)
#   MPIBO_REQUEUES  how often it goes on without having got further in between (default 3; 0: it does not go on)
#   MPIBO_SPOT      1: the nodes are EC2 spot instances, 0: they are not (default: the first node is asked, on EC2 only)

fail() {
    echo "mpibo: $1" >&2
    exit 2
}

# Sets `python`, in the allocation's first node; what follows is what it must be able to import.
find_python() { # MODULES
    [ -n "${SLURM_JOB_ID:-}" ] || fail "this is no Slurm job: start it by sbatch, or within salloc"
    if [ -n "${MPIBO_SETUP:-}" ]; then
        [ -r "$MPIBO_SETUP" ] || fail "MPIBO_SETUP: can't read $MPIBO_SETUP"
        # shellcheck disable=SC1090
        . "$MPIBO_SETUP"
    fi
    python=${MPIBO_PYTHON:-${home:-.}/.venv/bin/python}
    [ -n "${MPIBO_PYTHON:-}" ] || [ -x "$python" ] || python=python3
    "$python" -c "import $1" || fail "$python has no mpibo: run scripts/run.sh once, or set MPIBO_PYTHON or MPIBO_HOME"
}

# Sets `launch`: what stands before the command of each rank.
find_launcher() {
    export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # srun no longer takes it from sbatch
    case ${MPIBO_LAUNCH:-srun} in
    srun)
        # A lost worker or node costs its trials, not the run.
        launch=(srun "--mpi=${SLURM_MPI_TYPE:-pmi2}" --no-kill --kill-on-bad-exit=0)
        # Each rank sees all GPUs of its node, and the ranks share them out, unless Slurm was told to.
        [ -z "${SLURM_GPUS_ON_NODE:-}" ] || [ -n "${SLURM_GPUS_PER_TASK:-}" ] || launch+=(--gpu-bind=none)
        # shellcheck disable=SC2206 # words
        launch+=(${MPIBO_SRUN:-})
        ;;
    mpirun)
        launch=("$(dirname "$(command -v "$python")")/mpirun")
        [ -x "${launch[0]}" ] || launch=(mpirun)
        ;;
    *) fail "MPIBO_LAUNCH must be srun or mpirun, got $MPIBO_LAUNCH" ;;
    esac
}

# Runs a search over all ranks, and ends the script: with the run's own code, since srun's is the highest of its tasks.
search() { # [OBJECTIVE] [flags of `mpibo run`] [-- COMMAND]
    local flag name=run before='' pid='' heard='' code=0 over=0 starts=1 began step state
    case ${1:-digits} in --) name=${2:-run} ;; -*) ;; *) name=${1:-digits} ;; esac
    folder=${MPIBO_OUT:-runs/${name##*[:/]}-$SLURM_JOB_ID}
    for flag in "$@"; do
        case $before:$flag in *:--) break ;; --out:*) folder=$flag ;; *:--out=*) folder=${flag#--out=} ;; esac
        before=$flag
    done
    first=$(stamp) until=
    [ "${MPIBO_LAUNCH:-srun}" = srun ] || launch+=(-n "${SLURM_NTASKS:-$SLURM_NNODES}")

    # The notice comes to this script (#SBATCH --signal=B:USR1@SECONDS), and goes on to each rank. SIGTERM they get too.
    trap 'kill -USR1 $pid 2>/dev/null || true' USR1
    trap : TERM
    rm -f "$folder/notice"
    trap 'leave; kill -USR1 $pid 2>/dev/null || true' USR2 # it may come twice, and late: each spot node's watcher sends it
    watch_spot
    while :; do
        "${launch[@]}" "$python" -m mpibo.run --out "$folder" "$@" & # of two --out the last one counts
        pid=$! began=$SECONDS code=0 heard=
        while kill -0 "$pid" 2>/dev/null; do # a signal ends the waiting
            sleep 5 &>/dev/null &
            wait -n "$pid" $! || true
            kill $! 2>/dev/null || true
            if ! is_new; then
                # Where MPI can't start on one rank, the others may wait for it till the allocation ends.
                [ $((SECONDS - began)) -lt "${MPIBO_START:-300}" ] || kill -KILL "$pid" 2>/dev/null || true
            elif [ "$(told state)" = ended ] && [ $((over += 1)) -gt 12 ]; then
                kill -KILL "$pid" 2>/dev/null || true # of a node that has died the launcher may wait for minutes
            elif [ -n "$until" ] && [ -z "$heard" ]; then
                heard=1 && leave && kill -USR1 "$pid" 2>/dev/null || true # it may have come before they could hear
            fi
        done
        wait "$pid" || code=$?
        { is_new || [ "$code" != 137 ] || [ $((starts += 1)) -gt 3 ]; } && break
        echo "mpibo: the ranks have not found each other; once more" >&2
        squeue --noheader --steps --jobs "$SLURM_JOB_ID" --format '%i %j' | while read -r step name; do
            case $step:$name in *.batch:* | *.extern:* | *:mpibo-spot) ;; *) scancel --signal=KILL "$step" || true ;; esac
        done
        sleep 3
    done
    trap : USR1 USR2

    if is_new; then # else it did not come so far
        state=$(told state)
        [ "$state" != ended ] || code=$(told exit_code)
        # After scancel (SIGTERM) it is not wanted any more.
        case $state:$(told exit_code):$(told why_ended) in end*:75:SIGUSR1 | end*:75:deadline) go_on "$@" ;; esac
    fi
    exit "$code"
}

# Starts a watcher on each node that may be taken away: a spot instance of EC2's, which is told two minutes before.
watch_spot() {
    local watch spot=${MPIBO_SPOT:-}
    case $spot in
    1) ;;
    '') grep -qs '^Amazon EC2' /sys/class/dmi/id/sys_vendor || return 0 ;;
    *) return 0 ;;
    esac
    watch=$("$python" -c 'import mpibo; print(mpibo.__path__[0])')/spot_watch.sh
    if [ "$spot" = 1 ] || bash "$watch" --check; then
        srun --job-name=mpibo-spot --overlap --mpi=none --no-kill --kill-on-bad-exit=0 --nodes="$SLURM_NNODES" \
            --ntasks="$SLURM_NNODES" --ntasks-per-node=1 --cpus-per-task=1 \
            bash "$watch" scancel --batch --signal=USR2 "$SLURM_JOB_ID" &
    fi
}

# A node is taken away: leaves word in the run folder until when, which the run reads when the signal comes. Of the two
# minutes some seconds have gone.
# shellcheck disable=SC2329 # by a trap
leave() {
    until=${until:-$(date -u -d '+110 seconds' +%Y-%m-%dT%H:%M:%SZ)}
    [ -e "$folder/notice" ] || echo "$until" >"$folder/notice" || true # the first start makes the folder
} 2>/dev/null

# Whether status.json is of this start.
is_new() { [ "$(stamp)" != "$first" ]; }
stamp() { stat -c '%i %y' "$folder/status.json" 2>/dev/null || true; }

# What status.json says.
told() { # NAME
    sed -n "s/^  \"$1\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$folder/status.json" 2>/dev/null
}

# Goes on in another allocation; gives up where the last ones have brought nothing.
go_on() { # what `search` was given
    local most=${MPIBO_REQUEUES:-3} reached far=-1 tries=0
    [ "${ENVIRONMENT:-}" = BATCH ] || return 0 # within salloc somebody is there
    reached=$(grep -cE '"kind": ?"end"|"checkpoint": ?\{' "$folder/journal.jsonl") || true
    [ ! -f "$folder/requeues" ] || read -r far tries <"$folder/requeues"
    [ "$reached" -le "$far" ] && tries=$((tries + 1)) || tries=1
    if [ "$tries" -gt "$most" ]; then
        echo "mpibo: this allocation was too short, and $((tries - 1)) before it: no trial has ended and none was saved;" \
            "go on with a longer --time, or --checkpoint-every: sbatch --time=... ... --out $folder" >&2
        return 0
    fi
    echo "$reached $tries" >"$folder/requeues"
    echo "mpibo: not done; goes on in another allocation" >&2
    if ! scontrol requeue "$SLURM_JOB_ID"; then
        echo "mpibo: this job can't be requeued; another one follows it" >&2
        follow "$@" || echo "mpibo: go on with: sbatch ... --out $folder" >&2
    fi
}

# Submits this very script again, to begin when this job has ended, with what this one was given.
follow() { # what the script was given
    local name value shape=(--dependency="afterany:$SLURM_JOB_ID" --job-name="$SLURM_JOB_NAME" --no-requeue)
    for name in ntasks:NTASKS ntasks-per-node:NTASKS_PER_NODE cpus-per-task:CPUS_PER_TASK account:JOB_ACCOUNT qos:JOB_QOS \
        partition:JOB_PARTITION reservation:JOB_RESERVATION mem:MEM_PER_NODE mem-per-cpu:MEM_PER_CPU gpus:GPUS \
        gpus-per-node:GPUS_PER_NODE gpus-per-task:GPUS_PER_TASK nodes:NNODES; do
        value=SLURM_${name#*:}
        [ -z "${!value:-}" ] || shape+=("--${name%:*}=${!value}")
    done
    for name in time:%l constraint:%f gres:%b; do
        value=$(squeue --noheader --jobs "$SLURM_JOB_ID" --format "${name#*:}") || continue
        value=${value#gres:}
        case $value in '' | *null* | N/A | UNLIMITED) ;; *) shape+=("--${name%:*}=$value") ;; esac
    done
    folder=$(readlink -f "$folder")
    (
        for name in ${!SLURM_@}; do # what belongs to this job; MPI's kind was chosen
            case $name in SLURM_CONF | SLURM_MPI_TYPE) ;; *) unset "$name" ;; esac
        done
        MPIBO_OUT=$folder exec sbatch "${shape[@]}" "$0" "$@"
    )
}
