/*
 * One process, alone in its group: what each call does, what a callback may do, who may use a handle.
 * Argument: the mode, "inline" or "threaded".
 */
#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

static isis_t *isis;
static isis_group_t *group;
static uint64_t me;
static int inline_mode;

/* What came. */
static struct {
    unsigned messages, events, views, joined, left, closed, flushed, writable, replies;
    isis_message_t last;
    unsigned char bytes[1 << 20];
} seen;

static void on_event(void *user, const isis_event_t *event)
{
    CHECK(user == &seen);
    CHECK_EQ(event->size, sizeof *event);
    CHECK(event->isis == isis || isis == NULL);
    seen.events++;
    switch (event->type) {
    case ISIS_EVENT_JOINED:
        seen.joined++;
        break;
    case ISIS_EVENT_VIEW:
        seen.views++;
        CHECK_EQ(event->members, 1);
        CHECK_EQ(event->rank, 0);
        CHECK(event->member_list != NULL);
        break;
    case ISIS_EVENT_LEFT:
        seen.left++;
        break;
    case ISIS_EVENT_CLOSED:
        seen.closed++;
        break;
    case ISIS_EVENT_FLUSHED:
        seen.flushed++;
        break;
    case ISIS_EVENT_WRITABLE:
        seen.writable++;
        break;
    default:
        break;
    }
}

static void on_message(void *user, const isis_message_t *message)
{
    CHECK(user == &seen);
    seen.messages++;
    seen.last = *message;
    if (message->len && message->len <= sizeof seen.bytes)
        memcpy(seen.bytes, message->data, message->len);
}

static void poll_until(const unsigned *counter, unsigned least)
{
    uint64_t end = now_ns() + patience();
    while (*counter < least) {
        if (OK(isis_poll(isis, 0)) == 0)
            breathe();
        CHECK(now_ns() < end);
    }
}

static void open_and_join(const char *mode, isis_options_t *options)
{
    uint64_t number;
    isis_group_t *system_group;

    test_options(options, mode);
    OK(isis_options_set(options, "hold_bytes", "100000"));
    OK(isis_open_wait(options, patience(), &isis));
    OK(isis_on_event(isis, on_event, &seen));
    OK(isis_entry(isis, 7, on_message, &seen));
    OK(isis_process(isis, &me));
    CHECK(me != 0);
    OK(isis_system_group(isis, &system_group));
    OK(isis_group_join_wait(isis, "single", NULL, patience(), &group));
    CHECK_EQ(seen.joined, 1);
    CHECK_EQ(OK(isis_view_size(group)), 1);
    CHECK_EQ(OK(isis_view_rank(group)), 0);
    CHECK_EQ(OK(isis_view_has_state(group, 0)), 1);
    OK(isis_view_number(group, &number));
    CHECK(number >= 1);
    OK(isis_view_member(group, 0, &number));
    CHECK_EQ(number, me);
    CHECK_EQ(OK(isis_view_departed_count(group)), 0);
    CHECK_EQ(OK(isis_view_size(system_group)), 1);
    CHECK_EQ(OK(isis_view_rank(system_group)), 0);
}

