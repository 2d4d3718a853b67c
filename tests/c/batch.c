/*
 * Messages that follow each other, taken together (isis_entry_batch): nothing is lost, doubled or misnamed by that, whatever
 * the callbacks do meanwhile; and where a program takes each by itself it never notices.
 */
#include "check.h"

#define SENT 3000
#define ENTRY_BATCH 1
#define ENTRY_ONE 2
#define ENTRY_SWAP 3

static isis_t *isis;
static isis_group_t *group;
static uint64_t me;
static uint64_t next_number = 1, next_order = 1;
static uint64_t tickets[3 * SENT + 1];
static unsigned came, calls, longest, held;
static const isis_message_t *kept;

static void take(const isis_message_t *first, const isis_slice_t *slice, uint32_t index)
{
    uint32_t number;

    CHECK_EQ(first->number + index, next_number);
    next_number++;
    if (first->kind == ISIS_TOTAL) {
        CHECK_EQ(first->order + index, next_order);
        next_order++;
    } else
        CHECK_EQ(first->order, 0);
    CHECK(slice->len >= sizeof number);
    memcpy(&number, slice->data, sizeof number);
    CHECK_EQ(number, came);
    CHECK_EQ(slice->len, number % 50 == 7 ? 20000 : sizeof number + number % 3);
    CHECK(first->ticket != 0);
    CHECK_EQ(first->ticket + index, tickets[number]);
    came++;
}

static void on_one(void *user, const isis_message_t *message);

static void on_batch(void *user, const isis_message_t *first, const isis_slice_t *bytes, uint32_t count)
{
    uint32_t index;
    uint64_t sender;

    CHECK(user == &came);
    CHECK(count >= 1);
    CHECK_EQ(first->len, bytes[0].len);
    CHECK(first->data == bytes[0].data);
    OK(isis_msg_sender(first, &sender));
    CHECK_EQ(sender, me);
    for (index = 0; index < count; index++)
        take(first, &bytes[index], index);
    calls++;
    if (count > longest)
        longest = count;
    EXPECT(ISIS_EINCALLBACK, isis_poll(isis, 0));
    if (first->entry == ENTRY_SWAP)
        OK(isis_entry(isis, ENTRY_SWAP, on_one, &came));
    if (kept == NULL && count > 1) {
        OK(isis_msg_hold(first, &kept));
        held = came - count;
    }
}

static void on_one(void *user, const isis_message_t *message)
{
    isis_slice_t slice;

    CHECK(user == &came);
    CHECK_EQ(OK(isis_msg_slices(message, &slice, 1)), 1);
    take(message, &slice, 0);
    calls++;
    if (message->entry == ENTRY_SWAP)
        OK(isis_entry_batch(isis, ENTRY_SWAP, on_batch, &came));
}

/* Multicasts so many messages, taking what comes only when there is no more room, `most` at a time. */
static void send_and_take(uint32_t kind, uint32_t entry, uint32_t count, uint32_t most)
{
    static char data[20000];
    static uint32_t number;
    uint32_t end = number + count;
    uint64_t until = now_ns() + patience();

    calls = longest = 0;
    while (came < end) {
        size_t len = number % 50 == 7 ? sizeof data : sizeof number + number % 3;
        uint32_t before = came, all;
        memcpy(data, &number, sizeof number);
        if (number < end && isis_multicast(group, kind, entry, data, len) == ISIS_OK) {
            OK(isis_last_sent(group, &tickets[number]));
            number++;
            continue;
        }
        all = (uint32_t)OK(isis_poll(isis, most));
        CHECK(most == 0 || all <= most);
        CHECK(came - before <= all);
        if (all == 0)
            breathe();
        CHECK(now_ns() < until);
    }
}

int main(int argc, char **argv)
{
    isis_options_t options;
    const char *mode = argc > 1 ? argv[1] : "inline";
    int together = strcmp(mode, "inline") == 0;
    uint32_t number;

    begin(together ? "batch inline" : "batch threaded", 60);
    test_options(&options, mode);
    OK(isis_open_wait(&options, patience(), &isis));
    OK(isis_process(isis, &me));
    EXPECT(ISIS_EINVAL, isis_entry_batch(isis, ISIS_ENTRY_OTHER + 1, on_batch, &came));
    OK(isis_entry_batch(isis, ENTRY_BATCH, on_batch, &came));
    OK(isis_entry(isis, ENTRY_ONE, on_one, &came));
    OK(isis_entry_batch(isis, ENTRY_SWAP, on_batch, &came));
    OK(isis_group_join_wait(isis, "batch", NULL, patience(), &group));

    send_and_take(ISIS_FIFO, ENTRY_BATCH, SENT / 2, 0);
    CHECK(together ? longest > 10 && longest <= 32 : longest == 1);
    send_and_take(ISIS_TOTAL, ENTRY_BATCH, SENT / 2, 0);
    CHECK(together ? calls < SENT / 4 : longest == 1);
    /* isis_poll counts messages, not calls. */
    send_and_take(ISIS_TOTAL | ISIS_SAFE, ENTRY_BATCH, SENT / 2, 5);
    CHECK(longest <= 5);
    /* One by one, and with callbacks that take each other's place. */
    send_and_take(ISIS_CAUSAL, ENTRY_ONE, SENT / 2, 0);
    CHECK_EQ(calls, SENT / 2);
    send_and_take(ISIS_TOTAL, ENTRY_SWAP, SENT / 2, 0);
    CHECK(calls > 2);
    /* The rest of a batch that nobody takes is dropped. */
    OK(isis_entry_batch(isis, ENTRY_BATCH, NULL, NULL));
    for (number = 0; number < 3; number++)
        OK(isis_multicast(group, ISIS_FIFO, ENTRY_BATCH, "gone", 4));
    OK(isis_flush_wait(group, patience()));

    if (together) {
        CHECK(kept != NULL);
        memcpy(&number, kept->data, sizeof number);
        CHECK_EQ(number, held);
        OK(isis_msg_release(kept));
    }
    OK(isis_close_wait(isis, patience()));
    return done();
}
