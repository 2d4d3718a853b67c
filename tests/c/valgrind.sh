#!/bin/sh
# The C tests under valgrind. Its threads take turns, so that a spinning one does not starve the others
# (--fair-sched=yes). Arguments: test names, as for cargo test. valgrind 3.19 knows no pidfd_open, so a program of
# several processes also shows that the deaths of others are noticed without. Of these only `members` is run, threaded: inline
# members took a minute on one run and had not finished after four on another, on a busy machine, and five members of two
# groups not after eight; why is not known. A hung process can only be killed by its pidfd (another may have its number by
# then), so that test cannot pass here.
set -eu
cd "$(dirname "$0")/../.."
export ISIS_TEST_RUNNER="valgrind --quiet --fair-sched=yes --error-exitcode=99 --leak-check=full
    --errors-for-leak-kinds=definite --show-leak-kinds=definite --trace-children=no
    --suppressions=$PWD/tests/c/valgrind.supp"
export ISIS_TEST_CATCHES="Invalid read"
export ISIS_TEST_SLOW="${ISIS_TEST_SLOW:-20}"
export ISIS_WAIT="${ISIS_WAIT:-block}"
# An attempt at a view waits eight of these for its joiners: as much slower as they are, else views come without them.
export ISIS_RESEND_NS="${ISIS_RESEND_NS:-100ms}"
exec cargo test --quiet -p isis-tests --test c_programs -- --skip members_inline --skip members_over --skip a_hung_process --skip clients_ --skip several_groups "$@"
