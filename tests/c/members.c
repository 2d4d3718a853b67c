/*
 * Four processes of one host, by name: three join and multicast all kinds under load, one is killed, the survivors go on,
 * a newcomer receives the state and takes part, all leave in order.
 *
 * What is checked:
 *  - FIFO across kinds: each member sees each sender's messages numbered 1, 2, 3 without gap or repetition;
 *  - total order: a digest over the ABCASTs in their order is the same at all;
 *  - causal order: an answer, multicast from inside a callback, never comes before its question;
 *  - views: the same numbers and sizes at all; the killed one departs as failed, the leavers as left;
 *  - state: the newcomer's equals the donors' at its first view, byte for byte.
 * Arguments: the mode, how many messages of each kind a member sends, and "priority" for that total order: the first three
 * ask for it, the newcomer does not, and gets it.
 */
#include "children.h"

#define MEMBERS 4
#define PADDING 300000 /* of the state, so that it takes many blocks */
enum { ENTRY_PLAIN = 1, ENTRY_QUESTION = 2, ENTRY_ANSWER = 3 };

/* What a member multicasts. */
struct word {
    uint32_t sender, number, kind, question;
};

/* What a newcomer receives. */
struct state {
    uint64_t totals, digest;
    uint32_t next[MEMBERS];      /* the number that each sender's next message has */
    uint32_t questions[MEMBERS]; /* of each sender, that came */
    uint8_t padding[PADDING];
};

/* --- a member --------------------------------------------------------------------------------------------------------- */

static struct state state;
static isis_t *isis;
static isis_group_t *group;
static uint32_t my_index, sent, view_members;
static uint64_t plain_came, answers_came;
static int snapshots;
static const char *mode;
static unsigned each;
static uint32_t ordering = ISIS_ORDERING_SEQUENCER;

static uint64_t mix(uint64_t digest, uint64_t value)
{
    digest ^= value;
    return digest * UINT64_C(0x100000001b3) ^ digest >> 29;
}

static int32_t multicast(uint32_t kind, uint32_t entry, uint32_t question)
{
    struct word word;
    int32_t status;

    word.sender = my_index;
    word.number = sent + 1;
    word.kind = kind;
    word.question = question;
    if (sent % 3 == 0) {
        isis_claim_t claim;
        status = isis_claim(group, sizeof word, &claim);
        if (status == ISIS_OK) {
            memcpy(claim.data, &word, sizeof word);
            status = isis_commit(&claim, kind, entry);
            if (status == ISIS_EAGAIN)
                OK(isis_abort(&claim));
        }
    } else
        status = isis_multicast(group, kind, entry, &word, sizeof word);
    if (status == ISIS_OK)
        sent++;
    else if (status != ISIS_EAGAIN)
        OK(status);
    return status;
}

static uint32_t owed_question[64], owed;

static void pay_answers(void)
{
    while (owed && multicast(ISIS_CAUSAL, ENTRY_ANSWER, owed_question[owed - 1]) == ISIS_OK)
        owed--;
}

static void on_message(void *user, const isis_message_t *message)
{
    struct word word;

    (void)user;
    CHECK_EQ(message->len, sizeof word);
    memcpy(&word, message->data, sizeof word);
    CHECK(word.sender < MEMBERS);
    CHECK_EQ(word.kind & ~(uint32_t)ISIS_SAFE, message->kind);
    if (word.number != state.next[word.sender])
        failed(__FILE__, __LINE__, "member %u: message %u of member %u came when %u was due", my_index, word.number,
               word.sender, state.next[word.sender]);
    state.next[word.sender]++;
    if (message->kind == ISIS_TOTAL) {
        state.totals++;
        state.digest = mix(state.digest, (uint64_t)word.sender << 32 | word.number);
    }
    switch (message->entry) {
    case ENTRY_QUESTION:
        state.questions[word.sender]++;
        CHECK(owed < 64);
        owed_question[owed++] = word.sender << 16 | state.questions[word.sender];
        pay_answers(); /* from inside the callback */
        break;
    case ENTRY_ANSWER:
        /* Causal order: the question came before. */
        CHECK(state.questions[word.question >> 16] >= (word.question & 0xffff));
        answers_came++;
        break;
    default:
        plain_came++;
    }
}

