/* Joins the group "hello", greets it, prints each view and each greeting, and leaves after a few seconds. */
#include <isis.h>
#include <stdio.h>
#include <time.h>

static void on_event(void *user, const isis_event_t *event)
{
    (void)user;
    if (event->type == ISIS_EVENT_VIEW)
        printf("view %llu: %u members, %u new, %u gone; my rank is %u\n", (unsigned long long)event->view,
               event->members, event->joined, event->departed, event->rank);
}

static void on_greeting(void *user, const isis_message_t *message)
{
    (void)user;
    printf("%.*s, says member %u\n", (int)message->len, (const char *)message->data, message->rank);
}

int main(void)
{
    const uint64_t second = 1000000000;
    isis_t *isis;
    isis_group_t *group;
    if (isis_open(NULL, &isis) < 0 || isis_on_event(isis, on_event, NULL) < 0
        || isis_entry(isis, 1, on_greeting, NULL) < 0
        || isis_group_join_wait(isis, "hello", NULL, 5 * second, &group) < 0
        || isis_multicast(group, ISIS_TOTAL, 1, "hello", 5) < 0) {
        fprintf(stderr, "%s\n", isis_last_error());
        return 1;
    }
    for (time_t end = time(NULL) + 3; time(NULL) < end;) {
        isis_poll(isis, 0);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    return isis_close_wait(isis, 5 * second) < 0;
}
