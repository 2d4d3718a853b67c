#!/bin/sh
# The C tests under AddressSanitizer, with the library instrumented as well: an uninstrumented one would hide its own
# over-reads. Builds into a target directory of its own. Arguments: test names, as for cargo test.
set -eu
cd "$(dirname "$0")/../.."
target=${ISIS_ASAN_TARGET_DIR:-${CARGO_TARGET_DIR:-target}/asan}
case $target in /*) ;; *) target=$PWD/$target ;; esac
triple=x86_64-unknown-linux-gnu

RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" \
    cargo build --quiet -p isis-ffi --lib --target "$triple" --target-dir "$target"

# detect_odr_violation=0: C and Rust each bring a runtime's registration of the same globals.
# Leaks are looked for, too: LeakSanitizer runs at each program's exit.
export ISIS_TEST_LIBRARY_DIR="$target/$triple/debug"
export ISIS_TEST_CFLAGS="-fsanitize=address -fno-omit-frame-pointer"
export ISIS_TEST_CATCHES="heap-buffer-overflow"
export ISIS_TEST_SLOW="${ISIS_TEST_SLOW:-3}"
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_string_checks=1:abort_on_error=0}"
exec cargo test --quiet -p isis-tests --test c_programs -- "$@"
