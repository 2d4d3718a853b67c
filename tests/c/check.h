/*
 * What all C tests share: checks that name the line and the library's last error, a time limit, options for one host.
 *
 * The driver gives each program a directory of its own in ISIS_RUNTIME_DIR, so that systems of different tests never
 * meet; ports are the system's choice, on the loopback address. ISIS_TEST_SLOW multiplies time limits (valgrind).
 */
#ifndef CHECK_H
#define CHECK_H

#include <isis.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)

static const char *test_name = "test";
static unsigned checks_done;

static void failed(const char *file, int line, const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "%s: %s:%d: ", test_name, file, line);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n  last error: %s\n", isis_last_error());
    exit(1);
}

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        checks_done++;                                                                                       \
        if (!(condition))                                                                                    \
            failed(__FILE__, __LINE__, "not true: %s", #condition);                                          \
    } while (0)

#define CHECK_EQ(left, right)                                                                                \
    do {                                                                                                     \
        long long left_ = (long long)(left), right_ = (long long)(right);                                    \
        checks_done++;                                                                                       \
        if (left_ != right_)                                                                                 \
            failed(__FILE__, __LINE__, "%s is %lld, but %s is %lld", #left, left_, #right, right_);          \
    } while (0)

/* The call must give this status. */
#define EXPECT(status, call)                                                                                 \
    do {                                                                                                     \
        int32_t want_ = (status), got_ = (call);                                                             \
        checks_done++;                                                                                       \
        if (want_ != got_)                                                                                   \
            failed(__FILE__, __LINE__, "%s gave %d (%s), not %d (%s)", #call, got_, isis_strerror(got_),     \
                   want_, isis_strerror(want_));                                                             \
    } while (0)

/* The call must work; the value is its count. */
#define OK(call) checked_ok(__FILE__, __LINE__, #call, (call))

static inline int32_t checked_ok(const char *file, int line, const char *call, int32_t status)
{
    checks_done++;
    if (status < 0)
        failed(file, line, "%s gave %d (%s)", call, status, isis_strerror(status));
    return status;
}

static inline unsigned slowness(void)
{
    const char *slow = getenv("ISIS_TEST_SLOW");
    unsigned factor = slow ? (unsigned)atoi(slow) : 1;
    return factor ? factor : 1;
}

/* Names the test, and ends it by SIGALRM after this many seconds. */
static inline void begin(const char *name, unsigned seconds)
{
    test_name = name;
    alarm(seconds * slowness());
}

/* The time that a call may wait, in nanoseconds. */
static inline uint64_t patience(void)
{
    return 10 * SECOND * slowness();
}

static inline uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

/* Lets others run: where threads take turns, as under valgrind, a program that spins holds up the library's own. */
static inline void breathe(void)
{
    struct timespec pause = {0, 50000};
    nanosleep(&pause, NULL);
}

/* Options of a test in this mode: "inline" or "threaded". */
static inline void test_options(isis_options_t *options, const char *mode)
{
    CHECK(getenv("ISIS_RUNTIME_DIR") != NULL);
    OK(isis_options_init(options));
    OK(isis_options_from_env(options));
    OK(isis_options_set(options, "bind", "127.0.0.1"));
    OK(isis_options_set(options, "mode", mode));
    OK(isis_options_set(options, "discovery_ns", "100ms"));
}

static inline int done(void)
{
    CHECK(checks_done > 0);
    printf("%s: %u checks\n", test_name, checks_done);
    return 0;
}

#endif
