#!/usr/bin/env bash
# Train: bash run.sh [-c NAME_OR_FILE ...] [-id ID [-ckpt STEP] | -from CHECKPOINT] [-name NAME] [-a true|false]
#               [-test true|false] [--device cuda|cpu] [section.key=value ...]; -h says what each is
# Sets up first, where that is needed. `bash run.sh -c demo` needs no corpus. A configuration that has a recipe, several
# runs that make one voice (recipes/), is trained by it, unless the run begins with another's weights (-from).

#export CUDA_VISIBLE_DEVICES=0,1  # the GPUs to train on; as a comment: all, or those that the environment names
N_PROCESSES=                      # of training; empty: one a visible GPU, or one on the CPU

set -eu
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$ROOT/setup.sh"
set_up requirements.txt

case " $* " in *" -h "* | *" --help "*) exec "$PYTHON" "$ROOT/train.py" --help ;; esac

arguments=()
for argument in "$@"; do  # as train.py reads them, the flags in their short form and apart from what they are given
    flag="$argument" given=()
    case "$argument" in
        -c | -ckpt) ;;
        --*=* | -[!-c]*=* | -c=* | -ckpt=*) flag="${argument%%=*}" given=("${argument#*=}") ;;
        -c*) flag=-c given=("${argument#-c}") ;;
    esac
    case "$flag" in
        --config) flag=-c ;;
        --id | --from | --name | --ckpt) flag="${flag#-}" ;;
        -i) flag=-id ;;  # this and the next are abbreviations that argparse takes
        -f | -fr | -fro) flag=-from ;;
        -n | -na | -nam) flag=-name ;;
    esac
    arguments+=("$flag" ${given[@]+"${given[@]}"})
done
set -- ${arguments[@]+"${arguments[@]}"}

run_name() {  # RUN, by its name or as a path
    local name="${1%/}"
    echo "${name##*checkpoint/}"
}

name="$(run_name "${2:-}")"
if [ $# -eq 2 ] && [ "$1" = -id ] && [ -f "$ROOT/checkpoint/$name/recipe.txt" ]; then
    set --  # of a recipe, which goes on with the arguments that it was begun with
    while IFS= read -r line; do set -- "$@" "$line"; done <"$ROOT/checkpoint/$name/recipe.txt"
    set -- "$@" -name "$name"
    cd "$ROOT"  # where a recipe stands
fi

recipe= previous= demo=
for argument in "$@"; do  # a configuration, or a run, that speaks of the demo's corpus: make it, unless it is there
    case "$previous" in
        -c)
            files=("$ROOT/configs/$argument.yaml" "$argument")
            [ ! -f "$ROOT/recipes/$argument.sh" ] || recipe="$argument"
            ;;
        -id)
            run="$ROOT/checkpoint/$(run_name "$argument")"
            files=("$run/config.yaml")
            if [ -f "$run/recipe.txt" ] && ! ls "$run"/project_*.pt >/dev/null 2>&1; then
                echo "run.sh: a recipe goes on as it was begun: bash run.sh -id $argument, without other arguments" >&2
                exit 1
            fi
            ;;
        *) files=(/dev/null) ;;
    esac
    ! grep -qs '^  prtpath: cache/demo *\(#.*\)*$' "${files[@]}" || demo=yes
    previous="$argument"
done

case " ${RECIPE_STEP:-} $* " in " yes "* | *" -from "* | *" -id "*) recipe= ;; esac
n_processes="${N_PROCESSES:-1}" on_gpu=
if [ -z "$N_PROCESSES" ]; then
    { [ -z "${CUDA_VISIBLE_DEVICES:-}" ] && ! nvidia-smi -L >/dev/null 2>&1; } || on_gpu=yes
fi
if [ -n "$recipe$demo$on_gpu" ] || [ "$n_processes" -gt 1 ]; then
    # the arguments are read once, before anything is begun; and of the GPUs those count that PyTorch can use
    usable="$("$PYTHON" "$ROOT/train.py" --count "$@")"
    n_processes="${N_PROCESSES:-$usable}"
fi
[ -z "$demo" ] || (cd "$ROOT" && "$PYTHON" -m data_util.demo)
[ -z "$recipe" ] || exec bash "$ROOT/recipes/$recipe.sh" "$@"

if [ "$n_processes" -le 1 ]; then
    exec "$PYTHON" "$ROOT/train.py" "$@"  # alone it needs nobody to start it
fi
# torchrun itself would end in a report and a traceback when a process has failed, which has said why already
exec "$PYTHON" -c '
import logging, sys
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main  # torchrun
logging.disable(logging.ERROR)
try:
    main()
except ChildFailedError as error:
    code = error.get_first_failure()[1].exitcode
    if code < 0:
        print(f"run.sh: a training process was ended by signal {-code}", file=sys.stderr)
    sys.exit(code if code > 0 else 1)
except SignalException as error:
    sys.exit(128 + error.sigval)
' --standalone --max_restarts=3 --nproc_per_node="$n_processes" "$ROOT/train.py" "$@"