static void each_kind_and_size(void)
{
    static const uint32_t kinds[] = {ISIS_FIFO, ISIS_CAUSAL, ISIS_TOTAL, ISIS_GLOBAL, ISIS_FIFO | ISIS_SAFE,
                                     ISIS_CAUSAL | ISIS_SAFE, ISIS_TOTAL | ISIS_SAFE};
    static const size_t sizes[] = {0, 1, 7, 8, 63, 64, 4095, 4096, 4097, 65536, 300001};
    static unsigned char data[300001];
    size_t kind, size, index;

    for (index = 0; index < sizeof data; index++)
        data[index] = (unsigned char)(index * 31 + index / 256);
    for (kind = 0; kind < sizeof kinds / sizeof *kinds; kind++)
        for (size = 0; size < sizeof sizes / sizeof *sizes; size++) {
            unsigned before = seen.messages;
            OK(isis_multicast(group, kinds[kind], 7, sizes[size] ? data : NULL, sizes[size]));
            poll_until(&seen.messages, before + 1);
            CHECK_EQ(seen.messages, before + 1);
            CHECK_EQ(seen.last.size, sizeof seen.last);
            CHECK_EQ(seen.last.len, sizes[size]);
            CHECK_EQ(seen.last.data != NULL, sizes[size] != 0);
            CHECK(memcmp(seen.bytes, data, sizes[size]) == 0);
            CHECK_EQ(seen.last.kind, kinds[kind] & ~(uint32_t)ISIS_SAFE);
            if (seen.last.kind != ISIS_GLOBAL)
                CHECK_EQ(seen.last.safe, (kinds[kind] & ISIS_SAFE) != 0);
            CHECK_EQ(seen.last.entry, 7);
            CHECK_EQ(seen.last.sender, me);
            CHECK_EQ(seen.last.rank, 0);
            CHECK(seen.last.group == group && seen.last.isis == isis);
            CHECK_EQ(seen.last.order != 0, seen.last.kind == ISIS_TOTAL);
        }
    EXPECT(ISIS_ETOOLONG, isis_multicast(group, ISIS_FIFO, 7, data, (uint64_t)1 << 40));
}

/* --- inside a callback --------------------------------------------------------------------------------------------- */

static unsigned inside_ran;

static void inside(void *user, const isis_message_t *message)
{
    isis_group_t *other;
    isis_claim_t claim;
    const void *data;
    isis_slice_t slice;
    uint64_t number, view;
    isis_group_t *its_group;

    (void)user;
    if (inside_ran++)
        return;
    EXPECT(ISIS_EINCALLBACK, isis_poll(isis, 0));
    EXPECT(ISIS_EINCALLBACK, isis_run(isis));
    EXPECT(ISIS_EINCALLBACK, isis_close(isis));
    EXPECT(ISIS_EINCALLBACK, isis_close_wait(isis, 0));
    EXPECT(ISIS_EINCALLBACK, isis_group_join_wait(isis, "other", NULL, 0, &other));
    CHECK(other == NULL);
    EXPECT(ISIS_EINCALLBACK, isis_group_leave_wait(group, 0));
    EXPECT(ISIS_EINCALLBACK, isis_flush_wait(group, 0));

    OK(isis_msg_data(message, &data));
    CHECK(data == message->data);
    OK(isis_msg_len(message, &number));
    CHECK_EQ(number, message->len);
    CHECK_EQ(OK(isis_msg_slices(message, NULL, 0)), 1);
    CHECK_EQ(OK(isis_msg_slices(message, &slice, 1)), 1);
    CHECK(slice.data == data && slice.len == number);
    OK(isis_msg_sender(message, &number));
    CHECK_EQ(number, me);
    CHECK_EQ(OK(isis_msg_rank(message)), 0);
    CHECK_EQ(OK(isis_msg_entry(message)), 8);
    CHECK_EQ(OK(isis_msg_kind(message)), ISIS_CAUSAL);
    CHECK_EQ(OK(isis_msg_safe(message)), 0);
    OK(isis_msg_view(message, &number));
    CHECK_EQ(number, message->view);
    OK(isis_msg_number(message, &number));
    CHECK_EQ(number, message->number);
    OK(isis_msg_order(message, &number));
    CHECK_EQ(number, 0);
    OK(isis_msg_group(message, &its_group));
    CHECK(its_group == group);
    CHECK_EQ(OK(isis_msg_answers(message, &view, &number)), 0);
    EXPECT(ISIS_EINVAL, isis_msg_data(message, NULL));
    EXPECT(ISIS_EINVAL, isis_msg_hold(message, NULL));
    EXPECT(ISIS_EMESSAGE, isis_msg_release(message));

    OK(isis_multicast(group, ISIS_TOTAL, 7, "from inside", 11));
    OK(isis_claim(group, 16, &claim));
    memset(claim.data, 'c', 16);
    OK(isis_commit(&claim, ISIS_CAUSAL, 7));
    OK(isis_send(group, me, 7, "to myself", 9));
    OK(isis_reply(message, "an answer", 9));
    OK(isis_flush(group, NULL));
    CHECK(memcmp(message->data, "call me", 7) == 0); /* all this has not touched the message */
}