static void on_event(void *user, const isis_event_t *event)
{
    uint32_t index, reason, failures = 0;
    uint64_t process;

    (void)user;
    switch (event->type) {
    case ISIS_EVENT_JOINED:
        say("joined %llu %llu", (unsigned long long)state.totals, (unsigned long long)state.digest);
        break;
    case ISIS_EVENT_VIEW:
        view_members = event->members;
        CHECK_EQ(OK(isis_view_size(event->group)), event->members);
        CHECK_EQ(OK(isis_view_rank(event->group)), event->rank);
        CHECK_EQ(OK(isis_view_departed_count(event->group)), event->departed);
        for (index = 0; index < event->departed; index++) {
            OK(isis_view_departed(event->group, index, &process, &reason));
            failures += reason == ISIS_DEPARTED_FAILED;
        }
        say("view %llu %u %u %u", (unsigned long long)event->view, event->members, event->departed, failures);
        break;
    case ISIS_EVENT_EVICTED:
        failed(__FILE__, __LINE__, "member %u was evicted", my_index);
        break;
    case ISIS_EVENT_POISONED:
        failed(__FILE__, __LINE__, "member %u was poisoned", my_index);
        break;
    default:
        break;
    }
}

static int32_t state_capture(void *user, void **snapshot)
{
    struct state *copy = malloc(sizeof *copy);
    CHECK(user == &state);
    CHECK(copy != NULL);
    memcpy(copy, &state, sizeof *copy);
    *snapshot = copy;
    snapshots++;
    return 0;
}

static int64_t state_next(void *user, void *snapshot, uint64_t offset, void *buffer, uint64_t capacity)
{
    uint64_t left = sizeof state - offset;
    (void)user;
    if (left > capacity)
        left = capacity;
    memcpy(buffer, (char *)snapshot + offset, left);
    EXPECT(ISIS_EINCALLBACK, isis_poll(isis, 0));
    return (int64_t)left;
}

static void state_done(void *user, void *snapshot)
{
    (void)user;
    snapshots--;
    free(snapshot);
}

static uint64_t state_came;

static void state_block(void *user, uint64_t offset, const void *data, uint64_t len, uint32_t last)
{
    size_t index;
    (void)user;
    if (offset == 0)
        state_came = 0;
    CHECK_EQ(offset, state_came);
    CHECK(offset + len <= sizeof state);
    memcpy((char *)&state + offset, data, len);
    state_came += len;
    if (last) {
        CHECK_EQ(state_came, sizeof state);
        for (index = 0; index < PADDING; index++)
            CHECK_EQ(state.padding[index], (uint8_t)(index * 7));
    }
}

/* One command of the parent's. */
static void obey(char letter)
{
    unsigned number, more;
    uint64_t end = now_ns() + patience();

    switch (letter) {
    case 's': /* send */
        for (number = 0; number < each * 4; number++) {
            static const uint32_t kinds[] = {ISIS_FIFO, ISIS_CAUSAL, ISIS_TOTAL, ISIS_TOTAL | ISIS_SAFE};
            uint32_t kind = kinds[number % 4];
            uint32_t question = kind == ISIS_CAUSAL && number % 40 == 1;
            while (multicast(kind, question ? ENTRY_QUESTION : ENTRY_PLAIN, 0) == ISIS_EAGAIN) {
                if (OK(isis_poll(isis, 64)) == 0)
                    breathe();
                pay_answers();
                CHECK(now_ns() < end);
            }
            if (number % 16 == 0)
                OK(isis_poll(isis, 16));
        }
        OK(isis_flush_wait(group, patience()));
        say("sent %u", sent);
        break;
    case 'p': /* one ABCAST a poll, until a newcomer is in, and a few more */
        for (number = 0, more = 200; more > 0; OK(isis_poll(isis, 0))) {
            if (multicast(ISIS_TOTAL, ENTRY_PLAIN, 0) == ISIS_OK) {
                if (++number == 1) {
                    OK(isis_flush_wait(group, patience()));
                    say("pacing");
                }
                more -= view_members == 3;
            } else
                breathe();
            CHECK(now_ns() < end);
        }
        OK(isis_flush_wait(group, patience()));
        say("paced %u", number);
        break;
    case 'd': /* digest */
        say("digest %llu %llu %llu %llu", (unsigned long long)state.totals, (unsigned long long)state.digest,
            (unsigned long long)plain_came, (unsigned long long)answers_came);
        break;
    case 'l': /* leave */
        OK(isis_group_leave_wait(group, patience()));
        say("left");
        break;
    case 0:
    case 'q':
        break;
    default:
        failed(__FILE__, __LINE__, "command %c", letter);
    }
}

