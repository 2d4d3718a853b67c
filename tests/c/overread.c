/* Hands over a buffer that is shorter than it says: to be caught by a sanitizer or valgrind, or else they watch nothing. */
#include "check.h"

int main(void)
{
    isis_options_t options;
    isis_t *isis;
    isis_group_t *group;
    char *data = malloc(10);

    begin("overread", 60);
    CHECK(data != NULL);
    memset(data, 'x', 10);
    test_options(&options, "inline");
    OK(isis_open_wait(&options, patience(), &isis));
    OK(isis_group_join_wait(isis, "overread", NULL, patience(), &group));
    isis_multicast(group, ISIS_FIFO, 1, data, 100);
    OK(isis_close_wait(isis, patience()));
    free(data);
    return done();
}