static uint64_t asked; /* the ticket of the message that is answered */

static void on_reply(void *user, const isis_message_t *message)
{
    uint64_t view, number, ticket;
    (void)user;
    seen.replies++;
    CHECK_EQ(message->kind, ISIS_REPLY);
    CHECK_EQ(message->len, 9);
    CHECK(memcmp(message->data, "an answer", 9) == 0);
    CHECK_EQ(OK(isis_msg_answers(message, &view, &number)), 1);
    CHECK_EQ(view, message->answers_view);
    CHECK_EQ(number, message->answers_number);
    CHECK(number != 0);
    OK(isis_msg_ticket(message, &ticket));
    CHECK(ticket == message->ticket && ticket == asked);
}

static void calls_inside_a_callback(void)
{
    unsigned before = seen.messages, flushed = seen.flushed;

    OK(isis_entry(isis, 8, inside, NULL));
    OK(isis_entry(isis, ISIS_ENTRY_REPLY, on_reply, NULL));
    OK(isis_multicast(group, ISIS_CAUSAL, 8, "call me", 7));
    OK(isis_last_sent(group, &asked));
    CHECK(asked != 0);
    poll_until(&seen.messages, before + 3);
    poll_until(&seen.replies, 1);
    poll_until(&seen.flushed, flushed + 1);
    CHECK_EQ(inside_ran, 1);
}

/* --- hold ---------------------------------------------------------------------------------------------------------- */

static const isis_message_t *held[8];
static int32_t hold_status[8];
static unsigned holds;

static void hold_it(void *user, const isis_message_t *message)
{
    (void)user;
    hold_status[holds] = isis_msg_hold(message, &held[holds]);
    holds++;
}

static void hold_and_release(void)
{
    static char data[40000];
    unsigned index;
    uint64_t bytes;

    OK(isis_entry(isis, 9, hold_it, NULL));
    for (index = 0; index < 4; index++) {
        memset(data, 'a' + (int)index, sizeof data);
        OK(isis_multicast(group, ISIS_FIFO, 9, data, sizeof data));
    }
    poll_until(&holds, 4);
    CHECK_EQ(hold_status[0], ISIS_OK);
    CHECK_EQ(hold_status[1], ISIS_OK);
    CHECK_EQ(hold_status[2], ISIS_EAGAIN); /* 100000 bytes may be held */
    CHECK(held[2] == NULL);
    OK(isis_stats_value(isis, "held_bytes", &bytes));
    CHECK_EQ(bytes, 80000);
    each_kind_and_size(); /* later messages do not touch it */
    for (index = 0; index < 2; index++) {
        CHECK_EQ(held[index]->len, sizeof data);
        memset(data, 'a' + (int)index, sizeof data);
        CHECK(memcmp(held[index]->data, data, sizeof data) == 0);
    }
    asked = held[0]->ticket;
    CHECK(asked != 0);
    OK(isis_reply(held[0], "an answer", 9));
    poll_until(&seen.replies, 2);
    EXPECT(ISIS_EMESSAGE, isis_msg_hold(held[0], &held[3])); /* only one in delivery can be held */
    OK(isis_msg_release(held[0]));
    EXPECT(ISIS_EMESSAGE, isis_msg_release(held[0]));
    EXPECT(ISIS_EMESSAGE, isis_msg_rank(held[0]));
    OK(isis_multicast(group, ISIS_FIFO, 9, data, sizeof data));
    poll_until(&holds, 5);
    CHECK_EQ(hold_status[4], ISIS_OK);
    OK(isis_msg_release(held[4]));
}

