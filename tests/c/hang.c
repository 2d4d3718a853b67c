/*
 * A process of the host that hangs without dying (SIGSTOP) holds up a view change: the newcomer's. Argument 2 says what is
 * tried:
 *  - wait: the other member waits, is told for whom, and goes on when the hung one is continued; the next time it hangs
 *    it is killed from outside, and the view without it comes;
 *  - kill: with hang=kill, and the hung one's consent (allow_kill), the other member kills it, and the view comes;
 *  - refused: with hang=kill, but without the consent, it is asked for and nobody is killed.
 * The parent never opens the library: it starts the members, sends them commands of one letter, and reads their lines.
 * Argument 1: the mode.
 */
#include "check.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#define MEMBERS 4

/* --- a member --------------------------------------------------------------------------------------------------------- */

static isis_t *isis;
static uint32_t processes; /* in the system */

static void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

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

static void member(const char *mode, const char *hang, int consents, int commands)
{
    isis_options_t options;
    isis_group_t *group;
    struct pollfd descriptors[2];
    uint64_t kills, refused;
    char command = 0;

    test_options(&options, mode);
    OK(isis_options_set(&options, "hang", hang));
    OK(isis_options_set(&options, "hang_timeout_ns", "300ms"));
    OK(isis_options_set(&options, "allow_kill", consents ? "on" : "off"));
    OK(isis_open(&options, &isis));
    OK(isis_on_event(isis, on_event, NULL));
    OK(isis_group_join(isis, "hang", NULL, &group));
    descriptors[0].fd = OK(isis_fd(isis));
    descriptors[1].fd = commands;
    descriptors[0].events = descriptors[1].events = POLLIN;
    while (command != 'q') {
        OK(isis_poll(isis, 0));
        if (OK(isis_wait_prepare(isis)) > 0)
            continue;
        CHECK(poll(descriptors, 2, 1000) >= 0 || errno == EINTR);
        if (!descriptors[1].revents)
            continue;
        CHECK_EQ(read(commands, &command, 1), 1);
        if (command == 's') /* how things stand */ {
            OK(isis_stats_value(isis, "site_kills", &kills));
            OK(isis_stats_value(isis, "site_kills_refused", &refused));
            say("state %u %llu %llu", processes, (unsigned long long)kills, (unsigned long long)refused);
        }
    }
    OK(isis_close_wait(isis, patience()));
    say("closed");
    exit(0);
}

/* --- the parent ------------------------------------------------------------------------------------------------------- */

static struct {
    pid_t process;
    int to;
    FILE *from;
} children[MEMBERS];

static void start(unsigned index, const char *mode, const char *hang, int consents)
{
    int down[2], up[2];
    unsigned other;

    CHECK(pipe(down) == 0 && pipe(up) == 0);
    fflush(stdout);
    children[index].process = fork();
    CHECK(children[index].process >= 0);
    if (children[index].process == 0) {
        for (other = 0; other < index; other++)
            close(children[other].to);
        close(down[1]);
        close(up[0]);
        dup2(up[1], STDOUT_FILENO);
        close(up[1]);
        alarm(60 * slowness());
        member(mode, hang, consents, down[0]);
    }
    close(down[0]);
    close(up[1]);
    children[index].to = down[1];
    children[index].from = fdopen(up[0], "r");
    CHECK(children[index].from != NULL);
}

/* Skips lines up to the next that begins with `word`; gives its rest. */
static const char *expect(unsigned index, const char *word)
{
    static char line[200];

    while (fgets(line, sizeof line, children[index].from)) {
        line[strcspn(line, "\n")] = 0;
        if (getenv("ISIS_TEST_TRACE"))
            fprintf(stderr, "waiting for \"%s\", member %u: %s\n", word, index, line);
        if (strncmp(line, word, strlen(word)) == 0)
            return line + strlen(word);
    }
    failed(__FILE__, __LINE__, "member %u ended before it said \"%s\"", index, word);
    return NULL;
}

static void command(unsigned index, char letter)
{
    CHECK_EQ(write(children[index].to, &letter, 1), 1);
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

static void ends_by_kill(unsigned index)
{
    int status;
    CHECK_EQ(waitpid(children[index].process, &status, 0), children[index].process);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void quit(unsigned index)
{
    int status;
    command(index, 'q');
    expect(index, "closed");
    CHECK_EQ(waitpid(children[index].process, &status, 0), children[index].process);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int count, char **arguments)
{
    const char *mode = count > 1 ? arguments[1] : "threaded";
    const char *trial = count > 2 ? arguments[2] : "wait";
    const char *hang = strcmp(trial, "wait") == 0 ? "wait" : "kill";
    char id[100];
    uint64_t end;

    begin("hang", 60);
    signal(SIGPIPE, SIG_IGN);
    start(0, mode, hang, 0);
    expect(0, "view 1");
    start(1, mode, hang, strcmp(trial, "kill") == 0);
    snprintf(id, sizeof id, "slow %s", expect(1, "me "));
    expect(1, "view 2");
    expect(0, "view 2");
    stop(1);
    start(2, mode, hang, 0);
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
        start(3, mode, hang, 0);
        expect(0, id);
        CHECK(kill(children[1].process, SIGKILL) == 0);
        ends_by_kill(1);
        expect(3, "view 3");
        expect(0, "view 3");
        CHECK_EQ(standing(0).kills, 0);
        quit(3);
    }
    quit(2);
    quit(0);
    return done();
}
