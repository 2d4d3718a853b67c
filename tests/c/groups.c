/*
 * One ABCAST to several groups. Five processes of one host and two groups, one of each total order: three are in both, one
 * is in the first only, one in the second only. The three multicast to both groups, and to one of them in between; one of
 * the three is killed in the midst of it; the survivors go on.
 *
 * What is checked:
 *  - everybody has the same ABCASTs in the same order, per group;
 *  - the messages to both come in one order, the same in both groups, also at the two that see one group only;
 *  - those of the killed one are delivered in both groups or in none;
 *  - each sender's messages come without gap or repetition, per group;
 *  - a message shows its sender the ticket that isis_last_sent told of each group.
 * Arguments: the mode, and how many messages each sends to both groups.
 */
#include "children.h"

enum { BOTH_FIRST = 0, BOTH_SECOND = 1, BOTH_THIRD = 2, ONLY_LEFT = 3, ONLY_RIGHT = 4, PROCESSES = 5 };
enum { LEFT = 0, RIGHT = 1 };
enum { ENTRY_BOTH = 1, ENTRY_ONE = 2 };

/* --- a process --------------------------------------------------------------------------------------------------------- */

struct word {
    uint32_t sender, both; /* who, and how many it has sent to both groups, this one included */
    uint32_t number[2];    /* how many ABCASTs it has sent in each group, this one included */
};

/* What has come in a group. */
struct seen {
    unsigned long long both, both_digest, all, all_digest;
    uint32_t numbers[PROCESSES];
};

static const char *mode;
static unsigned each;
static isis_t *isis;
static isis_group_t *groups[2];
static struct seen seen[2];
static struct word last;  /* what was sent last */
static uint64_t *tickets; /* of the messages to both, per group */
static unsigned tickets_seen;

static unsigned long long mix(unsigned long long digest, uint64_t value)
{
    digest ^= value;
    return digest * UINT64_C(0x100000001b3) ^ digest >> 29;
}

static void on_message(void *user, const isis_message_t *message)
{
    int side = message->group == groups[RIGHT];
    struct seen *here = &seen[side];
    struct word word;
    uint64_t name;

    (void)user;
    CHECK(message->group == groups[side]);
    CHECK_EQ(message->kind, ISIS_TOTAL);
    CHECK_EQ(message->len, sizeof word);
    memcpy(&word, message->data, sizeof word);
    CHECK(word.sender < PROCESSES);
    if (word.number[side] != here->numbers[word.sender] + 1)
        failed(__FILE__, __LINE__, "message %u of process %u came in group %d when %u was due", word.number[side],
               word.sender, side, here->numbers[word.sender] + 1);
    here->numbers[word.sender]++;
    name = (uint64_t)word.sender << 32 | word.number[side];
    here->all++;
    here->all_digest = mix(here->all_digest, name);
    CHECK(message->order >= 1);
    if (message->entry == ENTRY_BOTH) {
        here->both++;
        here->both_digest = mix(here->both_digest, (uint64_t)word.sender << 32 | word.both);
        if (message->ticket && tickets && word.both <= each) {
            CHECK_EQ(message->ticket, tickets[2 * word.both + (unsigned)side]);
            tickets_seen++;
        }
    }
}

static void on_event(void *user, const isis_event_t *event)
{
    (void)user;
    switch (event->type) {
    case ISIS_EVENT_VIEW:
        say("view %d %u", event->group == groups[RIGHT], event->members);
        break;
    default:
        fail_if_bad(event);
        break;
    }
}

/* Multicasts to both groups (side 2) or to one; 0: not now. */
static int multicast(unsigned side)
{
    struct word word = last;
    int32_t status;
    int group;

    for (group = LEFT; group <= RIGHT; group++)
        word.number[group] += side == 2 || side == (unsigned)group;
    word.both += side == 2;
    if (side == 2)
        status = isis_multicast_groups(groups, 2, ISIS_TOTAL | (word.both % 5 ? 0 : ISIS_SAFE), ENTRY_BOTH, &word,
                                       sizeof word);
    else
        status = isis_multicast(groups[side], ISIS_TOTAL, ENTRY_ONE, &word, sizeof word);
    if (status == ISIS_EAGAIN)
        return 0;
    OK(status);
    last = word;
    if (side == 2 && tickets && word.both <= each)
        for (group = LEFT; group <= RIGHT; group++)
            OK(isis_last_sent(groups[group], &tickets[2 * word.both + (unsigned)group]));
    return 1;
}