/* --- claims -------------------------------------------------------------------------------------------------------- */

static void claims(void)
{
    isis_claim_t claim, second, old;
    uint64_t max;
    unsigned before = seen.messages;

    OK(isis_claim_max(group, &max));
    CHECK(max >= 1024);
    EXPECT(ISIS_ETOOLONG, isis_claim(group, max + 1, &claim));
    OK(isis_claim(group, max, &claim));
    CHECK(((uintptr_t)claim.data & 7) == 0);
    CHECK_EQ(claim.len, max);
    CHECK(claim.token != 0);
    memset(claim.data, 'x', max);
    EXPECT(ISIS_ECLAIM, isis_claim(group, 8, &second));
    CHECK_EQ(second.token, 0);
    OK(isis_multicast(group, ISIS_TOTAL, 7, "in between", 10));
    EXPECT(ISIS_EKIND, isis_commit(&claim, 99, 7));
    old = claim;
    OK(isis_commit(&claim, ISIS_TOTAL, 7));
    CHECK(claim.token == 0 && claim.data == NULL);
    EXPECT(ISIS_ECLAIM, isis_commit(&claim, ISIS_TOTAL, 7));
    EXPECT(ISIS_ECLAIM, isis_commit(&old, ISIS_TOTAL, 7));
    EXPECT(ISIS_ECLAIM, isis_abort(&old));
    poll_until(&seen.messages, before + 2);
    CHECK_EQ(seen.last.len, max);
    CHECK(seen.bytes[0] == 'x' && seen.bytes[max - 1] == 'x');

    OK(isis_claim(group, 8, &claim));
    EXPECT(ISIS_ECLAIM, isis_commit(&old, ISIS_TOTAL, 7)); /* an old claim does not end a new one */
    OK(isis_abort(&claim));
    OK(isis_flush_wait(group, patience()));
    CHECK_EQ(seen.messages, before + 2);
}

/* --- back-pressure ------------------------------------------------------------------------------------------------- */

/* Multicasts until not one byte more is taken. */
static void fill(void)
{
    static char data[1000];
    uint64_t end = now_ns() + patience();
    size_t len;

    for (len = sizeof data; len > 0; len = len > 1 ? 1 : 0)
        while (isis_multicast(group, ISIS_FIFO, 7, data, len) == ISIS_OK)
            CHECK(now_ns() < end);
}

static void full_window(void)
{
    static char data[1000];
    unsigned before = seen.messages, sent = 0;
    int32_t status;
    uint64_t end = now_ns() + patience();

    EXPECT(ISIS_EINVAL, isis_multicast(group, ISIS_FIFO, 7, NULL, 1));
    while ((status = isis_multicast(group, ISIS_FIFO, 7, data, sizeof data)) == ISIS_OK) {
        sent++;
        CHECK(now_ns() < end);
    }
    CHECK_EQ(status, ISIS_EAGAIN);
    CHECK_EQ(isis_last_error_code(), ISIS_EINVAL); /* a full window says nothing */
    CHECK(sent > 100);
    poll_until(&seen.messages, before + sent);
    poll_until(&seen.writable, 1);
    OK(isis_multicast(group, ISIS_FIFO, 7, data, sizeof data));
    poll_until(&seen.messages, before + sent + 1);
    CHECK_EQ(seen.messages, before + sent + 1);

    /* Where nothing else gets in either, the calls that wait do. */
    if (inline_mode) {
        fill();
        OK(isis_flush(group, NULL));
        OK(isis_flush_wait(group, 0));
    } else {
        /* The engine's thread makes room until its own buffers are full too. */
        for (end = now_ns() + patience(); (status = isis_flush(group, NULL)) == ISIS_OK; fill())
            CHECK(now_ns() < end);
        CHECK_EQ(status, ISIS_EAGAIN);
        for (; (status = isis_flush_wait(group, 0)) == ISIS_ETIMEDOUT; fill())
            CHECK(now_ns() < end);
        CHECK_EQ(status, ISIS_EAGAIN);
    }
    OK(isis_flush_wait(group, patience()));
    OK(isis_multicast(group, ISIS_FIFO, 7, data, 1));
}

