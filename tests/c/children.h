/*
 * A test of several processes: the parent, which never opens the library, starts children, sends each commands of one letter
 * through a pipe, and reads lines of what they saw through another. ISIS_TEST_TRACE=1 prints these lines.
 */
#ifndef CHILDREN_H
#define CHILDREN_H

#include "check.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#define MAX_CHILDREN 8
#define MAX_LINE 200

static struct {
    pid_t process;
    int to;
    FILE *from;
} children[MAX_CHILDREN];

/* --- in a child ------------------------------------------------------------------------------------------------------- */

/* Says a line to the parent. */
static inline void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

/* No test of this kind is to be evicted, or to have a call refused that was accepted. */
static inline void fail_if_bad(const isis_event_t *event)
{
    if (event->type == ISIS_EVENT_EVICTED || event->type == ISIS_EVENT_POISONED || event->type == ISIS_EVENT_REFUSED)
        failed(__FILE__, __LINE__, "event %u, reason %d", event->type, event->reason);
}

/*
 * One turn of a child's loop: polls, then sleeps until there is something to poll, or a command, or milliseconds have
 * passed. Gives the command; 0: there is none.
 */
static inline char wait_for_work(isis_t *isis, int commands, int milliseconds)
{
    struct pollfd descriptors[2];
    char command = 0;

    OK(isis_poll(isis, 0));
    if (OK(isis_wait_prepare(isis)) > 0)
        return 0;
    descriptors[0].fd = OK(isis_fd(isis));
    descriptors[1].fd = commands;
    descriptors[0].events = descriptors[1].events = POLLIN;
    descriptors[0].revents = descriptors[1].revents = 0;
    CHECK(poll(descriptors, 2, milliseconds) >= 0 || errno == EINTR);
    if (descriptors[1].revents && read(commands, &command, 1) == 0)
        command = 'q'; /* the parent closed its end */
    return command;
}

/* --- in the parent ---------------------------------------------------------------------------------------------------- */

/* Starts a child, which runs `role` with the descriptor that its commands come from, and lives so many seconds at most. */
static inline void start_child(unsigned index, unsigned seconds, void (*role)(unsigned index, int commands))
{
    int down[2], up[2];
    unsigned other;

    CHECK(index < MAX_CHILDREN);
    signal(SIGPIPE, SIG_IGN);
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
        alarm(seconds * slowness());
        role(index, down[0]);
        exit(0);
    }
    close(down[0]);
    close(up[1]);
    children[index].to = down[1];
    children[index].from = fdopen(up[0], "r");
    CHECK(children[index].from != NULL);
}

/* Reads the next line of MAX_LINE bytes at most, for `word`; fails where the child has ended. */
static inline void read_line(unsigned index, const char *word, char *line)
{
    if (!fgets(line, MAX_LINE, children[index].from))
        failed(__FILE__, __LINE__, "process %u ended before it said \"%s\"", index, word);
    line[strcspn(line, "\n")] = 0;
    if (getenv("ISIS_TEST_TRACE"))
        fprintf(stderr, "waiting for \"%s\", process %u: %s\n", word, index, line);
}

/* Skips lines up to the next that begins with `word`; gives its rest. */
static inline const char *expect(unsigned index, const char *word)
{
    static char line[MAX_LINE];

    do
        read_line(index, word, line);
    while (strncmp(line, word, strlen(word)) != 0);
    return line + strlen(word);
}

static inline void command(unsigned index, char letter)
{
    CHECK_EQ(write(children[index].to, &letter, 1), 1);
}

/* It ends, or has ended, by SIGKILL. */
static inline void ends_by_kill(unsigned index)
{
    int status;
    CHECK_EQ(waitpid(children[index].process, &status, 0), children[index].process);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static inline void kill_child(unsigned index)
{
    CHECK(kill(children[index].process, SIGKILL) == 0);
    ends_by_kill(index);
}

/* Asks it to close, and sees that it ends well. */
static inline void quit(unsigned index)
{
    int status;
    command(index, 'q');
    expect(index, "closed");
    CHECK_EQ(waitpid(children[index].process, &status, 0), children[index].process);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#endif