/* Sends so many to both groups, and one to one of them after every third; all have them when it returns. */
static void send_some(unsigned count)
{
    uint64_t end = now_ns() + 3 * patience();
    unsigned number;

    for (number = 0; number < count; number++) {
        while (!multicast(2)) {
            if (OK(isis_poll(isis, 64)) == 0)
                breathe();
            CHECK(now_ns() < end);
        }
        while (number % 3 == 0 && !multicast(number % 2)) {
            if (OK(isis_poll(isis, 64)) == 0)
                breathe();
            CHECK(now_ns() < end);
        }
        if (number % 16 == 0)
            OK(isis_poll(isis, 16));
    }
    OK(isis_flush_wait(groups[LEFT], 3 * patience()));
    OK(isis_flush_wait(groups[RIGHT], 3 * patience()));
}

static void send_all(void)
{
    send_some(each);
    say("sent");
}

static void member(unsigned my_number, int commands)
{
    isis_options_t options;
    isis_join_options_t join;
    char letter = 0;
    int side;

    last.sender = my_number;
    test_options(&options, mode);
    OK(isis_open_wait(&options, patience(), &isis));
    OK(isis_on_event(isis, on_event, NULL));
    OK(isis_entry(isis, ISIS_ENTRY_OTHER, on_message, NULL));
    OK(isis_join_options_init(&join));
    for (side = LEFT; side <= RIGHT; side++) {
        if (my_number == (side == LEFT ? ONLY_RIGHT : ONLY_LEFT))
            continue;
        join.ordering = side == LEFT ? ISIS_ORDERING_SEQUENCER : ISIS_ORDERING_PRIORITY;
        OK(isis_group_join(isis, side == LEFT ? "left" : "right", &join, &groups[side]));
    }
    while (letter != 'q') {
        letter = wait_for_work(isis, commands, 1000);
        switch (letter) {
        case 's':
            tickets = calloc(2 * (size_t)each + 2, sizeof *tickets);
            CHECK(tickets != NULL);
            send_all();
            CHECK(tickets_seen > 0);
            break;
        case 'S':
            send_all();
            break;
        case 'k': /* until it is killed */
            send_some(5);
            say("on its way");
            for (;;)
                if (!multicast(2))
                    OK(isis_poll(isis, 64));
        case 'd':
            for (side = LEFT; side <= RIGHT; side++)
                say("digest %llu %llu %llu %llu", seen[side].both, seen[side].both_digest, seen[side].all,
                    seen[side].all_digest);
            break;
        default:
            break;
        }
    }
    free(tickets);
    OK(isis_close_wait(isis, patience()));
    say("closed");
}

/* A group in sending-view mode takes none, a client sends none, and a message has its room beside the header. */
static void refusals(unsigned my_number, int commands)
{
    isis_options_t options;
    isis_join_options_t join;
    isis_group_t *pair[2];
    char *data = calloc(1, 1000);

    (void)commands;
    (void)my_number;
    CHECK(data != NULL);
    test_options(&options, mode);
    OK(isis_options_set(&options, "max_message", "1000"));
    OK(isis_open_wait(&options, patience(), &isis));
    OK(isis_join_options_init(&join));
    OK(isis_group_join_wait(isis, "mine", &join, patience(), &pair[0]));
    EXPECT(ISIS_OK, isis_multicast_groups(pair, 1, ISIS_TOTAL, 0, data, 1000 - 33));
    EXPECT(ISIS_ETOOLONG, isis_multicast_groups(pair, 1, ISIS_TOTAL, 0, data, 1000 - 32));
    join.sending_view = 1;
    OK(isis_group_join_wait(isis, "in view", &join, patience(), &pair[1]));
    EXPECT(ISIS_EKIND, isis_multicast_groups(pair, 2, ISIS_TOTAL, 0, "x", 1));
    OK(isis_group_leave_wait(pair[1], patience()));
    OK(isis_join_options_init(&join));
    join.role = ISIS_ROLE_CLIENT;
    OK(isis_group_join_wait(isis, "left", &join, patience(), &pair[1]));
    EXPECT(ISIS_ENOTMEMBER, isis_multicast_groups(pair, 2, ISIS_TOTAL, 0, "x", 1));
    OK(isis_multicast(pair[0], ISIS_TOTAL, 0, "x", 1));
    OK(isis_close_wait(isis, patience()));
    free(data);
    say("refused");
}

/* --- the parent -------------------------------------------------------------------------------------------------------- */

