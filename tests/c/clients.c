/*
 * A client of a group, who is no member, multicasts into it while all members die that may be its relay, one after the
 * other, and newcomers take their places. What is checked:
 *  - each member delivers the client's messages numbered 1, 2, 3 without gap or repetition, in its order across kinds;
 *  - each multicast is completed once, in order, and what is completed is with all members in the end;
 *  - a member's reply and its message to the client arrive;
 *  - views name the client; when it is killed the members get a view without it;
 *  - when the last member is killed the client is told that the group has ended, and may found it anew.
 * Argument: the mode.
 */
#include "children.h"

#define ROUND 100 /* completed multicasts after which the client says so */
#define AHEAD 64  /* multicasts that are not completed, at most */
enum { ENTRY_WORD = 1, ENTRY_QUESTION = 2, ENTRY_NEWS = 3 };

static isis_t *isis;
static isis_group_t *group;
static const char *mode;

/* --- a member --------------------------------------------------------------------------------------------------------- */

static uint64_t heard_client; /* whose number is: */
static uint32_t heard;

static void on_word(void *user, const isis_message_t *message)
{
    uint32_t number;

    (void)user;
    CHECK_EQ(message->len, sizeof number);
    CHECK_EQ(message->rank, 65535);
    memcpy(&number, message->data, sizeof number);
    if (message->sender != heard_client) {
        heard_client = message->sender;
        heard = number - 1; /* a newcomer hears what comes in its views */
    }
    if (number != heard + 1)
        failed(__FILE__, __LINE__, "message %u of the client came when %u was due", number, heard + 1);
    heard = number;
    CHECK_EQ(message->kind, number % 3 == 0 ? ISIS_FIFO : number % 3 == 1 ? ISIS_CAUSAL : ISIS_TOTAL);
    CHECK_EQ(message->safe, number % 5 == 0);
    if (message->entry == ENTRY_QUESTION && OK(isis_view_rank(group)) == 0) {
        OK(isis_reply(message, &number, sizeof number));
        OK(isis_send(group, message->sender, ENTRY_NEWS, &number, sizeof number));
    }
}

static void on_event(void *user, const isis_event_t *event)
{
    uint64_t process;
    int32_t clients, index;

    (void)user;
    switch (event->type) {
    case ISIS_EVENT_VIEW:
        clients = OK(isis_view_client_count(event->group));
        for (index = 0; index < clients; index++) {
            OK(isis_view_client(event->group, (uint32_t)index, &process));
            CHECK(process != 0);
        }
        say("view %u %d", event->members, clients);
        break;
    default:
        fail_if_bad(event);
        break;
    }
}

static void open_instance(isis_event_fn callback)
{
    isis_options_t options;

    test_options(&options, mode);
    OK(isis_open(&options, &isis));
    OK(isis_on_event(isis, callback, NULL));
}

static void member(unsigned index, int commands)
{
    char command = 0;

    (void)index;
    open_instance(on_event);
    OK(isis_entry(isis, ENTRY_WORD, on_word, NULL));
    OK(isis_entry(isis, ENTRY_QUESTION, on_word, NULL));
    OK(isis_group_join(isis, "desk", NULL, &group));
    while (command != 'q') {
        command = wait_for_work(isis, commands, 100);
        if (command == 'r')
            say("heard %u", heard);
    }
    OK(isis_close_wait(isis, patience()));
    say("closed");
}

/* --- the client ------------------------------------------------------------------------------------------------------- */

static uint32_t sent, completed, replies, news, registered, ended;
static uint64_t tickets[AHEAD], question;

static void on_client_event(void *user, const isis_event_t *event)
{
    (void)user;
    switch (event->type) {
    case ISIS_EVENT_JOINED:
        CHECK_EQ(event->members, 0);
        registered++;
        say("registered");
        break;
    case ISIS_EVENT_COMPLETED:
        CHECK(completed < sent);
        CHECK(event->number == tickets[completed % AHEAD]);
        completed++;
        if (completed % ROUND == 0)
            say("round");
        break;
    case ISIS_EVENT_GROUP_ENDED:
        CHECK(event->group == group);
        ended++;
        say("ended");
        break;
    case ISIS_EVENT_VIEW:
        failed(__FILE__, __LINE__, "a client is told of a view");
        break;
    default:
        fail_if_bad(event);
        break;
    }
}

static void on_reply(void *user, const isis_message_t *message)
{
    (void)user;
    CHECK_EQ(message->kind, ISIS_REPLY);
    if (question && message->ticket == question)
        replies++;
}

static void on_news(void *user, const isis_message_t *message)
{
    uint32_t number;

    (void)user;
    CHECK_EQ(message->kind, ISIS_UNICAST);
    CHECK_EQ(message->rank, 65535);
    CHECK_EQ(message->len, sizeof number);
    memcpy(&number, message->data, sizeof number);
    if (number == sent)
        news++;
}

