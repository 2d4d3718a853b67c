/*
 * A process of the host that hangs without dying (SIGSTOP) holds up a view change: the newcomer's. Argument 2 says what is
 * tried:
 *  - wait: the other member waits, is told for whom, and goes on when the hung one is continued; the next time it hangs
 *    it is killed from outside, and the view without it comes;
 *  - kill: with hang=kill, and the hung one's consent (allow_kill), the other member kills it, and the view comes;
 *  - refused: with hang=kill, but without the consent, it is asked for and nobody is killed.
 * Argument 1: the mode.
 */
#include "children.h"

/* --- a member --------------------------------------------------------------------------------------------------------- */

static isis_t *isis;
static uint32_t processes; /* in the system */
static const char *mode, *hang;
static int consents; /* the next member that is started, to be killed */

static void on_event(void *user, const isis_event_t *event)
{
    isis_group_t *system_group;

    (void)user;
    switch (event->type) {
    case ISIS_EVENT_SYSTEM_JOINED:
        say("me %llu", (unsigned long long)event->process);
        break;
    case ISIS_EVENT_SYSTEM_VIEW:
        processes = event->members;
        break;
    case ISIS_EVENT_VIEW:
        CHECK_EQ(isis_event_reason(event), 0);
        say("view %u", event->members);
        break;
    case ISIS_EVENT_SLOW:
        OK(isis_system_group(isis, &system_group));
        CHECK_EQ(OK(isis_event_reason(event)), event->reason);
        CHECK_EQ(event->reason, ISIS_SLOW_VIEW_CHANGE);
        if (event->group == system_group)
            say("slow %llu", (unsigned long long)event->process);
        break;
    case ISIS_EVENT_EVICTED:
    case ISIS_EVENT_POISONED:
        failed(__FILE__, __LINE__, "event %u", event->type);
        break;
    default:
        break;
    }
}

static void member(unsigned index, int commands)
{
    isis_options_t options;
    isis_group_t *group;
    uint64_t kills, refused;
    char command = 0;

    (void)index;
    test_options(&options, mode);
    OK(isis_options_set(&options, "hang", hang));
    OK(isis_options_set(&options, "hang_timeout_ns", "300ms"));
    OK(isis_options_set(&options, "allow_kill", consents ? "on" : "off"));
    OK(isis_open(&options, &isis));
    OK(isis_on_event(isis, on_event, NULL));
    OK(isis_group_join(isis, "hang", NULL, &group));
    while (command != 'q') {
        command = wait_for_work(isis, commands, 1000);
        if (command == 's') /* how things stand */ {
            OK(isis_stats_value(isis, "site_kills", &kills));
            OK(isis_stats_value(isis, "site_kills_refused", &refused));
            say("state %u %llu %llu", processes, (unsigned long long)kills, (unsigned long long)refused);
        }
    }
    OK(isis_close_wait(isis, patience()));
    say("closed");
}

/* --- the parent ------------------------------------------------------------------------------------------------------- */

static void start(unsigned index, int with_consent)
{
    consents = with_consent;
    start_child(index, 60, member);
}

struct standing {
    unsigned processes;
    unsigned long long kills, refused;
};

static struct standing standing(unsigned index)
{
    struct standing now;
    command(index, 's');
    CHECK_EQ(sscanf(expect(index, "state "), "%u %llu %llu", &now.processes, &now.kills, &now.refused), 3);
    return now;
}

static void stop(unsigned index)
{
    int status;
    CHECK(kill(children[index].process, SIGSTOP) == 0);
    CHECK_EQ(waitpid(children[index].process, &status, WUNTRACED), children[index].process);
    CHECK(WIFSTOPPED(status));
}

/* It has not ended: neither dead nor a zombie. */
static void is_there(unsigned index)
{
    int status;
    CHECK_EQ(waitpid(children[index].process, &status, WNOHANG), 0);
}

int main(int count, char **arguments)
{
    const char *trial = count > 2 ? arguments[2] : "wait";
    char id[100];
    uint64_t end;

    mode = count > 1 ? arguments[1] : "threaded";
    hang = strcmp(trial, "wait") == 0 ? "wait" : "kill";
    begin("hang", 60);
    start(0, 0);
    expect(0, "view 1");
    start(1, strcmp(trial, "kill") == 0);
    snprintf(id, sizeof id, "slow %s", expect(1, "me "));
    expect(1, "view 2");
    expect(0, "view 2");
    stop(1);
    start(2, 0);
    expect(0, id);
    if (strcmp(trial, "kill") == 0) {
        ends_by_kill(1);
        expect(0, "view 2"); /* with the newcomer, or first "view 1" without the dead one */
        expect(2, "view 2");
        CHECK_EQ(standing(0).kills, 1);
    } else {
        if (strcmp(trial, "refused") == 0)
            for (end = now_ns() + patience(); standing(0).refused == 0; breathe())
                CHECK(now_ns() < end);
        is_there(1);
        CHECK_EQ(standing(0).kills, 0);
        CHECK_EQ(standing(0).processes, 2); /* the change waits */
        CHECK(kill(children[1].process, SIGCONT) == 0);
        expect(0, "view 3");
        expect(1, "view 3");
        expect(2, "view 3");
        stop(1);
        start(3, 0);
        expect(0, id);
        kill_child(1);
        expect(3, "view 3");
        expect(0, "view 3");
        CHECK_EQ(standing(0).kills, 0);
        quit(3);
    }
    quit(2);
    quit(0);
    return done();
}
