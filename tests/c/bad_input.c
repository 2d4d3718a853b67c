/*
 * Every entry point with NULL, closed, foreign and wrong-kind handles, NULL and misaligned outputs, bad sizes, texts and
 * numbers: always a status, never a crash. The driver checks that every function of isis.h occurs in this file.
 */
#include "check.h"

#include <errno.h>

/* All calls that take an isis_t. */
static void bad_instance(isis_t *isis)
{
    isis_group_t *group;
    isis_stat_t stats[2];
    uint64_t number;

    EXPECT(ISIS_EHANDLE, isis_close(isis));
    EXPECT(ISIS_EHANDLE, isis_close_wait(isis, 0));
    EXPECT(ISIS_EHANDLE, isis_process(isis, &number));
    EXPECT(ISIS_EHANDLE, isis_system_group(isis, &group));
    EXPECT(ISIS_EHANDLE, isis_group_join(isis, "name", NULL, &group));
    CHECK(group == NULL);
    EXPECT(ISIS_EHANDLE, isis_group_join_wait(isis, "name", NULL, 0, &group));
    CHECK(group == NULL);
    EXPECT(ISIS_EHANDLE, isis_entry(isis, 0, NULL, NULL));
    EXPECT(ISIS_EHANDLE, isis_entry_batch(isis, 0, NULL, NULL));
    EXPECT(ISIS_EHANDLE, isis_on_event(isis, NULL, NULL));
    EXPECT(ISIS_EHANDLE, isis_poll(isis, 0));
    EXPECT(ISIS_EHANDLE, isis_run(isis));
    EXPECT(ISIS_EHANDLE, isis_stop(isis));
    EXPECT(ISIS_EHANDLE, isis_fd(isis));
    EXPECT(ISIS_EHANDLE, isis_wait_prepare(isis));
    EXPECT(ISIS_EHANDLE, isis_stats(isis, stats, 2));
    EXPECT(ISIS_EHANDLE, isis_stats_value(isis, "callbacks", &number));
}

/* All calls that take an isis_group_t. */
static void bad_group(isis_group_t *group)
{
    isis_claim_t claim;
    isis_sender_t *sender;
    uint64_t number;
    uint32_t reason;

    EXPECT(ISIS_EHANDLE, isis_group_leave(group));
    EXPECT(ISIS_EHANDLE, isis_group_leave_wait(group, 0));
    EXPECT(ISIS_EHANDLE, isis_view_number(group, &number));
    EXPECT(ISIS_EHANDLE, isis_view_size(group));
    EXPECT(ISIS_EHANDLE, isis_view_rank(group));
    EXPECT(ISIS_EHANDLE, isis_view_member(group, 0, &number));
    EXPECT(ISIS_EHANDLE, isis_view_has_state(group, 0));
    EXPECT(ISIS_EHANDLE, isis_view_joined_count(group));
    EXPECT(ISIS_EHANDLE, isis_view_joined(group, 0, &number));
    EXPECT(ISIS_EHANDLE, isis_view_departed_count(group));
    EXPECT(ISIS_EHANDLE, isis_view_departed(group, 0, &number, &reason));
    EXPECT(ISIS_EHANDLE, isis_view_client_count(group));
    EXPECT(ISIS_EHANDLE, isis_view_client(group, 0, &number));
    EXPECT(ISIS_EHANDLE, isis_multicast(group, ISIS_FIFO, 0, "x", 1));
    EXPECT(ISIS_EHANDLE, isis_multicast_groups(&group, 1, ISIS_TOTAL, 0, "x", 1));
    EXPECT(ISIS_EHANDLE, isis_send(group, 1, 0, "x", 1));
    EXPECT(ISIS_EHANDLE, isis_last_sent(group, &number));
    EXPECT(ISIS_EHANDLE, isis_flush(group, &number));
    EXPECT(ISIS_EHANDLE, isis_flush_wait(group, 0));
    EXPECT(ISIS_EHANDLE, isis_claim_max(group, &number));
    claim.token = 1;
    EXPECT(ISIS_EHANDLE, isis_claim(group, 8, &claim));
    CHECK(claim.token == 0 && claim.data == NULL && claim.len == 0);
    EXPECT(ISIS_EHANDLE, isis_sender_open(group, &sender));
    CHECK(sender == NULL);
}

