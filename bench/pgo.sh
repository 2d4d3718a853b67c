#!/usr/bin/env bash
# Builds the library and isis-bench guided by a profile (profile-guided optimisation): instrumented builds do what hot programs do, for
# half a minute, in processes of this script's own on this host; then both are built again, laid out for what was hot. Worth 1.2 times
# the messages (docs/performance.md, "A build by profile"), in four minutes.
#
#   bench/pgo.sh [FOLDER]     builds into FOLDER, default target/pgo: FOLDER/release/libisis.so, libisis.a, isis-bench
#
# Needs cc, and llvm-profdata of the compiler's own version: rustup component add llvm-tools.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-target/pgo}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
profiles=$folder/profiles

host=$(rustc -vV | sed -n 's/^host: //p')
merge=$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata
if [ ! -x "$merge" ]; then
    echo "no llvm-profdata for $(rustc --version): rustup component add llvm-tools" >&2
    exit 1
fi

rm -rf "$profiles"
mkdir -p "$profiles"
echo "building instrumented"
instrumented=$folder/instrumented/release
# One after the other: together each would have what the other one asks of the crates that they share.
for package in isis-ffi isis-bench; do
    RUSTFLAGS="-Cprofile-generate=$profiles" cargo build --quiet --release -p "$package" --target-dir "$folder/instrumented"
done
cc -O2 -Iinclude tests/c/load.c -o "$folder/load" -L"$instrumented" -lisis -Wl,-rpath,"$instrumented"

# A process that ends writes down what it counted.
runtime=$(mktemp -d)
trap 'rm -rf "$runtime"' EXIT
# load MODE BYTES: three C programs at full load.
load() {
    local members=() member
    for _ in 1 2 3; do
        ISIS_MODE=$1 ISIS_RUNTIME_DIR=$runtime "$folder/load" 3 1 "$2" &
        members+=($!)
    done
    for member in "${members[@]}"; do wait "$member"; done
}
echo "training"
load inline 64
load inline 64
load inline 1024
load threaded 64
for kind in fifo causal total; do
    for size in 64 16384; do
        "$instrumented/isis-bench" throughput --seconds 1 --idle yield --kind "$kind" --size "$size"
    done
done
"$instrumented/isis-bench" throughput --seconds 1 --idle yield --kind fifo --senders 1 --size 64
"$instrumented/isis-bench" throughput --seconds 1 --idle yield --transport udp --size 64
"$instrumented/isis-bench" round-trip --rounds 1 --idle spin --without-aeron
"$instrumented/isis-bench" latency --seconds 1 --idle yield
counted=("$profiles"/*.profraw)
[ -s "${counted[0]}" ] || { echo "the training left no profile in $profiles" >&2; exit 1; }
"$merge" merge -o "$profiles/merged.profdata" "${counted[@]}"

echo "building by profile"
for package in isis-ffi isis-bench; do
    RUSTFLAGS="-Cprofile-use=$profiles/merged.profdata" cargo build --quiet --release -p "$package" --target-dir "$folder"
done
ls -l "$folder/release/libisis.so" "$folder/release/libisis.a" "$folder/release/isis-bench"
