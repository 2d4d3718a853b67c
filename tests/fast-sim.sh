#!/bin/sh
# Builds isis-sim for long runs: guided by what 100 of its own runs do most
# (profile-guided optimization), for the processor of this machine. The runs are the same, seed by seed;
# `isis-sim --digest` shows it.
#
# Takes some minutes. Needs LLVM's llvm-profdata in the compiler's version: `rustup component add llvm-tools`.
# Prints where the program is.
set -eu
cd "$(dirname "$0")/.."

target=$(rustc -vV | sed -n 's/^host: //p')
profdata=$(rustc --print sysroot)/lib/rustlib/$target/bin/llvm-profdata
[ -x "$profdata" ] || { echo "no $profdata: rustup component add llvm-tools" >&2; exit 2; }

out=${CARGO_TARGET_DIR:-target}/fast-sim
mkdir -p "$out"
out=$(cd "$out" && pwd)
# With a target named, the flags are not those of build scripts and macros.
build() {
    RUSTFLAGS="-Ctarget-cpu=native $1" cargo build --quiet --release -p isis-tests --bin isis-sim \
        --target "$target" --target-dir "$out"
}

rm -rf "$out/profile"
build "-Cprofile-generate=$out/profile/raw"
"$out/$target/release/isis-sim" --members 3-7 --seeds 100 --start 100000 >&2
"$profdata" merge -o "$out/profile/merged" "$out/profile/raw"
build "-Cprofile-use=$out/profile/merged"
echo "$out/$target/release/isis-sim"
