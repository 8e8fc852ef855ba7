# Sourced by the recipes, which are given run.sh's arguments: several runs of train.py that make one voice. The voice is
# the run checkpoint/VOICE, its steps are runs in folders of that. What is finished is left alone, what was stopped goes
# on. A signal reaches every step, which saves before it ends; a step whose recipe has been killed ends by itself.
# Written for bash 3.2.

set -eu
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
. "$ROOT/setup.sh"
find_environment
export TRAIN_STARTER=$$ RECIPE_STEP=yes  # see training/failures.py; and run.sh is not to start a recipe again

VOICE= NAMED= GIVEN=() JOBS= STOPPED=
visible="$(nvidia-smi -L 2>/dev/null | sed -n 's/^GPU \([0-9]*\):.*/\1/p')"
[ -z "$visible" ] || visible="${CUDA_VISIBLE_DEVICES-$visible}"
case "$visible" in -*) visible= ;; esac  # none, as CUDA reads it
previous=
for argument in "$@"; do  # the voice is called what -name says, or as the last configuration
    case "$previous" in
        -name) NAMED="$argument" ;;
        -c)
            case "$argument" in  # a path counts from the folder of the user, and the steps run in ROOT
                /*) ;;
                *) [ . -ef "$ROOT" ] || [ -f "$ROOT/configs/$argument.yaml" ] || argument="$PWD/$argument" ;;
            esac
            VOICE="$(basename "${argument%.yaml}")"
            if [ "$VOICE" = voice ]; then  # FOLDER/voice.yaml of data_util.prepare
                VOICE="$(basename "$(cd "$(dirname "$argument")" && pwd)")"
            fi
            GIVEN+=(-c "$argument")
            ;;
        --device)
            [ "$argument" != cpu ] || export CUDA_VISIBLE_DEVICES='' visible=  # also for training.extract
            GIVEN+=(--device "$argument")
            ;;
        *) case "$argument" in -c | -name | --device) ;; *) GIVEN+=("$argument") ;; esac ;;
    esac
    previous="$argument"
done
VOICE="${NAMED:-$VOICE}"

cd "$ROOT"
begun="checkpoint/$VOICE/recipe.txt"
if [ -f "$begun" ] && [ "$(cat "$begun")" != "$(printf '%s\n' "${GIVEN[@]}")" ]; then
    echo "recipe: checkpoint/$VOICE was begun with other arguments ($(tr '\n' ' ' <"$begun")): name another with -name" >&2
    exit 1
fi
if [ ! -f "$begun" ] && [ -n "$(find "checkpoint/$VOICE/" -maxdepth 1 -name '[pv]*_[0-9]*' 2>/dev/null)" ]; then
    echo "recipe: checkpoint/$VOICE is another run or voice: name this one with -name" >&2
    exit 1
fi
mkdir -p "checkpoint/$VOICE"
printf '%s\n' "${GIVEN[@]}" >"$begun"

GPUS=(${visible//,/ })  # a step takes one
n_cores="$("$PYTHON" -c 'from data_util.features import n_cpus; print(n_cpus())')"

run() {  # NAME ARGUMENTS: one step
    [ -z "$STOPPED" ] || return 143
    echo "recipe: $VOICE${1:+/$1}" >&2
    bash "$ROOT/run.sh" -name "$VOICE${1:+/$1}" "${@:2}"
}

latents() {  # NAME ARGUMENTS: the teacher-forced latents of a step
    [ -z "$STOPPED" ] || return 143
    "$PYTHON" -m training.extract "$VOICE/$1" "${@:2}"
}

start() {  # POSITION N_AT_ONCE COMMANDS: in the background, in a process group of its own, on its share of the machine
    local threads=$((n_cores / $2))
    set -m
    (
        set +m
        trap STOPPED=yes TERM INT HUP  # the commands get the signal, too, and save; none begins after it
        [ "$2" -eq 1 ] || export OMP_NUM_THREADS=$((threads > 0 ? threads : 1)) TQDM_POSITION="$1"
        [ "${#GPUS[@]}" -eq 0 ] || export CUDA_VISIBLE_DEVICES="${GPUS[$1]}"
        eval "$3"
    ) &
    set +m
    JOBS="$JOBS $!"
}

finish() {  # wait for all that was started; where one fails, end the others and the recipe
    local job left
    while [ -n "$JOBS" ]; do
        left=
        for job in $JOBS; do
            if kill -0 "$job" 2>/dev/null; then
                left="$left $job"
            else
                wait "$job" || stop $?
            fi
        done
        JOBS="$left"
        [ -z "$JOBS" ] || sleep 0.2
    done
}

stop() {  # STATUS: end what runs, wait until it has saved, and end
    local job
    for job in $JOBS; do kill -TERM -- "-$job" 2>/dev/null || true; done
    for job in $JOBS; do
        while kill -0 "$job" 2>/dev/null; do wait "$job" 2>/dev/null || true; done
    done
    exit "$1"
}

trap 'stop 143' TERM
trap 'stop 130' INT
trap 'stop 129' HUP

one() {  # COMMANDS
    start 0 1 "$1"
    finish
}

both() {  # COMMANDS COMMANDS: side by side on two GPUs, or without one on two cores, else one after the other
    local places="${#GPUS[@]}"
    [ "$places" -gt 0 ] || places="$n_cores"
    if [ "$places" -ge 2 ]; then
        start 0 2 "$1"
        start 1 2 "$2"
        finish
    else
        one "$1"
        one "$2"
    fi
}