/* --- threads and forks ---------------------------------------------------------------------------------------------- */

static void *other_thread(void *unused)
{
    isis_claim_t claim;
    isis_group_t *none;
    isis_sender_t *sender;
    isis_stat_t stat;
    uint64_t number;

    (void)unused;
    EXPECT(ISIS_ETHREAD, isis_poll(isis, 0));
    EXPECT(ISIS_ETHREAD, isis_run(isis));
    EXPECT(ISIS_ETHREAD, isis_close(isis));
    EXPECT(ISIS_ETHREAD, isis_close_wait(isis, 0));
    EXPECT(ISIS_ETHREAD, isis_fd(isis));
    EXPECT(ISIS_ETHREAD, isis_wait_prepare(isis));
    EXPECT(ISIS_ETHREAD, isis_stats(isis, &stat, 1));
    EXPECT(ISIS_ETHREAD, isis_entry(isis, 1, NULL, NULL));
    EXPECT(ISIS_ETHREAD, isis_process(isis, &number));
    EXPECT(ISIS_ETHREAD, isis_group_join(isis, "x", NULL, &none));
    EXPECT(ISIS_ETHREAD, isis_group_leave(group));
    EXPECT(ISIS_ETHREAD, isis_multicast(group, ISIS_FIFO, 7, "x", 1));
    EXPECT(ISIS_ETHREAD, isis_claim(group, 8, &claim));
    EXPECT(ISIS_ETHREAD, isis_view_size(group));
    EXPECT(ISIS_ETHREAD, isis_flush(group, NULL));
    EXPECT(ISIS_ETHREAD, isis_sender_open(group, &sender));
    if (held[1] != NULL)
        EXPECT(ISIS_EMESSAGE, isis_msg_release(held[1]));
    return NULL;
}

static void *stopper(void *unused)
{
    struct timespec delay = {0, 30000000};
    (void)unused;
    nanosleep(&delay, NULL);
    OK(isis_stop(isis));
    return NULL;
}

static void stop_from_inside(void *user, const isis_message_t *message)
{
    (void)user;
    (void)message;
    OK(isis_stop(isis));
}

static void threads(void)
{
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, other_thread, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);

    CHECK(pthread_create(&thread, NULL, stopper, NULL) == 0);
    EXPECT(ISIS_OK, isis_run(isis));
    CHECK(pthread_join(thread, NULL) == 0);
    OK(isis_entry(isis, 10, stop_from_inside, NULL));
    OK(isis_multicast(group, ISIS_FIFO, 10, NULL, 0));
    EXPECT(ISIS_OK, isis_run(isis));
    OK(isis_stop(isis)); /* counts for the next run */
    EXPECT(ISIS_OK, isis_run(isis));
}

