#!/usr/bin/env bash
# Fuzzes every target, SECONDS in total (default 30), from the corpus on. Needs a C++ compiler; a stable toolchain does.
# What is found is kept in target/fuzz-found; with KEEP=1 new inputs go into the corpus. Fails on a panic, on a hang, on
# memory without bound, and when a target was run less than 100 times.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-30}
targets=(packet frame row message endpoint)
each=$((seconds / ${#targets[@]} > 0 ? seconds / ${#targets[@]} : 1))
triple=$(rustc -vV | sed -n 's/^host: //p')

export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=16 --cfg fuzzing"
# With --target, build scripts are not instrumented.
target_dir=${CARGO_TARGET_DIR:-$PWD/target}
cargo build --quiet --release --target-dir "$target_dir" --target "$triple" "${targets[@]/#/--bin=}"

found=$target_dir/fuzz-found
mkdir -p "$found"
for target in "${targets[@]}"; do
    work=$(mktemp -d)
    folders=("corpus/$target")
    [ "${KEEP:-0}" = 1 ] || folders=("$work" "corpus/$target")
    log=$found/$target.log
    if ! "$target_dir/$triple/release/$target" -max_total_time="$each" -max_len=4096 -timeout=10 \
        -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$found/$target-" "${folders[@]}" >"$log" 2>&1; then
        tail -n 60 "$log"
        echo "fuzz: $target failed; its input is in $found" >&2
        exit 1
    fi
    rm -rf "$work"
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "fuzz: $target: ${runs:-0} runs in $each s"
    if [ "${runs:-0}" -lt 100 ]; then
        echo "fuzz: $target was hardly run" >&2
        exit 1
    fi
done
