/*
 * Threaded mode: four threads multicast through senders of their own while the owner receives. FIFO holds per sender
 * object; a sender belongs to the first thread that uses it, and outlives its instance without harm.
 */
#include "check.h"

#include <pthread.h>

#define THREADS 4
#define EACH 5000

static isis_sender_t *senders[THREADS];
static uint32_t next_number[THREADS];
static unsigned came;
/* The tickets that the senders were given, and those that came with the messages. */
static uint64_t given[THREADS][EACH], shown[THREADS][EACH];

static void on_message(void *user, const isis_message_t *message)
{
    uint32_t words[2];
    (void)user;
    CHECK_EQ(message->len, sizeof words);
    memcpy(words, message->data, sizeof words);
    CHECK(words[0] < THREADS);
    CHECK_EQ(words[1], next_number[words[0]]);
    next_number[words[0]]++;
    shown[words[0]][words[1]] = message->ticket;
    came++;
}

static void *send_all(void *argument)
{
    uint32_t words[2];
    uint64_t end = now_ns() + patience();

    words[0] = *(uint32_t *)argument;
    for (words[1] = 0; words[1] < EACH;) {
        int32_t status = isis_sender_send(senders[words[0]], ISIS_TOTAL, 1, words, sizeof words);
        if (status == ISIS_OK) {
            OK(isis_sender_last_sent(senders[words[0]], &given[words[0]][words[1]]));
            words[1]++;
        } else {
            struct timespec pause = {0, 100000};
            CHECK_EQ(status, ISIS_EAGAIN);
            nanosleep(&pause, NULL);
        }
        CHECK(now_ns() < end);
    }
    return NULL;
}

static void *close_it(void *argument)
{
    isis_sender_t *sender = argument;
    EXPECT(ISIS_EINVAL, isis_sender_send(sender, ISIS_TOTAL, 1, NULL, 8));
    EXPECT(ISIS_EINVAL, isis_sender_last_sent(sender, NULL));
    EXPECT(ISIS_EKIND, isis_sender_send(sender, 0, 1, "x", 1));
    EXPECT(ISIS_EENDED, isis_sender_send(sender, ISIS_TOTAL, 1, "x", 1));
    OK(isis_sender_close(sender));
    EXPECT(ISIS_EHANDLE, isis_sender_close(sender));
    EXPECT(ISIS_EHANDLE, isis_sender_send(sender, ISIS_TOTAL, 1, "x", 1));
    return NULL;
}

int main(void)
{
    isis_options_t options;
    isis_t *isis;
    isis_group_t *group;
    isis_sender_t *late;
    pthread_t threads[THREADS], closer;
    uint32_t numbers[THREADS], index;
    uint64_t end;

    begin("threads", 60);
    test_options(&options, "threaded");
    OK(isis_open_wait(&options, patience(), &isis));
    OK(isis_entry(isis, 1, on_message, NULL));
    OK(isis_group_join_wait(isis, "threads", NULL, patience(), &group));
    for (index = 0; index < THREADS; index++) {
        numbers[index] = index;
        OK(isis_sender_open(group, &senders[index]));
    }
    OK(isis_sender_open(group, &late));
    for (index = 0; index < THREADS; index++)
        CHECK(pthread_create(&threads[index], NULL, send_all, &numbers[index]) == 0);
    end = now_ns() + patience();
    while (came < THREADS * EACH) {
        if (OK(isis_poll(isis, 0)) == 0)
            breathe();
        CHECK(now_ns() < end);
    }
    for (index = 0; index < THREADS; index++)
        CHECK(pthread_join(threads[index], NULL) == 0);
    CHECK(memcmp(given, shown, sizeof given) == 0 && given[0][0] != 0 && given[0][0] != given[1][0]);
    for (index = 0; index < THREADS; index++) {
        /* It belongs to the thread that sent. */
        EXPECT(ISIS_ETHREAD, isis_sender_send(senders[index], ISIS_TOTAL, 1, "x", 1));
        EXPECT(ISIS_ETHREAD, isis_sender_last_sent(senders[index], &given[0][0]));
        EXPECT(ISIS_ETHREAD, isis_sender_close(senders[index]));
    }
    OK(isis_close_wait(isis, patience()));
    CHECK(pthread_create(&closer, NULL, close_it, late) == 0);
    CHECK(pthread_join(closer, NULL) == 0);
    return done();
}
