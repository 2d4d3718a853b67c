/*
 * One of several members that all send as many messages as the window takes, and count what comes: what a C program gets of a build
 * of the library. bench/pgo.sh trains with it.
 *
 * load MEMBERS SECONDS BYTES: waits until so many members are in the group "load", sends ABCASTs for so many seconds, to a callback
 * that takes several at once, and prints how many came, a second and in all. Options by ISIS_..., as ISIS_MODE=inline.
 */
#define _POSIX_C_SOURCE 200809L
#include <isis.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint32_t members;
static unsigned long came, wrong;

static void on_event(void *user, const isis_event_t *event)
{
    (void)user;
    if (event->type == ISIS_EVENT_VIEW)
        members = event->members;
}

static void on_messages(void *user, const isis_message_t *first, const isis_slice_t *slices, uint32_t count)
{
    const size_t *bytes = user;
    (void)first;
    for (uint32_t index = 0; index < count; index++)
        wrong += slices[index].len != *bytes;
    came += count;
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    const uint64_t second = 1000000000;
    const unsigned long wanted = argc == 4 ? strtoul(argv[1], NULL, 10) : 0;
    const double seconds = argc == 4 ? strtod(argv[2], NULL) : 0;
    size_t bytes = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
    static char data[1 << 16];
    isis_t *isis;
    isis_group_t *group;
    if (wanted == 0 || seconds <= 0 || bytes == 0 || bytes > sizeof data) {
        fprintf(stderr, "usage: %s MEMBERS SECONDS BYTES (at most %zu)\n", argv[0], sizeof data);
        return 2;
    }
    if (isis_open(NULL, &isis) < 0 || isis_on_event(isis, on_event, NULL) < 0
        || isis_entry_batch(isis, 1, on_messages, &bytes) < 0
        || isis_group_join_wait(isis, "load", NULL, 10 * second, &group) < 0) {
        fprintf(stderr, "%s\n", isis_last_error());
        return 1;
    }
    double begin = seconds_now();
    while (members < wanted && seconds_now() < begin + 20)
        isis_poll(isis, second / 100);
    if (members < wanted) {
        fprintf(stderr, "%u members of %lu\n", members, wanted);
        return 1;
    }
    begin = seconds_now();
    const unsigned long before = came;
    double now = begin;
    while (now < begin + seconds) {
        int32_t sent = 0;
        for (int count = 0; count < 64 && sent >= 0; count++)
            sent = isis_multicast(group, ISIS_TOTAL, 1, data, bytes);
        if (sent < 0 && sent != ISIS_EAGAIN) {
            fprintf(stderr, "%s\n", isis_last_error());
            return 1;
        }
        if (isis_poll(isis, 0) == 0)
            sched_yield();
        now = seconds_now();
    }
    printf("%.2f million/s, %lu messages\n", (double)(came - before) / (now - begin) / 1e6, came - before);
    return isis_close_wait(isis, 10 * second) < 0 || wrong > 0;
}