/* All calls that take an isis_sender_t. */
static void bad_sender(isis_sender_t *sender)
{
    uint64_t ticket;

    EXPECT(ISIS_EHANDLE, isis_sender_send(sender, ISIS_FIFO, 0, "x", 1));
    EXPECT(ISIS_EHANDLE, isis_sender_last_sent(sender, &ticket));
    EXPECT(ISIS_EHANDLE, isis_sender_close(sender));
}

/* All calls that take an isis_message_t. */
static void bad_message(const isis_message_t *message)
{
    const isis_message_t *held = (const isis_message_t *)&held;
    const void *data;
    isis_slice_t slices[1];
    isis_group_t *group;
    uint64_t number, other;

    EXPECT(ISIS_EMESSAGE, isis_msg_data(message, &data));
    EXPECT(ISIS_EMESSAGE, isis_msg_len(message, &number));
    EXPECT(ISIS_EMESSAGE, isis_msg_slices(message, slices, 1));
    EXPECT(ISIS_EMESSAGE, isis_msg_sender(message, &number));
    EXPECT(ISIS_EMESSAGE, isis_msg_rank(message));
    EXPECT(ISIS_EMESSAGE, isis_msg_entry(message));
    EXPECT(ISIS_EMESSAGE, isis_msg_kind(message));
    EXPECT(ISIS_EMESSAGE, isis_msg_safe(message));
    EXPECT(ISIS_EMESSAGE, isis_msg_view(message, &number));
    EXPECT(ISIS_EMESSAGE, isis_msg_number(message, &number));
    EXPECT(ISIS_EMESSAGE, isis_msg_order(message, &number));
    EXPECT(ISIS_EMESSAGE, isis_msg_ticket(message, &number));
    EXPECT(ISIS_EMESSAGE, isis_msg_group(message, &group));
    EXPECT(ISIS_EMESSAGE, isis_msg_answers(message, &number, &other));
    EXPECT(ISIS_EMESSAGE, isis_msg_hold(message, &held));
    CHECK(held == NULL);
    EXPECT(ISIS_EMESSAGE, isis_reply(message, "x", 1));
    if (message != NULL)
        EXPECT(ISIS_EMESSAGE, isis_msg_release(message));
}

/* A bit pattern as a handle of any kind. */
static void bad_handle(uintptr_t bits)
{
    bad_instance((isis_t *)bits);
    bad_group((isis_group_t *)bits);
    bad_sender((isis_sender_t *)bits);
    bad_message((const isis_message_t *)bits);
}

static void bad_claims(void)
{
    isis_claim_t claim = {NULL, 0, 0};
    char room[sizeof claim + 8];
    uint64_t token;

    EXPECT(ISIS_EINVAL, isis_commit(NULL, ISIS_FIFO, 0));
    EXPECT(ISIS_EINVAL, isis_abort(NULL));
    EXPECT(ISIS_EINVAL, isis_abort((isis_claim_t *)(room + 1)));
    for (token = 0; token < 70000; token += 7) {
        claim.token = token * UINT64_C(0x9e3779b97f4a7c15) ^ token;
        EXPECT(ISIS_ECLAIM, isis_commit(&claim, ISIS_FIFO, 0));
        EXPECT(ISIS_ECLAIM, isis_abort(&claim));
    }
    EXPECT(ISIS_EKIND, isis_commit(&claim, 0, 0));
    EXPECT(ISIS_EINVAL, isis_commit(&claim, ISIS_FIFO, 256));
}