/* Waits until a process has a view of this size of each of its groups, the second view after the first. */
static void views_of(unsigned index, const unsigned sizes[2])
{
    int there[2], side;
    unsigned members;

    there[LEFT] = index == ONLY_RIGHT;
    there[RIGHT] = index == ONLY_LEFT;
    while (!there[LEFT] || !there[RIGHT]) {
        CHECK_EQ(sscanf(expect(index, "view "), "%d %u", &side, &members), 2);
        CHECK(side == LEFT || side == RIGHT);
        there[side] |= members == sizes[side];
    }
}

static void digests_of(unsigned index, struct seen digests[2])
{
    int side;
    command(index, 'd');
    for (side = LEFT; side <= RIGHT; side++)
        CHECK_EQ(sscanf(expect(index, "digest "), "%llu %llu %llu %llu", &digests[side].both,
                        &digests[side].both_digest, &digests[side].all, &digests[side].all_digest),
                 4);
}

/* Waits until all that live have as many ABCASTs in each group, at least so many to both; then compares. */
static unsigned long long compare(int killed, unsigned long long least)
{
    struct seen first[2], other[2];
    uint64_t end = now_ns() + 3 * patience();
    struct timespec pause = {0, 5000000};
    unsigned index;
    int same = 0, side;

    while (!same) {
        digests_of(BOTH_FIRST, first);
        same = first[LEFT].both >= least && first[LEFT].both == first[RIGHT].both;
        for (index = BOTH_SECOND; index < PROCESSES; index++) {
            if ((int)index == killed)
                continue;
            digests_of(index, other);
            for (side = LEFT; side <= RIGHT; side++)
                same &= index == (side == LEFT ? ONLY_RIGHT : ONLY_LEFT) || other[side].all == first[side].all;
        }
        if (now_ns() > end)
            failed(__FILE__, __LINE__, "%llu and %llu messages to both groups, %llu expected, do not come to all",
                   first[LEFT].both, first[RIGHT].both, least);
        nanosleep(&pause, NULL);
    }
    CHECK(first[LEFT].both_digest == first[RIGHT].both_digest);
    for (index = BOTH_SECOND; index < PROCESSES; index++) {
        if ((int)index == killed)
            continue;
        digests_of(index, other);
        for (side = LEFT; side <= RIGHT; side++) {
            if (index == (side == LEFT ? ONLY_RIGHT : ONLY_LEFT))
                continue;
            CHECK_EQ(other[side].both, first[side].both);
            CHECK(other[side].both_digest == first[side].both_digest);
            CHECK_EQ(other[side].all, first[side].all);
            CHECK(other[side].all_digest == first[side].all_digest);
        }
    }
    return first[LEFT].both;
}

int main(int argc, char **argv)
{
    static const unsigned all[2] = {4, 4}, without_one[2] = {3, 3};
    struct timespec pause = {0, 40000000};
    unsigned index;
    unsigned long long both;
    int status;

    mode = argc > 1 ? argv[1] : "threaded";
    each = argc > 2 ? (unsigned)atoi(argv[2]) : 300;
    begin(mode, 120);
    for (index = 0; index < PROCESSES; index++)
        start_child(index, 120, member);
    for (index = 0; index < PROCESSES; index++)
        views_of(index, all);

    /* Three send at the same time. */
    for (index = BOTH_FIRST; index <= BOTH_THIRD; index++)
        command(index, 's');
    for (index = BOTH_FIRST; index <= BOTH_THIRD; index++)
        expect(index, "sent");
    both = compare(-1, 3ull * each);
    CHECK_EQ(both, 3ull * each);

    /* One is killed while it sends, and the others send. */
    command(BOTH_SECOND, 'k');
    command(BOTH_FIRST, 'S');
    command(BOTH_THIRD, 'S');
    expect(BOTH_SECOND, "on its way");
    nanosleep(&pause, NULL);
    kill_child(BOTH_SECOND);
    expect(BOTH_FIRST, "sent");
    expect(BOTH_THIRD, "sent");
    views_of(ONLY_LEFT, without_one);
    views_of(ONLY_RIGHT, without_one);
    both = compare(BOTH_SECOND, 5ull * each);
    CHECK(both >= 5ull * each + 5);
    printf("%s: %llu of the killed one's messages came, to both groups\n", test_name, both - 5ull * each);

    /* The rest goes on. */
    command(BOTH_THIRD, 'S');
    expect(BOTH_THIRD, "sent");
    CHECK_EQ(compare(BOTH_SECOND, both + each), both + each);

    start_child(PROCESSES, 120, refusals);
    expect(PROCESSES, "refused");
    CHECK_EQ(waitpid(children[PROCESSES].process, &status, 0), children[PROCESSES].process);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    for (index = 0; index < PROCESSES; index++)
        if (index != BOTH_SECOND)
            quit(index);
    return done();
}