static void member(unsigned my_number, int commands)
{
    isis_options_t options;
    isis_join_options_t join;
    int newcomer = my_number == 3;
    char letter = 0;
    size_t index;

    my_index = my_number;
    state.digest = 1;
    for (index = 0; index < MEMBERS; index++)
        state.next[index] = 1;
    for (index = 0; index < PADDING; index++)
        state.padding[index] = newcomer ? 0 : (uint8_t)(index * 7);
    test_options(&options, mode);
    OK(isis_open(&options, &isis));
    OK(isis_on_event(isis, on_event, NULL));
    OK(isis_entry(isis, ISIS_ENTRY_OTHER, on_message, NULL));
    OK(isis_join_options_init(&join));
    join.ordering = newcomer ? ISIS_ORDERING_SEQUENCER : ordering;
    join.user = &state;
    join.state_capture = state_capture;
    join.state_next = state_next;
    join.state_done = state_done;
    join.state_block = state_block;
    OK(isis_group_join(isis, "members", &join, &group));
    while (letter != 'q') {
        letter = wait_for_work(isis, commands, owed ? 1 : 1000);
        pay_answers();
        obey(letter);
    }
    OK(isis_close_wait(isis, patience()));
    CHECK_EQ(snapshots, 0);
    say("closed");
}

/* --- the parent ------------------------------------------------------------------------------------------------------- */

#define MAX_KEPT 100

/* The lines of each member that came before the one that was expected. */
static struct {
    unsigned count;
    char lines[MAX_KEPT + 1][MAX_LINE];
} kept[MEMBERS];

/* Gives the rest of the next line that begins with `word`; keeps the others for later. */
static const char *find(unsigned index, const char *word)
{
    static char rest[MAX_LINE];
    unsigned line;

    for (line = 0;; line++) {
        if (line == kept[index].count) {
            CHECK(line < MAX_KEPT);
            read_line(index, word, kept[index].lines[line]);
            kept[index].count++;
        }
        if (strncmp(kept[index].lines[line], word, strlen(word)) == 0) {
            strcpy(rest, kept[index].lines[line] + strlen(word));
            kept[index].count--;
            memmove(kept[index].lines[line], kept[index].lines[line + 1], (kept[index].count - line) * MAX_LINE);
            return rest;
        }
    }
}

/* Waits until a member has a view of this size; gives its number. */
static unsigned long long view_of(unsigned index, unsigned size, unsigned *gone, unsigned *failures)
{
    unsigned long long number;
    unsigned members;
    do
        CHECK_EQ(sscanf(find(index, "view "), "%llu %u %u %u", &number, &members, gone, failures), 4);
    while (members != size);
    return number;
}

struct digest {
    unsigned long long totals, digest, plain, answers;
};

static struct digest digest_of(unsigned index)
{
    struct digest digest;
    command(index, 'd');
    CHECK_EQ(sscanf(find(index, "digest "), "%llu %llu %llu %llu", &digest.totals, &digest.digest, &digest.plain,
                    &digest.answers),
             4);
    return digest;
}

/* Waits until a member has had this many ABCASTs and answers. */
static struct digest settle(unsigned index, unsigned long long totals, unsigned long long answers)
{
    uint64_t end = now_ns() + 3 * patience();
    struct digest digest = digest_of(index);
    while (digest.totals < totals || digest.answers < answers) {
        struct timespec pause = {0, 5000000};
        if (now_ns() > end)
            failed(__FILE__, __LINE__, "member %u has %llu ABCASTs of %llu, %llu answers of %llu", index,
                   digest.totals, totals, digest.answers, answers);
        nanosleep(&pause, NULL);
        digest = digest_of(index);
    }
    return digest;
}