static void bad_options(void)
{
    isis_options_t options;
    isis_join_options_t join;
    isis_t *isis = (isis_t *)&options;
    char *text = malloc(10000);
    uint64_t size;

    CHECK(text != NULL);
    EXPECT(ISIS_EINVAL, isis_options_init((isis_options_t *)NULL));
    EXPECT(ISIS_EINVAL, (isis_options_init)(NULL));
    EXPECT(ISIS_EINVAL, isis_options_init_size(NULL, sizeof options));
    EXPECT(ISIS_EINVAL, isis_options_init_size(&options, 0));
    EXPECT(ISIS_EINVAL, isis_options_init_size(&options, 8));
    EXPECT(ISIS_EINVAL, isis_options_init_size(&options, UINT64_MAX));
    EXPECT(ISIS_EINVAL, isis_join_options_init((isis_join_options_t *)NULL));
    EXPECT(ISIS_EINVAL, (isis_join_options_init)(NULL));
    EXPECT(ISIS_EINVAL, isis_join_options_init_size(&join, 1));
    EXPECT(ISIS_EINVAL, isis_options_set(NULL, "mode", "inline"));
    EXPECT(ISIS_EINVAL, isis_options_from_env(NULL));
    EXPECT(ISIS_EFILE, isis_options_from_file(NULL, "/no/such/file"));
    EXPECT(ISIS_EINVAL, isis_options_from_file(NULL, "/dev/null"));

    memset(&options, 0, sizeof options);
    EXPECT(ISIS_EINVAL, isis_options_set(&options, "mode", "inline"));
    EXPECT(ISIS_EINVAL, isis_open(&options, &isis));
    CHECK(isis == NULL);
    memset(&options, 0xff, sizeof options);
    EXPECT(ISIS_EINVAL, isis_open(&options, &isis));

    OK(isis_options_init(&options));
    CHECK_EQ(options.size, sizeof options);
    CHECK_EQ(options.settings_len, 0);
    EXPECT(ISIS_EINVAL, isis_options_set(&options, NULL, "inline"));
    EXPECT(ISIS_EINVAL, isis_options_set(&options, "mode", NULL));
    EXPECT(ISIS_EOPTION, isis_options_set(&options, "", ""));
    EXPECT(ISIS_EOPTION, isis_options_set(&options, "moed", "inline"));
    CHECK(strstr(isis_last_error(), "moed") != NULL);
    EXPECT(ISIS_EOPTION, isis_options_set(&options, "mode", "outline"));
    EXPECT(ISIS_EOPTION, isis_options_set(&options, "port", "-1"));
    EXPECT(ISIS_EOPTION, isis_options_set(&options, "port", "65536"));
    EXPECT(ISIS_EOPTION, isis_options_set(&options, "hold_bytes", "many"));
    EXPECT(ISIS_EOPTION, isis_options_set(&options, "runtime_dir", "/tmp\nmode=inline"));
    EXPECT(ISIS_EINVAL, isis_options_set(&options, "mode", "\xff\xfe"));
    EXPECT(ISIS_EFILE, isis_options_from_file(&options, "/no/such/file"));
    EXPECT(ISIS_EINVAL, isis_options_from_file(&options, NULL));
    EXPECT(ISIS_EFILE, isis_options_set(&options, "config", "/no/such/file"));
    memset(text, 'a', 9999);
    text[9999] = 0;
    EXPECT(ISIS_EINVAL, isis_options_set(&options, "runtime_dir", text));
    EXPECT(ISIS_EINVAL, isis_options_set(&options, text, "x"));
    text[4096] = 0;
    OK(isis_options_set(&options, "runtime_dir", text));
    text[4000] = 0;
    OK(isis_options_set(&options, "runtime_dir", text)); /* in place of the one before */
    text[4096 - 20] = 0;
    OK(isis_options_set(&options, "faults", ""));

    /* Settings that a program has scribbled over, or whose length lies: an error or nothing, never an over-read. */
    memset(options.settings, 0xff, sizeof options.settings);
    for (size = 0; size < 3; size++) {
        options.settings_len = size == 0 ? UINT64_MAX : size == 1 ? ISIS_OPTIONS_ROOM : ISIS_OPTIONS_ROOM + 1;
        isis_options_set(&options, "mode", "inline");
    }
    EXPECT(ISIS_EINVAL, isis_open(NULL, NULL));
    EXPECT(ISIS_EINVAL, isis_open_wait(NULL, 0, NULL));
    EXPECT(ISIS_EINVAL, isis_open(NULL, (isis_t **)(text + 1)));

    /* A larger struct of a later header: taken if what is unknown is zero. */
    OK(isis_options_init_size((isis_options_t *)text, 9000));
    OK(isis_options_set((isis_options_t *)text, "mode", "inline"));
    text[8999] = 1;
    EXPECT(ISIS_EINVAL, isis_options_set((isis_options_t *)text, "mode", "inline"));
    free(text);
}