static void forked_child(void)
{
    int status;
    pid_t child = fork();

    CHECK(child >= 0);
    if (child == 0) {
        isis_group_t *none;
        EXPECT(ISIS_EFORKED, isis_poll(isis, 0));
        EXPECT(ISIS_EFORKED, isis_run(isis));
        EXPECT(ISIS_EFORKED, isis_stop(isis));
        EXPECT(ISIS_EFORKED, isis_close(isis));
        EXPECT(ISIS_EFORKED, isis_close_wait(isis, 0));
        EXPECT(ISIS_EFORKED, isis_fd(isis));
        EXPECT(ISIS_EFORKED, isis_group_join(isis, "x", NULL, &none));
        EXPECT(ISIS_EFORKED, isis_multicast(group, ISIS_FIFO, 7, "x", 1));
        EXPECT(ISIS_EFORKED, isis_view_size(group));
        EXPECT(ISIS_EFORKED, isis_flush(group, NULL));
        EXPECT(ISIS_EFORKED, isis_group_leave(group));
        /* All is well. Not by exit: a leak checker would look for what only the parent's threads know. */
        raise(SIGKILL);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* --- a loop of the program's own ------------------------------------------------------------------------------------- */

static void own_loop(void)
{
    unsigned before = seen.messages;
    uint64_t end = now_ns() + patience();
    struct pollfd descriptor;

    descriptor.fd = OK(isis_fd(isis));
    descriptor.events = POLLIN;
    OK(isis_multicast(group, ISIS_TOTAL, 7, "tick", 4));
    while (seen.messages == before) {
        OK(isis_poll(isis, 1));
        if (OK(isis_wait_prepare(isis)) == 0)
            CHECK(poll(&descriptor, 1, 5000) >= 0);
        CHECK(now_ns() < end);
        CHECK_EQ(OK(isis_fd(isis)), descriptor.fd);
    }
}

/* --- the calls that do not wait -------------------------------------------------------------------------------------- */

static void without_waiting(const isis_options_t *options)
{
    isis_group_t *mine;
    uint64_t end = now_ns() + patience();
    int32_t status;

    memset(&seen, 0, sizeof seen);
    isis = NULL;
    OK(isis_open(options, &isis));
    OK(isis_on_event(isis, on_event, &seen));
    OK(isis_entry(isis, ISIS_ENTRY_OTHER, on_message, &seen));
    OK(isis_group_join(isis, "without waiting", NULL, &mine));
    poll_until(&seen.joined, 1);
    poll_until(&seen.views, 1);
    OK(isis_multicast(mine, ISIS_TOTAL, 99, "x", 1));
    poll_until(&seen.messages, 1);
    CHECK_EQ(seen.last.entry, 99);
    OK(isis_group_leave(mine));
    poll_until(&seen.left, 1);
    EXPECT(ISIS_EHANDLE, isis_view_size(mine));
    OK(isis_close(isis));
    while ((status = isis_poll(isis, 0)) >= 0) {
        breathe();
        CHECK(now_ns() < end);
    }
    CHECK_EQ(status, ISIS_EHANDLE);
    CHECK_EQ(seen.closed, 1);
}

int main(int argc, char **argv)
{
    isis_options_t options;
    const char *mode = argc > 1 ? argv[1] : "inline";
    isis_stat_t stats[256];
    int32_t count, index;

    inline_mode = strcmp(mode, "inline") == 0;
    begin(inline_mode ? "single inline" : "single threaded", 60);
    open_and_join(mode, &options);
    each_kind_and_size();
    calls_inside_a_callback();
    hold_and_release();
    claims();
    full_window();
    threads();
    forked_child();
    own_loop();
    count = OK(isis_stats(isis, stats, 256));
    CHECK(count > 3 && count < 256);
    for (index = 0; index < count; index++)
        CHECK(strlen(stats[index].name) > 0);
    fill();
    OK(isis_group_leave_wait(group, patience()));
    EXPECT(ISIS_EHANDLE, isis_multicast(group, ISIS_FIFO, 7, "x", 1));
    CHECK_EQ(seen.left, 1);
    OK(isis_close_wait(isis, patience()));
    CHECK_EQ(seen.closed, 1);
    EXPECT(ISIS_EHANDLE, isis_poll(isis, 0));

    /* A held message outlives the instance; only a reply is too late. */
    CHECK_EQ(((const char *)held[1]->data)[0], 'b');
    EXPECT(ISIS_EHANDLE, isis_reply(held[1], "x", 1));
    OK(isis_msg_release(held[1]));

    without_waiting(&options);
    return done();
}