int main(int argc, char **argv)
{
    unsigned questions; /* numbers 1, 41, 81 and so on */
    unsigned index, gone, failures;
    unsigned long long number, first, totals, at_join, paced;
    struct digest one, other;
    uint64_t killed;

    mode = argc > 1 ? argv[1] : "threaded";
    each = argc > 2 ? (unsigned)atoi(argv[2]) : 500;
    questions = (each * 4 + 38) / 40;
    begin(argc > 1 ? argv[1] : "members", 120);
    if (argc > 3 && strcmp(argv[3], "priority") == 0)
        ordering = ISIS_ORDERING_PRIORITY;
    for (index = 0; index < 3; index++)
        start_child(index, 120, member);
    first = view_of(0, 3, &gone, &failures);
    for (index = 1; index < 3; index++)
        CHECK_EQ(view_of(index, 3, &gone, &failures), first);

    /* All send; all get the same. */
    for (index = 0; index < 3; index++)
        command(index, 's');
    for (index = 0; index < 3; index++)
        find(index, "sent ");
    totals = 3ull * each * 2;
    one = settle(0, totals, 9ull * questions);
    CHECK_EQ(one.totals, totals);
    CHECK_EQ(one.answers, 9ull * questions);
    for (index = 1; index < 3; index++) {
        other = settle(index, totals, 9ull * questions);
        CHECK_EQ(other.totals, one.totals);
        CHECK(other.digest == one.digest);
        CHECK_EQ(other.plain, one.plain);
        CHECK_EQ(other.answers, one.answers);
    }

    /* One is killed while all send; the survivors agree on what it said. */
    for (index = 0; index < 3; index++)
        command(index, 's');
    killed = now_ns();
    kill_child(1);
    number = view_of(0, 2, &gone, &failures);
    printf("%s: view without the killed member after %.1f ms\n", test_name, (double)(now_ns() - killed) / 1e6);
    CHECK(number > first);
    CHECK_EQ(gone, 1);
    CHECK_EQ(failures, 1);
    CHECK_EQ(view_of(2, 2, &gone, &failures), number);
    CHECK_EQ(gone, 1);
    CHECK_EQ(failures, 1);
    find(0, "sent ");
    find(2, "sent ");
    totals += 2ull * each * 2;
    one = settle(0, totals, 0);
    other = settle(2, totals, 0);
    /* The survivors' own are all there; let the answers settle, then compare. */
    for (index = 0; index < 100 && (one.totals != other.totals || one.answers != other.answers); index++) {
        one = digest_of(0);
        other = digest_of(2);
    }
    CHECK_EQ(one.totals, other.totals);
    CHECK(one.digest == other.digest);
    CHECK_EQ(one.plain, other.plain);

    /* A newcomer receives the state while another one sends, and takes part. */
    command(0, 'p');
    find(0, "pacing");
    start_child(3, 120, member);
    CHECK_EQ(sscanf(find(3, "joined "), "%llu", &at_join), 1);
    CHECK(at_join > one.totals); /* it came into the midst of it */
    first = view_of(0, 3, &gone, &failures);
    CHECK_EQ(gone, 0);
    CHECK_EQ(view_of(2, 3, &gone, &failures), first);
    CHECK_EQ(view_of(3, 3, &gone, &failures), first);
    CHECK_EQ(sscanf(find(0, "paced "), "%llu", &paced), 1);
    CHECK(at_join < one.totals + paced);
    printf("%s: the newcomer's state had %llu of %llu ABCASTs\n", test_name, at_join - one.totals, paced);
    command(3, 's');
    find(3, "sent ");
    totals = one.totals + paced + 2ull * each;
    for (index = 0; index < 4; index++) {
        if (index == 1)
            continue;
        other = settle(index, totals, 0);
        CHECK_EQ(other.totals, totals);
        if (index == 0)
            one = other;
        CHECK(other.digest == one.digest);
    }

    /* One leaves in order, the others see it as left; then all go. */
    command(2, 'l');
    find(2, "left");
    number = view_of(0, 2, &gone, &failures);
    CHECK_EQ(gone, 1);
    CHECK_EQ(failures, 0);
    CHECK_EQ(view_of(3, 2, &gone, &failures), number);
    quit(2);
    quit(0);
    CHECK(view_of(3, 1, &gone, &failures) > number);
    CHECK_EQ(failures, 0);
    quit(3);
    return done();
}