static void texts(void)
{
    int32_t code;

    CHECK(strcmp(isis_version(), "") != 0);
    CHECK_EQ(isis_version_number(),
             ISIS_VERSION_MAJOR * 1000000 + ISIS_VERSION_MINOR * 1000 + ISIS_VERSION_PATCH);
    for (code = ISIS_EALREADY; code <= ISIS_OK; code++)
        CHECK(strncmp(isis_strerror(code), "ISIS_", 5) == 0);
    CHECK(strncmp(isis_strerror(ISIS_EAGAIN), "ISIS_EAGAIN", 11) == 0);
    CHECK(strcmp(isis_strerror(1), "unknown code") == 0);
    CHECK(strcmp(isis_strerror(INT32_MIN), "unknown code") == 0);
    CHECK_EQ(isis_last_error_code(), ISIS_OK);
    CHECK(strcmp(isis_last_error(), "") == 0);
    EXPECT(ISIS_EHANDLE, isis_poll(NULL, 0));
    CHECK_EQ(isis_last_error_code(), ISIS_EHANDLE);
    CHECK(strstr(isis_last_error(), "NULL") != NULL);
    OK(isis_msg_release(NULL));
}

/* With an open instance and a group: outputs, sizes and numbers. */
static void bad_arguments(const char *mode)
{
    isis_options_t options;
    isis_join_options_t join;
    isis_t *isis;
    isis_group_t *group, *system_group, *none, *several[2];
    isis_sender_t *sender;
    isis_claim_t claim;
    isis_stat_t stats[1];
    uint64_t number;
    char room[32], name[300];
    uint64_t *crooked = (uint64_t *)(void *)(room + 1);

    test_options(&options, mode);
    OK(isis_options_set(&options, "discovery_ns", "60s"));
    EXPECT(ISIS_ETIMEDOUT, isis_open_wait(&options, 0, &isis));
    CHECK(isis == NULL);
    OK(isis_options_set(&options, "discovery_ns", "100ms"));
    OK(isis_open_wait(&options, patience(), &isis));
    EXPECT(ISIS_EINVAL, isis_group_join(isis, "name", NULL, NULL));
    EXPECT(ISIS_EINVAL, isis_group_join(isis, NULL, NULL, &group));
    EXPECT(ISIS_EINVAL, isis_group_join(isis, "", NULL, &group));
    EXPECT(ISIS_EINVAL, isis_group_join(isis, "\xff", NULL, &group));
    memset(name, 'n', sizeof name);
    name[256] = 0;
    EXPECT(ISIS_EINVAL, isis_group_join(isis, name, NULL, &group));
    OK(isis_join_options_init(&join));
    join.ordering = 77;
    EXPECT(ISIS_EUNSUPPORTED, isis_group_join(isis, "name", &join, &group));
    OK(isis_join_options_init(&join));
    join.role = ISIS_ROLE_CLIENT + 1;
    EXPECT(ISIS_EINVAL, isis_group_join(isis, "name", &join, &group));
    join.role = ISIS_ROLE_CLIENT;
    EXPECT(ISIS_ETIMEDOUT, isis_group_join_wait(isis, "nobody's", &join, 0, &group)); /* it creates none */
    CHECK(group == NULL);
    OK(isis_join_options_init(&join));
    join.size = 3;
    EXPECT(ISIS_EINVAL, isis_group_join(isis, "name", &join, &group));
    CHECK(group == NULL);
    OK(isis_group_join_wait(isis, "name", NULL, patience(), &group));

    EXPECT(ISIS_EALREADY, isis_group_join_wait(isis, "name", NULL, patience(), &none));
    CHECK(none == NULL);
    CHECK_EQ(OK(isis_view_size(group)), 1);

    /* Handles of another kind. */
    bad_instance((isis_t *)group);
    bad_group((isis_group_t *)isis);
    bad_sender((isis_sender_t *)group);
    bad_message((const isis_message_t *)isis);

    /* The group of all processes takes no messages. */
    OK(isis_system_group(isis, &system_group));
    EXPECT(ISIS_EINVAL, isis_system_group(isis, NULL));
    EXPECT(ISIS_ENOTMEMBER, isis_multicast(system_group, ISIS_FIFO, 0, "x", 1));
    EXPECT(ISIS_ENOTMEMBER, isis_send(system_group, 1, 0, "x", 1));
    EXPECT(ISIS_ENOTMEMBER, isis_last_sent(system_group, &number));
    EXPECT(ISIS_ENOTMEMBER, isis_claim(system_group, 8, &claim));
    EXPECT(ISIS_ENOTMEMBER, isis_flush(system_group, NULL));
    EXPECT(ISIS_ENOTMEMBER, isis_flush_wait(system_group, 0));
    EXPECT(ISIS_ENOTMEMBER, isis_group_leave(system_group));
    EXPECT(ISIS_ENOTMEMBER, isis_group_leave_wait(system_group, 0));
    EXPECT(ISIS_ENOTMEMBER, isis_sender_open(system_group, &sender));

    EXPECT(ISIS_EINVAL, isis_process(isis, NULL));
    EXPECT(ISIS_EINVAL, isis_process(isis, crooked));
    EXPECT(ISIS_EINVAL, isis_entry(isis, 258, NULL, NULL));
    EXPECT(ISIS_EINVAL, isis_entry(isis, UINT32_MAX, NULL, NULL));
    EXPECT(ISIS_EINVAL, isis_entry_batch(isis, 258, NULL, NULL));
    EXPECT(ISIS_EINVAL, isis_stats(isis, NULL, 1));
    CHECK(OK(isis_stats(isis, NULL, 0)) > 0);
    CHECK(OK(isis_stats(isis, stats, 1)) > 1);
    EXPECT(ISIS_EINVAL, isis_stats_value(isis, NULL, &number));
    EXPECT(ISIS_EINVAL, isis_stats_value(isis, "callbacks", NULL));
    EXPECT(ISIS_ERANGE, isis_stats_value(isis, "no such", &number));

    EXPECT(ISIS_EINVAL, isis_view_number(group, NULL));
    EXPECT(ISIS_EINVAL, isis_view_number(group, crooked));
    EXPECT(ISIS_EINVAL, isis_view_member(group, 0, NULL));
    EXPECT(ISIS_ERANGE, isis_view_member(group, 1, &number));
    EXPECT(ISIS_ERANGE, isis_view_member(group, UINT32_MAX, &number));
    EXPECT(ISIS_ERANGE, isis_view_has_state(group, 9));
    EXPECT(ISIS_EINVAL, isis_view_joined(group, 0, NULL));
    EXPECT(ISIS_ERANGE, isis_view_joined(group, 9, &number));
    EXPECT(ISIS_EINVAL, isis_view_departed(group, 0, NULL, NULL));
    EXPECT(ISIS_ERANGE, isis_view_departed(group, 0, &number, NULL));
    CHECK_EQ(OK(isis_view_client_count(group)), 0);
    EXPECT(ISIS_EINVAL, isis_view_client(group, 0, NULL));
    EXPECT(ISIS_ERANGE, isis_view_client(group, 0, &number));
    OK(isis_join_options_init(&join));
    join.role = ISIS_ROLE_CLIENT;
    EXPECT(ISIS_EALREADY, isis_group_join_wait(isis, "name", &join, patience(), &none)); /* it is a member */

    EXPECT(ISIS_EINVAL, isis_multicast(group, ISIS_FIFO, 0, NULL, 1));
    EXPECT(ISIS_EINVAL, isis_multicast(group, ISIS_FIFO, 256, "x", 1));
    EXPECT(ISIS_EKIND, isis_multicast(group, 0, 0, "x", 1));
    EXPECT(ISIS_EKIND, isis_multicast(group, ISIS_UNICAST, 0, "x", 1));
    EXPECT(ISIS_EKIND, isis_multicast(group, ISIS_FIFO | 0x80000000u, 0, "x", 1));
    EXPECT(ISIS_ETOOLONG, isis_multicast(group, ISIS_FIFO, 0, "x", UINT64_MAX));
    several[0] = several[1] = group;
    EXPECT(ISIS_EINVAL, isis_multicast_groups(NULL, 1, ISIS_TOTAL, 0, "x", 1));
    EXPECT(ISIS_EINVAL, isis_multicast_groups((isis_group_t *const *)crooked, 1, ISIS_TOTAL, 0, "x", 1));
    EXPECT(ISIS_EINVAL, isis_multicast_groups(several, 0, ISIS_TOTAL, 0, "x", 1));
    EXPECT(ISIS_EINVAL, isis_multicast_groups(several, 65, ISIS_TOTAL, 0, "x", 1));
    EXPECT(ISIS_EINVAL, isis_multicast_groups(several, 2, ISIS_TOTAL, 0, "x", 1)); /* twice the same */
    EXPECT(ISIS_EINVAL, isis_multicast_groups(several, 1, ISIS_TOTAL, 256, "x", 1));
    EXPECT(ISIS_EINVAL, isis_multicast_groups(several, 1, ISIS_TOTAL, 0, NULL, 1));
    EXPECT(ISIS_EKIND, isis_multicast_groups(several, 1, ISIS_CAUSAL, 0, "x", 1));
    EXPECT(ISIS_EKIND, isis_multicast_groups(several, 1, ISIS_GLOBAL, 0, "x", 1));
    EXPECT(ISIS_ETOOLONG, isis_multicast_groups(several, 1, ISIS_TOTAL, 0, "x", UINT64_MAX));
    several[1] = system_group;
    EXPECT(ISIS_ENOTMEMBER, isis_multicast_groups(several, 2, ISIS_TOTAL, 0, "x", 1));
    several[1] = NULL;
    EXPECT(ISIS_EHANDLE, isis_multicast_groups(several, 2, ISIS_TOTAL, 0, "x", 1));
    EXPECT(ISIS_EINVAL, isis_last_sent(group, NULL));
    OK(isis_last_sent(group, &number));
    CHECK_EQ(number, 0); /* nothing was sent yet */
    EXPECT(ISIS_EINVAL, isis_event_reason(NULL));
    EXPECT(ISIS_EINVAL, isis_event_reason((const isis_event_t *)(const void *)(room + 1)));
    EXPECT(ISIS_EINVAL, isis_send(group, 1, 0, NULL, 1));
    EXPECT(ISIS_EINVAL, isis_send(group, 1, 256, "x", 1));
    EXPECT(ISIS_ETOOLONG, isis_send(group, 1, 0, "x", UINT64_MAX));

    EXPECT(ISIS_EINVAL, isis_claim_max(group, NULL));
    EXPECT(ISIS_EINVAL, isis_claim(group, 8, NULL));
    EXPECT(ISIS_EINVAL, isis_claim(group, 8, (isis_claim_t *)(void *)(room + 1)));
    EXPECT(ISIS_ETOOLONG, isis_claim(group, UINT64_MAX, &claim));
    OK(isis_claim_max(group, &number));
    EXPECT(ISIS_ETOOLONG, isis_claim(group, number + 1, &claim));
    EXPECT(ISIS_EINVAL, isis_sender_open(group, NULL));
    if (strcmp(mode, "inline") == 0)
        EXPECT(ISIS_EUNSUPPORTED, isis_sender_open(group, &sender));
    bad_claims();

    /* A message that the program made itself is none. */
    {
        isis_message_t forged;
        memset(&forged, 0, sizeof forged);
        forged.size = sizeof forged;
        forged.isis = isis;
        forged.group = group;
        bad_message(&forged);
    }

    OK(isis_group_leave_wait(group, patience()));
    bad_group(group);
    OK(isis_group_join(isis, "other", NULL, &none));
    CHECK(none != group);
    OK(isis_close_wait(isis, patience()));
    bad_instance(isis);
    bad_group(none);
    bad_group(system_group);
}

int main(int argc, char **argv)
{
    static const uintptr_t patterns[] = {1, 2, 8, 0x11, 0x1000001, 0x1000003, 0x1000005, 0x7fffffffffff, (uintptr_t)-1,
                                         (uintptr_t)-2, (uintptr_t)1 << 63, 0xdeadbeef};
    int on_stack = 0;
    int *on_heap = malloc(sizeof *on_heap);
    size_t index;
    uint64_t random = 88172645463325252u;

    begin("bad_input", 60);
    texts();
    bad_handle(0);
    for (index = 0; index < sizeof patterns / sizeof *patterns; index++)
        bad_handle(patterns[index]);
    bad_handle((uintptr_t)&on_stack);
    bad_handle((uintptr_t)on_heap);
    bad_handle((uintptr_t)&errno);
    bad_handle((uintptr_t)&bad_handle);
    for (index = 0; index < 1000; index++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        bad_handle((uintptr_t)random);
    }
    free(on_heap);
    bad_claims();
    bad_options();
    if (argc > 1)
        bad_arguments(argv[1]);
    return done();
}
