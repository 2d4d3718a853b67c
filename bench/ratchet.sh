#!/usr/bin/env bash
# Counts the instructions of the core's hot paths, under valgrind, and compares them with the table in
# bench/instructions.txt. Fails when a count has risen by more than 2 %. `--update` writes the table anew.
#
# Under load, per multicast: the data plane of three members that all send (isis-plane-cost). One message at a time, per round
# trip: the whole core of two members that ask and answer (isis-hop-cost: alone-...; it has the simulator's switches for planted
# bugs in it, a few percent).
#
# A count is the difference of two runs of different length: what start and end cost is in both. The counts are those of
# one compiler: another version of it gives others, and the table has to be written anew then.
set -euo pipefail
cd "$(dirname "$0")/.."
table=bench/instructions.txt
target=${CARGO_TARGET_DIR:-${CARGO_BUILD_TARGET_DIR:-$PWD/target}}
cargo build --quiet --release -p isis-bench --bin isis-plane-cost --target-dir "$target"
cargo build --quiet --release -p isis-tests --bin isis-hop-cost --target-dir "$target"
programs=("$target/release/isis-plane-cost" "$target/release/isis-hop-cost")
compiler=$(rustc --version)
# Batches of 192 multicasts, or round trips.
short=20 long=60
limit=2

# The instructions of one run of a program. The C library's copying depends on the processor's features: the common ones only.
instructions() {
    local output
    output=$(GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-AVX,-ERMS,-FSRM,-AVX512F,-AVX512VL \
        valgrind --tool=callgrind --callgrind-out-file=/dev/null "$1" count "$2" "$3" "$4" 2>&1)
    output=$(sed -n 's/.*Collected : \([0-9]*\).*/\1/p' <<<"$output")
    [ -n "$output" ] || { echo "valgrind counted nothing for $2 $3" >&2; return 1; }
    echo "$output"
}

measured=()
for program in "${programs[@]}"; do
    while read -r path size; do
        few=$(instructions "$program" "$path" "$size" $short)
        many=$(instructions "$program" "$path" "$size" $long)
        measured+=("$path $size $(((many - few) / ((long - short) * 192)))")
    done < <("$program" paths)
done

if [ "${1:-}" = --update ]; then
    {
        echo "# Instructions per multicast over all three members (alone-...: per round trip), without I/O: path, payload bytes, count."
        echo "# Counted by bench/ratchet.sh; written anew by bench/ratchet.sh --update. Compiler:"
        echo "# $compiler"
        printf '%s\n' "${measured[@]}"
    } >"$table"
    echo "wrote $table"
    cat "$table"
    exit
fi

grep -qF "# $compiler" "$table" || echo "note: the table is of another compiler than $compiler"
risen=0 fallen=0 checked=0
for line in "${measured[@]}"; do
    read -r path size now <<<"$line"
    before=$(awk -v path="$path" -v size="$size" '$1 == path && $2 == size { print $3 }' "$table")
    if [ -z "$before" ]; then
        echo "$path $size: $now, not in the table"
        risen=$((risen + 1))
        continue
    fi
    checked=$((checked + 1))
    verdict="as before"
    if [ $((now * 100)) -gt $((before * (100 + limit))) ]; then
        verdict="RISEN by more than $limit %"
        risen=$((risen + 1))
    elif [ $((now * 100)) -lt $((before * (100 - limit))) ]; then
        verdict="fallen"
        fallen=$((fallen + 1))
    fi
    echo "$path, $size B: $now instructions (table: $before): $verdict"
done
echo "checked $checked counts"
if [ "$fallen" -gt 0 ]; then
    echo "fewer than in the table: keep the gain, run bench/ratchet.sh --update and commit $table"
fi
if [ "$risen" -gt 0 ]; then
    echo "more than in the table: make it cheaper, or, if it is worth it, say so in the commit that has the output of"
    echo "bench/ratchet.sh --update"
    exit 1
fi
[ "$checked" -gt 0 ]