/* Multicasts the next number. */
static int32_t multicast(uint32_t entry)
{
    uint32_t number = sent + 1;
    uint32_t kind = number % 3 == 0 ? ISIS_FIFO : number % 3 == 1 ? ISIS_CAUSAL : ISIS_TOTAL;
    int32_t status = isis_multicast(group, kind | (number % 5 == 0 ? ISIS_SAFE : 0), entry, &number, sizeof number);

    if (status == ISIS_OK) {
        OK(isis_last_sent(group, &tickets[sent % AHEAD]));
        CHECK(tickets[sent % AHEAD] != 0);
        sent = number;
    } else if (status != ISIS_EAGAIN)
        OK(status);
    return status;
}

static void client(unsigned index, int commands)
{
    isis_join_options_t join;
    isis_claim_t claim;
    uint64_t view, end;
    int sending = 0;
    char command = 0;

    (void)index;
    open_instance(on_client_event);
    OK(isis_entry(isis, ISIS_ENTRY_REPLY, on_reply, NULL));
    OK(isis_entry(isis, ENTRY_NEWS, on_news, NULL));
    OK(isis_join_options_init(&join));
    join.role = ISIS_ROLE_CLIENT;
    OK(isis_group_join_wait(isis, "desk", &join, 3 * patience(), &group));
    CHECK_EQ(registered, 1);
    EXPECT(ISIS_EKIND, isis_multicast(group, ISIS_GLOBAL, ENTRY_WORD, NULL, 0));
    EXPECT(ISIS_ENOTMEMBER, isis_claim(group, 8, &claim));
    EXPECT(ISIS_ENOVIEW, isis_view_number(group, &view));
    while (!ended) {
        command = wait_for_work(isis, commands, 100);
        if (command == 's') /* sends from now on */
            sending = 1;
        while (sending && sent - completed < AHEAD && multicast(ENTRY_WORD) == ISIS_OK) {
        }
        if (command == 'h') /* halts, asks, and says how many there were */ {
            sending = 0;
            OK(isis_flush_wait(group, 3 * patience()));
            CHECK_EQ(completed, sent);
            for (end = now_ns() + patience(); multicast(ENTRY_QUESTION) != ISIS_OK; breathe())
                CHECK(now_ns() < end);
            OK(isis_last_sent(group, &question));
            for (end = now_ns() + patience(); !replies || !news || completed < sent; breathe()) {
                OK(isis_poll(isis, 0));
                CHECK(now_ns() < end);
            }
            say("total %u", sent);
        }
        if (command == 'l') /* leaves, and comes back */ {
            OK(isis_group_leave_wait(group, patience()));
            OK(isis_group_join_wait(isis, "desk", &join, patience(), &group));
            CHECK_EQ(registered, 2);
            say("back");
        }
    }
    EXPECT(ISIS_EHANDLE, isis_multicast(group, ISIS_FIFO, ENTRY_WORD, NULL, 0));
    OK(isis_on_event(isis, on_event, NULL));
    OK(isis_group_join_wait(isis, "desk", NULL, patience(), &group));
    while (command != 'q')
        command = wait_for_work(isis, commands, 100);
    OK(isis_close_wait(isis, patience()));
    say("closed");
}

/* --- the parent ------------------------------------------------------------------------------------------------------- */

static void rounds(unsigned index, unsigned count)
{
    while (count--)
        expect(index, "round");
}

int main(int count, char **arguments)
{
    unsigned total, index, heard_there;
    uint64_t end;

    mode = count > 1 ? arguments[1] : "threaded";
    begin("clients", 120);
    start_child(0, 120, member);
    expect(0, "view 1 0");
    start_child(1, 120, member);
    start_child(2, 120, member);
    expect(0, "view 3");
    start_child(3, 120, client);
    expect(3, "registered");
    command(3, 's');
    rounds(3, 2);
    kill_child(0);
    expect(2, "view 2 1"); /* without the dead one, with the client */
    rounds(3, 2);
    kill_child(1);
    expect(2, "view 1 1");
    rounds(3, 2);
    start_child(4, 120, member);
    start_child(5, 120, member);
    expect(4, "view 3 1");
    rounds(3, 2);
    kill_child(2); /* whoever the first relay was, it is dead now */
    expect(4, "view 2 1");
    rounds(3, 2);
    command(3, 'h');
    CHECK_EQ(sscanf(expect(3, "total "), "%u", &total), 1);
    CHECK(total >= 10 * ROUND);
    for (index = 4; index <= 5; index++)
        for (end = now_ns() + patience(), heard_there = 0; heard_there != total; breathe()) {
            command(index, 'r');
            CHECK_EQ(sscanf(expect(index, "heard "), "%u", &heard_there), 1);
            CHECK(now_ns() < end);
        }
    command(3, 'l');
    expect(3, "back");
    kill_child(3);
    expect(4, "view 2 0"); /* the same members, and no client */
    start_child(6, 120, client);
    expect(6, "registered");
    kill_child(4);
    kill_child(5);
    expect(6, "ended");
    expect(6, "view 1 0"); /* the group that it founds */
    quit(6);
    return done();
}
