/*
 * isis.h: the C API of ISIS, process groups with virtual synchrony.
 *
 * Made from the sources of libisis by cbindgen: change those, not this file.
 *
 * Every call that returns int32_t returns 0 or a count when it worked, a negative ISIS_E... code otherwise:
 * isis_strerror tells a code's meaning, isis_last_error the details. Handles (isis_t, isis_group_t,
 * isis_sender_t) may be NULL, closed or foreign: that is ISIS_EHANDLE, not a crash. A handle belongs to one
 * thread. `data` may be NULL if `len` is 0; strings end in NUL and are UTF-8; both are borrowed for the call.
 * Times are in nanoseconds, UINT64_MAX is for ever.
 *
 * Callbacks run only inside isis_poll, isis_run and the calls that wait, on the caller's thread. Inside one
 * all calls may be made but isis_poll, isis_run, isis_close and those that wait: they give ISIS_EINCALLBACK.
 */

#ifndef ISIS_H
#define ISIS_H

#include <stdint.h>

/**
 * First number of the header's version.
 */
#define ISIS_VERSION_MAJOR 0

/**
 * Second number of the header's version.
 */
#define ISIS_VERSION_MINOR 1

/**
 * Third number of the header's version.
 */
#define ISIS_VERSION_PATCH 0

/**
 * It worked.
 */
#define ISIS_OK 0

/**
 * An argument is NULL, too large, or has a value that the call does not know.
 */
#define ISIS_EINVAL -1

/**
 * The handle is NULL, closed, of another kind, or was never given out.
 */
#define ISIS_EHANDLE -2

/**
 * Not now: the window (or another bounded buffer) is full. Not a failure: try again after ISIS_EVENT_WRITABLE.
 */
#define ISIS_EAGAIN -3

/**
 * The handle belongs to another thread.
 */
#define ISIS_ETHREAD -4

/**
 * This call must not be made from inside a callback.
 */
#define ISIS_EINCALLBACK -5

/**
 * The handle was opened before a fork, in the parent.
 */
#define ISIS_EFORKED -6

/**
 * A bug of the library was caught and this handle is unusable: close it. Other members see a crash.
 */
#define ISIS_EPOISONED -7

/**
 * The time that the caller allowed is over.
 */
#define ISIS_ETIMEDOUT -8

/**
 * The message is longer than `max_message`, or the claim longer than isis_claim_max tells.
 */
#define ISIS_ETOOLONG -9

/**
 * This process is not a member of the group: not yet, or not any more.
 */
#define ISIS_ENOTMEMBER -10

/**
 * No such process in the system.
 */
#define ISIS_ENOPROCESS -11

/**
 * This process is no longer part of a system: it was evicted, or the handle is being closed.
 */
#define ISIS_EENDED -12

/**
 * A claim is already open in this group, or the claim names none that is open.
 */
#define ISIS_ECLAIM -13

/**
 * This call does not know this kind of multicast.
 */
#define ISIS_EKIND -14

/**
 * A fixed table is full: too many handles, senders or instances.
 */
#define ISIS_ELIMIT -15

/**
 * The operating system refused something; isis_last_error has the details.
 */
#define ISIS_ESYSTEM -16

/**
 * No option has this name, or the value cannot be one of this option.
 */
#define ISIS_EOPTION -17

/**
 * A file could not be read or does not parse.
 */
#define ISIS_EFILE -18

/**
 * The message is neither in delivery nor held by this thread.
 */
#define ISIS_EMESSAGE -19

/**
 * An index is out of range: rank, joined, departed, counter.
 */
#define ISIS_ERANGE -20

/**
 * There is no view yet: the join is not complete.
 */
#define ISIS_ENOVIEW -21

/**
 * This build or this platform cannot do it.
 */
#define ISIS_EUNSUPPORTED -22

/**
 * This process is a member of that group already, or is joining it.
 */
#define ISIS_EALREADY -23

/**
 * Room for settings in isis_options_t.
 */
#define ISIS_OPTIONS_ROOM 8176

/**
 * One member orders the ABCASTs: at first the oldest, later whoever sends most (option `sequencer_moves_after`). The default.
 */
#define ISIS_ORDERING_SEQUENCER 0

/**
 * Every member proposes a priority for each ABCAST, and the highest counts. No member is special; while any of them is away
 * no ABCAST is delivered.
 */
#define ISIS_ORDERING_PRIORITY 1

/**
 * Joins as a member. The default.
 */
#define ISIS_ROLE_MEMBER 0

/**
 * Joins as a client: a process that multicasts into the group and gets its members' isis_send and isis_reply, but is no
 * member: it has no rank, and gets neither views nor multicasts. It creates no group; it waits until there is one.
 */
#define ISIS_ROLE_CLIENT 1

/**
 * It left by its own request.
 */
#define ISIS_DEPARTED_LEFT 1

/**
 * It failed, or was taken for failed.
 */
#define ISIS_DEPARTED_FAILED 2

/**
 * FBCAST: in the order of its sender.
 */
#define ISIS_FIFO 1

/**
 * CBCAST: after everything that happened before it.
 */
#define ISIS_CAUSAL 2

/**
 * ABCAST: as CBCAST, and in one total order with all other ABCASTs of the group.
 */
#define ISIS_TOTAL 3

/**
 * GBCAST: at the same point of everything at all members, views included.
 */
#define ISIS_GLOBAL 4

/**
 * The kind of a received isis_send: point to point.
 */
#define ISIS_UNICAST 5

/**
 * The kind of a received isis_reply.
 */
#define ISIS_REPLY 6

/**
 * Added to a kind: delivered only when every member has it.
 */
#define ISIS_SAFE 256

/**
 * The entry point of all replies, for isis_entry.
 */
#define ISIS_ENTRY_REPLY 256

/**
 * The entry point of messages to entries that have no callback, for isis_entry.
 */
#define ISIS_ENTRY_OTHER 257

/**
 * This process is in a system; `process` is its identifier.
 */
#define ISIS_EVENT_SYSTEM_JOINED 1

/**
 * The set of all processes changed: `group` is the group of isis_system_group.
 */
#define ISIS_EVENT_SYSTEM_VIEW 2

/**
 * This process is a member of the group, and has its state; its first ISIS_EVENT_VIEW follows. Or it is registered as a
 * client: `members` is 0 then, and no views come.
 */
#define ISIS_EVENT_JOINED 3

/**
 * A new view of the group; isis_view_number and its likes tell it.
 */
#define ISIS_EVENT_VIEW 4

/**
 * This process is out of the group; the group's handle is closed when the callback returns.
 */
#define ISIS_EVENT_LEFT 5

/**
 * The flush of this `number` is complete: all members have what was multicast before. For a client: that is completed.
 */
#define ISIS_EVENT_FLUSHED 6

/**
 * A send that gave ISIS_EAGAIN may be tried again: the window has room, or the view change or the stall is over.
 */
#define ISIS_EVENT_WRITABLE 7

/**
 * A joiner, `process`, wants the group's state: `state_capture` is called next. `number` names the transfer.
 */
#define ISIS_EVENT_STATE_WANTED 8

/**
 * The state of transfer `number` is no longer wanted.
 */
#define ISIS_EVENT_STATE_ABORTED 9

/**
 * The group's state has come whole: `number` bytes.
 */
#define ISIS_EVENT_STATE_RECEIVED 10

/**
 * No contact to a quorum: no sends (they give ISIS_EAGAIN), deliveries or views, until ISIS_EVENT_RESUMED or
 * ISIS_EVENT_EVICTED.
 */
#define ISIS_EVENT_STALLED 11

/**
 * Contact to a quorum again.
 */
#define ISIS_EVENT_RESUMED 12

/**
 * The others went on without this process: close the handle; a new one may join. What it multicast before it stalled, and
 * what no completed flush covers, may or may not have reached the others: flushes that were pending give
 * ISIS_EVENT_REFUSED with ISIS_EENDED before this event, and calls that wait give ISIS_EENDED.
 */
#define ISIS_EVENT_EVICTED 13

/**
 * `process` holds the others up, in `group`; `reason` says how. Once per full window, and per view change once for each
 * silence.
 */
#define ISIS_EVENT_SLOW 14

/**
 * isis_close is complete; the handle is closed when the callback returns.
 */
#define ISIS_EVENT_CLOSED 15

/**
 * A command that its call had accepted was refused later: `code` says why, `text` which; `number` is that of a flush, or
 * the ticket of a message. In inline mode this comes only for flushes, before ISIS_EVENT_EVICTED. After a refused join the group's handle is closed when the callback returns.
 */
#define ISIS_EVENT_REFUSED 16

/**
 * An internal error: the handle is unusable, close it. The others see a crash.
 */
#define ISIS_EVENT_POISONED 17

/**
 * A line for the operator: `text`.
 */
#define ISIS_EVENT_LOG 18

/**
 * For clients: the multicast with ticket `number` (isis_last_sent) cannot be lost any more. Every member that stays
 * delivers it, or has done so. Each multicast of a client gets one, in their order.
 */
#define ISIS_EVENT_COMPLETED 19

/**
 * For clients: the group has no members any more; the handle is closed when the callback returns. Multicasts that were not
 * completed may or may not have been delivered. A new group of that name may come: join again.
 */
#define ISIS_EVENT_GROUP_ENDED 20

/**
 * The reason of an ISIS_EVENT_SLOW: the process is so far behind with taking messages that this one's window is full.
 */
#define ISIS_SLOW_WINDOW 1

/**
 * The reason of an ISIS_EVENT_SLOW: a view change of `group` (which may be that of isis_system_group) waits for the
 * process, and nothing is heard of it. It hangs, or is away from isis_poll.
 */
#define ISIS_SLOW_VIEW_CHANGE 2

/**
 * A group. An opaque handle: only to be handed back, never to be looked into.
 */
typedef struct isis_group_t isis_group_t;

/**
 * A sender. An opaque handle: only to be handed back, never to be looked into.
 */
typedef struct isis_sender_t isis_sender_t;

/**
 * A process of a system. An opaque handle: only to be handed back, never to be looked into.
 */
typedef struct isis_t isis_t;

/**
 * Options of isis_open. Fill it with isis_options_init; it owns nothing and may be copied.
 */
typedef struct isis_options_t {
    /**
     * Size of this struct in bytes, as the program was compiled.
     */
    uint64_t size;
    /**
     * Bytes used in `settings`.
     */
    uint64_t settings_len;
    /**
     * What isis_options_set and its likes have set; not to be written by the program.
     */
    char settings[ISIS_OPTIONS_ROOM];
} isis_options_t;

/**
 * Takes a snapshot of the group's state as it is at this moment, and stores what names it in `*snapshot`. Returns 0; a
 * negative value means that it cannot: then this member leaves the group, and another one hands over the state.
 */
typedef int32_t (*isis_state_capture_fn)(void *user, void **snapshot);

/**
 * Writes the snapshot's bytes from `offset` on into `buffer`, at most `capacity`. Returns how many; 0 at the end;
 * ISIS_EAGAIN: later; any other negative value: it failed, and this member leaves the group. Offsets never go back.
 */
typedef int64_t (*isis_state_next_fn)(void *user,
                                      void *snapshot,
                                      uint64_t offset,
                                      void *buffer,
                                      uint64_t capacity);

/**
 * The snapshot is no longer needed: it was handed over, or nobody wants it any more. Once for each capture that worked.
 */
typedef void (*isis_state_done_fn)(void *user, void *snapshot);

/**
 * Takes the next bytes of the group's state. `offset` 0 means: start over, forget what came before (the first call, or
 * the donor was lost). `last` is 1 with the last block, which may be empty.
 */
typedef void (*isis_state_block_fn)(void *user, uint64_t offset, const void *data, uint64_t len, uint32_t last);

/**
 * Options of isis_group_join. Fill it with isis_join_options_init.
 */
typedef struct isis_join_options_t {
    /**
     * Size of this struct in bytes, as the program was compiled.
     */
    uint64_t size;
    /**
     * ISIS_ORDERING_SEQUENCER or ISIS_ORDERING_PRIORITY: how the group's ABCASTs are put into one order, with the same
     * guarantees. The process that creates the group chooses; to whoever joins later the group's choice applies.
     */
    uint32_t ordering;
    /**
     * ISIS_ROLE_MEMBER or ISIS_ROLE_CLIENT. For a client only `domain` counts of what follows.
     */
    uint32_t role;
    /**
     * Not 0: a message is delivered in the view that its sender knew of when it sent it. A multicast during a view change
     * is refused with ISIS_EAGAIN instead of being kept for the next view: at once in inline mode; in threaded mode by
     * ISIS_EVENT_REFUSED with its ticket if the call could not know yet.
     */
    uint32_t sending_view;
    /**
     * Causality domain. A message in one group of a domain is delivered after all that happened before it in the others:
     * it waits until that is delivered everywhere. Groups of different domains do not wait for each other. 0 by default;
     * all members of a group name the same one.
     */
    uint32_t domain;
    /**
     * First argument of the four callbacks below.
     */
    void *user;
    /**
     * Takes a snapshot of the group's state as it is now. NULL: this member hands an empty state to joiners.
     */
    isis_state_capture_fn state_capture;
    /**
     * Gives the next bytes of a snapshot. Must not be NULL if `state_capture` is not.
     */
    isis_state_next_fn state_next;
    /**
     * The snapshot is no longer needed. May be NULL.
     */
    isis_state_done_fn state_done;
    /**
     * Takes the group's state, block by block, before the first view. NULL: this member wants no state.
     */
    isis_state_block_fn state_block;
} isis_join_options_t;

/**
 * A message. It, and what `data` points to, are borrowed until the callback returns, unless isis_msg_hold keeps it. `data` is
 * for reading: it may lie in memory that the sender's process shares. A forked child has no part in that: what it is to
 * have, copy before.
 */
typedef struct isis_message_t {
    /**
     * Size of this struct in bytes, as the library was compiled.
     */
    uint64_t size;
    /**
     * Its bytes, contiguous. NULL if there are none.
     */
    const void *data;
    /**
     * How many bytes.
     */
    uint64_t len;
    /**
     * The instance that it came to.
     */
    struct isis_t *isis;
    /**
     * The group that it was sent in.
     */
    struct isis_group_t *group;
    /**
     * The process that sent it: a member, or a client.
     */
    uint64_t sender;
    /**
     * The number of the group's view that it was sent in; of a client's multicast, that it was delivered in.
     */
    uint64_t view;
    /**
     * Its number among its sender's multicasts in that view: 1, 2, 3 and so on. ISIS_UNICAST and ISIS_REPLY have a series
     * of their own, above 2^62. A client's multicasts have one over all views, which rises and has gaps.
     */
    uint64_t number;
    /**
     * Its place in the total order of the view: 1, 2, 3 and so on; 0 if it is not ISIS_TOTAL.
     */
    uint64_t order;
    /**
     * For ISIS_REPLY: the view of the message that it answers; else 0.
     */
    uint64_t answers_view;
    /**
     * For ISIS_REPLY: the number of the message that it answers; else 0.
     */
    uint64_t answers_number;
    /**
     * The sender's rank in the view; 65535 if it is a client, or no member any more (ISIS_UNICAST and ISIS_REPLY only), and
     * in all that a client gets.
     */
    uint32_t rank;
    /**
     * ISIS_FIFO, ISIS_CAUSAL, ISIS_TOTAL, ISIS_GLOBAL, ISIS_UNICAST or ISIS_REPLY.
     */
    uint32_t kind;
    /**
     * Its entry point: 0 to 255.
     */
    uint32_t entry;
    /**
     * 1 if it was sent with ISIS_SAFE, else 0.
     */
    uint32_t safe;
    /**
     * For a message of this process's own: the ticket that isis_last_sent or isis_sender_last_sent gave for it. For an
     * ISIS_REPLY: the ticket of the message that it answers. 0: neither, too long ago, or of an earlier membership.
     */
    uint64_t ticket;
} isis_message_t;

/**
 * Room for a message in the outgoing stream. Write `len` bytes at `data`, then isis_commit or isis_abort.
 */
typedef struct isis_claim_t {
    /**
     * Where to write; 8-byte aligned. Valid until the claim is committed or aborted, or its group's handle is closed,
     * or a call gave ISIS_EPOISONED.
     */
    void *data;
    /**
     * How many bytes.
     */
    uint64_t len;
    /**
     * Names the claim; 0: none.
     */
    uint64_t token;
} isis_claim_t;

/**
 * A piece of a message's bytes.
 */
typedef struct isis_slice_t {
    /**
     * Where it is.
     */
    const void *data;
    /**
     * How many bytes.
     */
    uint64_t len;
} isis_slice_t;

/**
 * Takes a message. Runs only inside isis_poll, isis_run and the calls that wait, on the caller's thread. It must return:
 * no exception, no longjmp.
 */
typedef void (*isis_message_fn)(void *user, const struct isis_message_t *message);

/**
 * Takes `count` messages, at least one, that follow each other: from one sender, in one group, of one kind, to one entry
 * point. `first` describes the first one. The others differ from it by their bytes only, and each by 1 from the one before
 * in `number`, and in `order` and `ticket` if these are not 0. `bytes` has the bytes of each, the first one's as well,
 * borrowed like `first` until the callback returns. isis_reply, isis_msg_hold and their likes take `first` alone. As
 * isis_message_fn.
 */
typedef void (*isis_batch_fn)(void *user,
                              const struct isis_message_t *first,
                              const struct isis_slice_t *bytes,
                              uint32_t count);

/**
 * An event. Borrowed until the callback returns. Fields that an event does not name are 0 or NULL.
 */
typedef struct isis_event_t {
    /**
     * Size of this struct in bytes, as the library was compiled.
     */
    uint64_t size;
    /**
     * The instance that it came to.
     */
    struct isis_t *isis;
    /**
     * The group that it is about; NULL if it is about no group.
     */
    struct isis_group_t *group;
    /**
     * ISIS_EVENT_VIEW and so on.
     */
    uint32_t type;
    /**
     * A negative code, for ISIS_EVENT_REFUSED.
     */
    int32_t code;
    /**
     * The number of the view, for ISIS_EVENT_VIEW, ISIS_EVENT_JOINED and ISIS_EVENT_SYSTEM_VIEW.
     */
    uint64_t view;
    /**
     * The process that it is about.
     */
    uint64_t process;
    /**
     * See the events.
     */
    uint64_t number;
    /**
     * For views: how many members there are.
     */
    uint32_t members;
    /**
     * For views: this process's rank.
     */
    uint32_t rank;
    /**
     * For views: how many members are new.
     */
    uint32_t joined;
    /**
     * For views: how many members of the view before are gone.
     */
    uint32_t departed;
    /**
     * For views: the members' identifiers by rank.
     */
    const uint64_t *member_list;
    /**
     * NUL-terminated text, or NULL.
     */
    const char *text;
    /**
     * For ISIS_EVENT_SLOW: ISIS_SLOW_WINDOW or ISIS_SLOW_VIEW_CHANGE.
     */
    uint32_t reason;
    /**
     * 0.
     */
    uint32_t reserved;
} isis_event_t;

/**
 * Takes an event. As isis_message_fn.
 */
typedef void (*isis_event_fn)(void *user, const struct isis_event_t *event);

/**
 * A counter.
 */
typedef struct isis_stat_t {
    /**
     * Its name, NUL-terminated. A constant: it may be kept.
     */
    const char *name;
    /**
     * Its value.
     */
    uint64_t value;
} isis_stat_t;



#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The library's version, "major.minor.patch". A constant.
 */
const char *isis_version(void);

/**
 * The library's version as major × 1,000,000 + minor × 1,000 + patch, to compare with the header's numbers.
 */
uint32_t isis_version_number(void);

/**
 * The meaning of a code: a constant, NUL-terminated text. Never NULL, for any number.
 */
const char *isis_strerror(int32_t code);

/**
 * The details of the last failure on this thread; empty if there was none. Never NULL. Valid until the next call that
 * fails on this thread. ISIS_EAGAIN leaves it as it is.
 */
const char *isis_last_error(void);

/**
 * The code of the last failure on this thread, ISIS_OK if there was none. ISIS_EAGAIN leaves it as it is.
 */
int32_t isis_last_error_code(void);

/**
 * Fills options with the defaults, for a struct of `size` bytes. C programs call it by the macro
 * isis_options_init(options), which gives the size as the program was compiled.
 *
 * Errors: ISIS_EINVAL.
 */
int32_t isis_options_init_size(struct isis_options_t *options, uint64_t size);

/**
 * Sets one option by its name: "mode" to "threaded" or "inline", "bind", "port", "seeds", "runtime_dir", "wait",
 * "linger_ns", "hold_bytes" and so on; times in nanoseconds or with a unit (20ms), sizes in bytes or with a unit
 * (2MiB). The last setting of a name counts.
 *
 * Errors: ISIS_EINVAL, ISIS_EOPTION, ISIS_EFILE (for "config"), ISIS_ELIMIT (too much text).
 */
int32_t isis_options_set(struct isis_options_t *options,
                         const char *name,
                         const char *value);

/**
 * Takes the settings of a TOML file of `name = value` lines. The file is checked now and read by isis_open; it
 * wins over what was set before, and what is set later wins over it.
 *
 * Errors: ISIS_EINVAL, ISIS_EFILE, ISIS_ELIMIT.
 */
int32_t isis_options_from_file(struct isis_options_t *options,
                               const char *path);

/**
 * Takes the settings of the environment: ISIS_MODE, ISIS_PORT, ISIS_CONFIG (a file, which the other variables win
 * over) and so on: the options' names in capitals. Other variables that start with ISIS_ are left alone.
 *
 * Errors: ISIS_EINVAL, ISIS_EOPTION, ISIS_EFILE, ISIS_ELIMIT.
 */
int32_t isis_options_from_env(struct isis_options_t *options);

/**
 * isis_options_init for programs that cannot use the macro: fills the struct as it was in the first version of the
 * header.
 *
 * Errors: ISIS_EINVAL.
 */
int32_t isis_options_init(struct isis_options_t *options);

/**
 * Opens the transport and begins to find or found a system. Never blocks: ISIS_EVENT_SYSTEM_JOINED tells that this
 * process is in. Groups may be joined at once. `options` NULL: the defaults, and the environment.
 *
 * The handle belongs to the calling thread. It ends with isis_close or isis_close_wait; a process that exits without
 * is a crashed one to the others.
 *
 * Errors: ISIS_EINVAL, ISIS_EOPTION, ISIS_EFILE, ISIS_ELIMIT, ISIS_ESYSTEM. On an error `*isis` is NULL.
 */
int32_t isis_open(const struct isis_options_t *options,
                  struct isis_t **isis);

/**
 * isis_open, and waits until this process is in a system.
 *
 * Errors: as isis_open, and ISIS_ETIMEDOUT, ISIS_EPOISONED. On an error `*isis` is NULL and nothing stays open.
 */
int32_t isis_open_wait(const struct isis_options_t *options,
                       uint64_t timeout_ns,
                       struct isis_t **isis);

/**
 * Begins to leave all groups and the system. Never blocks: ISIS_EVENT_CLOSED tells the end, within `linger_ns` if the
 * program polls on; after its callback the handle and those of its groups are closed. A poisoned handle is closed at
 * once.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EINCALLBACK, ISIS_EPOISONED.
 */
int32_t isis_close(struct isis_t *isis);

/**
 * isis_close, and waits for its end, running callbacks as isis_poll does. The handle is closed in any case; when the
 * time is over the others see a crash.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EINCALLBACK, ISIS_ETIMEDOUT, ISIS_EPOISONED.
 */
int32_t isis_close_wait(struct isis_t *isis,
                        uint64_t timeout_ns);

/**
 * This process's identifier in the system.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ENOVIEW (not admitted yet).
 */
int32_t isis_process(struct isis_t *isis,
                     uint64_t *process);

/**
 * The group of all processes of the system, whose views isis_view_number and its likes tell. It takes no messages. Its
 * handle lives as long as `isis`.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL.
 */
int32_t isis_system_group(struct isis_t *isis,
                          struct isis_group_t **group);

/**
 * Fills join options with the defaults, for a struct of `size` bytes. C programs call it by the macro
 * isis_join_options_init(options), which gives the size as the program was compiled.
 *
 * Errors: ISIS_EINVAL.
 */
int32_t isis_join_options_init_size(struct isis_join_options_t *options, uint64_t size);

/**
 * isis_join_options_init for programs that cannot use the macro: fills the struct as it was in the first version of the
 * header.
 *
 * Errors: ISIS_EINVAL.
 */
int32_t isis_join_options_init(struct isis_join_options_t *options);

/**
 * Joins the group of this name (1 to 255 bytes), or creates it. Never blocks: ISIS_EVENT_JOINED tells that this process
 * is a member and has the state; until then the handle serves to leave again, and sends give ISIS_ENOTMEMBER. `options`
 * NULL: the defaults, without state.
 *
 * As a client (ISIS_ROLE_CLIENT): ISIS_EVENT_JOINED tells that this process is registered with the group, which needs a
 * member. From then on isis_multicast, isis_send, isis_reply, isis_flush, isis_sender_open and isis_group_leave work on the
 * handle; isis_claim gives ISIS_ENOTMEMBER and isis_view_number and its likes ISIS_ENOVIEW. Each multicast is delivered by
 * the members at most once, in this client's order, whichever of them fail, and ISIS_EVENT_COMPLETED tells that it cannot
 * be lost any more. ISIS_EVENT_GROUP_ENDED tells that the group has no members any more. The members see a client that is
 * registered when a view begins in isis_view_client, and that it failed by a view without it. A process is one group's
 * member or client, not both: ISIS_EALREADY.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_EENDED, ISIS_EAGAIN, ISIS_ELIMIT,
 * ISIS_EALREADY, ISIS_EUNSUPPORTED (ordering). On an error `*group` is NULL.
 */
int32_t isis_group_join(struct isis_t *isis,
                        const char *name,
                        const struct isis_join_options_t *options,
                        struct isis_group_t **group);

/**
 * isis_group_join, and waits for ISIS_EVENT_JOINED, running callbacks as isis_poll does.
 *
 * Errors: as isis_group_join, and ISIS_ETIMEDOUT (the join is given up), ISIS_ENOTMEMBER (the group ended meanwhile),
 * ISIS_EINCALLBACK. On an error `*group` is NULL.
 */
int32_t isis_group_join_wait(struct isis_t *isis,
                             const char *name,
                             const struct isis_join_options_t *options,
                             uint64_t timeout_ns,
                             struct isis_group_t **group);

/**
 * Begins to leave a group, or gives up joining it. Never blocks: ISIS_EVENT_LEFT tells the end; after its callback the
 * handle is closed.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_ENOTMEMBER, ISIS_EENDED, ISIS_EAGAIN.
 */
int32_t isis_group_leave(struct isis_group_t *group);

/**
 * isis_group_leave, and waits for its end, running callbacks as isis_poll does. It also waits where isis_group_leave gives
 * ISIS_EAGAIN. After ISIS_ETIMEDOUT the leave goes on and the handle stays open until ISIS_EVENT_LEFT.
 *
 * Errors: ISIS_EAGAIN (there was no room for the command all the time: the leave has not begun), ISIS_EHANDLE,
 * ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_ENOTMEMBER, ISIS_EENDED, ISIS_ETIMEDOUT, ISIS_EINCALLBACK.
 */
int32_t isis_group_leave_wait(struct isis_group_t *group,
                              uint64_t timeout_ns);

/**
 * The view's number: 1, 2, 3 and so on, the same at all members.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ENOVIEW.
 */
int32_t isis_view_number(struct isis_group_t *group, uint64_t *number);

/**
 * Returns how many members the view has.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_ENOVIEW.
 */
int32_t isis_view_size(struct isis_group_t *group);

/**
 * Returns this process's rank in the view: 0 is the oldest member.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_ENOVIEW, ISIS_ENOTMEMBER.
 */
int32_t isis_view_rank(struct isis_group_t *group);

/**
 * The member of a rank.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ENOVIEW, ISIS_ERANGE.
 */
int32_t isis_view_member(struct isis_group_t *group, uint32_t rank, uint64_t *process);

/**
 * Returns 1 if the member of a rank has the group's state, 0 if it is still on its way.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_ENOVIEW, ISIS_ERANGE.
 */
int32_t isis_view_has_state(struct isis_group_t *group, uint32_t rank);

/**
 * Returns how many members are new in the view.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_ENOVIEW.
 */
int32_t isis_view_joined_count(struct isis_group_t *group);

/**
 * The `index`-th member that is new in the view.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ENOVIEW, ISIS_ERANGE.
 */
int32_t isis_view_joined(struct isis_group_t *group, uint32_t index, uint64_t *process);

/**
 * Returns how many members of the view before are not in this one.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_ENOVIEW.
 */
int32_t isis_view_departed_count(struct isis_group_t *group);

/**
 * The `index`-th member of the view before that is not in this one, and why: ISIS_DEPARTED_LEFT or
 * ISIS_DEPARTED_FAILED. `reason` may be NULL.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ENOVIEW, ISIS_ERANGE.
 */
int32_t isis_view_departed(struct isis_group_t *group, uint32_t index, uint64_t *process, uint32_t *reason);

/**
 * Returns how many clients were registered with the group when the view began.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_ENOVIEW.
 */
int32_t isis_view_client_count(struct isis_group_t *group);

/**
 * The `index`-th client that was registered with the group when the view began; by identifier, not by age.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ENOVIEW, ISIS_ERANGE.
 */
int32_t isis_view_client(struct isis_group_t *group, uint32_t index, uint64_t *process);

/**
 * Multicasts `len` bytes (copied) to all members of the group, this process included, at their entry point `entry`
 * (0 to 255). `kind`: ISIS_FIFO, ISIS_CAUSAL, ISIS_TOTAL or ISIS_GLOBAL, + ISIS_SAFE if wanted. Never blocks.
 * From a client: not ISIS_GLOBAL (ISIS_EKIND), and at most 32 bytes less than `max_message`.
 *
 * Errors: ISIS_EAGAIN (the window is full, or this process is stalled: try again after ISIS_EVENT_WRITABLE), ISIS_EHANDLE, ISIS_ETHREAD,
 * ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_EKIND, ISIS_ETOOLONG, ISIS_ENOTMEMBER, ISIS_EENDED.
 */
int32_t isis_multicast(struct isis_group_t *group,
                       uint32_t kind,
                       uint32_t entry,
                       const void *data,
                       uint64_t len);

/**
 * Multicasts `len` bytes (copied) to all members of `count` groups (1 to 64, each once, all of one isis_t), at their entry point
 * `entry`. `kind`: ISIS_TOTAL, + ISIS_SAFE if wanted. Each group delivers the message once to each of its members, or none
 * of them does, whoever fails; and all members, of whichever groups, deliver the messages that they share in one order. A
 * process that is in several of the groups gets it in each. At most 23 bytes, and 10 for each group, less than
 * `max_message`. This process is a member of all of them, no client, and none is in sending-view mode. Never blocks. The
 * ticket that isis_last_sent tells of a group's handle is the message's there.
 *
 * In threaded mode what only the core can know comes by ISIS_EVENT_REFUSED, one for each of the groups with its ticket there.
 *
 * Errors: ISIS_EAGAIN (one of the windows is full, 64 such messages of this process are on their way, or it is stalled: try
 * again after ISIS_EVENT_WRITABLE for one of the groups), ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED,
 * ISIS_EINVAL, ISIS_EKIND (also: a group in sending-view mode), ISIS_ETOOLONG, ISIS_ENOTMEMBER, ISIS_EENDED.
 */
int32_t isis_multicast_groups(struct isis_group_t *const *groups,
                              uint32_t count,
                              uint32_t kind,
                              uint32_t entry,
                              const void *data,
                              uint64_t len);

/**
 * Sends `len` bytes (copied) to one member of the group, at its entry point `entry`, after everything that this process
 * has delivered or multicast in the group. Members may send to a registered client as well, who has no other way to hear of
 * what happens in the group; what a client sends to a process that is no member is dropped there.
 *
 * Errors: ISIS_EAGAIN, ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ETOOLONG,
 * ISIS_ENOTMEMBER, ISIS_ENOPROCESS, ISIS_EENDED.
 */
int32_t isis_send(struct isis_group_t *group,
                  uint64_t member,
                  uint32_t entry,
                  const void *data,
                  uint64_t len);

/**
 * Answers a message that is in delivery or held: `len` bytes (copied) to its sender, who gets them at ISIS_ENTRY_REPLY
 * with the number of its message in `answers_number`.
 *
 * Errors: ISIS_EAGAIN, ISIS_EMESSAGE, ISIS_EHANDLE (its instance is closed), ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL,
 * ISIS_ETOOLONG, ISIS_ENOTMEMBER, ISIS_ENOPROCESS, ISIS_EENDED.
 */
int32_t isis_reply(const struct isis_message_t *message,
                   const void *data,
                   uint64_t len);

/**
 * The ticket of the last message that this handle sent with success, by isis_multicast, isis_multicast_groups, isis_commit,
 * isis_send or isis_reply; 0 if there was none. The message shows it when it is delivered here, and each reply to it does:
 * `ticket` in isis_message_t. It says nothing else: compare it for equality only.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ENOTMEMBER.
 */
int32_t isis_last_sent(struct isis_group_t *group,
                       uint64_t *ticket);

/**
 * Asks to be told, by ISIS_EVENT_FLUSHED with this number, when all that this process multicast in the group before is
 * received by all members. `number` may be NULL. If this process is evicted first, ISIS_EVENT_REFUSED comes with this
 * number and ISIS_EENDED.
 *
 * Errors: ISIS_EAGAIN, ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_ENOTMEMBER, ISIS_EENDED.
 */
int32_t isis_flush(struct isis_group_t *group,
                   uint64_t *number);

/**
 * isis_flush, and waits for its end, running callbacks as isis_poll does. It also waits where isis_flush gives
 * ISIS_EAGAIN.
 *
 * Errors: ISIS_EAGAIN (there was no room for the command all the time), ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED,
 * ISIS_EPOISONED, ISIS_ENOTMEMBER, ISIS_EENDED (also when this process is evicted meanwhile), ISIS_ETIMEDOUT,
 * ISIS_EINCALLBACK.
 */
int32_t isis_flush_wait(struct isis_group_t *group,
                        uint64_t timeout_ns);

/**
 * The longest claim of this group, in bytes: 32 KiB, or less if the options `fragment` or `window` are small.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL.
 */
int32_t isis_claim_max(struct isis_group_t *group, uint64_t *max);

/**
 * Reserves room for a message of `len` bytes in the outgoing stream. One claim may be open in a group at a time; it
 * holds up nothing: the message gets its place, and its view, at isis_commit. Other multicasts may go out in between.
 * In inline mode the bytes are sent from where they are written. In threaded mode they are copied twice, as isis_multicast
 * copies them: into the ring to the engine's thread, and into the stream. (A claim in the ring itself would hold up
 * everything behind it until its commit; handing the buffer over costs as much as copying it.) Clients have no
 * stream: ISIS_ENOTMEMBER.
 *
 * Errors: ISIS_EAGAIN, ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ETOOLONG,
 * ISIS_ECLAIM, ISIS_ENOTMEMBER, ISIS_EENDED. On an error the claim is all zero.
 */
int32_t isis_claim(struct isis_group_t *group,
                   uint64_t len,
                   struct isis_claim_t *claim);

/**
 * Multicasts the claimed bytes, as isis_multicast. Clears the claim if it works; on an error it stays open.
 *
 * Errors: ISIS_EAGAIN, ISIS_ECLAIM, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_EKIND,
 * ISIS_ENOTMEMBER, ISIS_EENDED.
 */
int32_t isis_commit(struct isis_claim_t *claim, uint32_t kind, uint32_t entry);

/**
 * Gives a claim up, and clears it.
 *
 * Errors: ISIS_ECLAIM, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ENOTMEMBER, ISIS_EENDED.
 */
int32_t isis_abort(struct isis_claim_t *claim);

/**
 * A message's bytes, contiguous; NULL if there are none.
 *
 * Errors: ISIS_EMESSAGE, ISIS_EINVAL.
 */
int32_t isis_msg_data(const struct isis_message_t *message, const void **data);

/**
 * A message's length in bytes.
 *
 * Errors: ISIS_EMESSAGE, ISIS_EINVAL.
 */
int32_t isis_msg_len(const struct isis_message_t *message, uint64_t *len);

/**
 * A message's bytes where they are, in pieces: writes the first `capacity` of them to `slices` and returns how many
 * there are. `slices` may be NULL if `capacity` is 0.
 *
 * Errors: ISIS_EMESSAGE, ISIS_EINVAL.
 */
int32_t isis_msg_slices(const struct isis_message_t *message,
                        struct isis_slice_t *slices,
                        uint32_t capacity);

/**
 * The process that sent a message.
 *
 * Errors: ISIS_EMESSAGE, ISIS_EINVAL.
 */
int32_t isis_msg_sender(const struct isis_message_t *message, uint64_t *process);

/**
 * Returns the rank of a message's sender.
 *
 * Errors: ISIS_EMESSAGE.
 */
int32_t isis_msg_rank(const struct isis_message_t *message);

/**
 * Returns a message's entry point.
 *
 * Errors: ISIS_EMESSAGE.
 */
int32_t isis_msg_entry(const struct isis_message_t *message);

/**
 * Returns a message's kind: ISIS_FIFO and so on, without ISIS_SAFE.
 *
 * Errors: ISIS_EMESSAGE.
 */
int32_t isis_msg_kind(const struct isis_message_t *message);

/**
 * Returns 1 if a message was sent with ISIS_SAFE, else 0.
 *
 * Errors: ISIS_EMESSAGE.
 */
int32_t isis_msg_safe(const struct isis_message_t *message);

/**
 * The number of the view that a message was sent in.
 *
 * Errors: ISIS_EMESSAGE, ISIS_EINVAL.
 */
int32_t isis_msg_view(const struct isis_message_t *message, uint64_t *view);

/**
 * A message's number among its sender's in that view.
 *
 * Errors: ISIS_EMESSAGE, ISIS_EINVAL.
 */
int32_t isis_msg_number(const struct isis_message_t *message, uint64_t *number);

/**
 * A message's place in the total order of its view; 0 if it is not ISIS_TOTAL.
 *
 * Errors: ISIS_EMESSAGE, ISIS_EINVAL.
 */
int32_t isis_msg_order(const struct isis_message_t *message, uint64_t *order);

/**
 * The ticket of an own message, or of the message that a reply answers; see isis_message_t.
 *
 * Errors: ISIS_EMESSAGE, ISIS_EINVAL.
 */
int32_t isis_msg_ticket(const struct isis_message_t *message, uint64_t *ticket);

/**
 * The group that a message was sent in; NULL if its handle is closed.
 *
 * Errors: ISIS_EMESSAGE, ISIS_EINVAL.
 */
int32_t isis_msg_group(const struct isis_message_t *message, struct isis_group_t **group);

/**
 * Returns 1 and tells the view and the number of this process's message that is answered, if `message` is a reply; 0 if
 * not.
 *
 * Errors: ISIS_EMESSAGE, ISIS_EINVAL.
 */
int32_t isis_msg_answers(const struct isis_message_t *message,
                         uint64_t *view,
                         uint64_t *number);

/**
 * Keeps the message that is in delivery beyond its callback: until isis_msg_release, also beyond isis_close. It may move
 * its bytes: read them from `*held`. All held messages of an instance together have at most `hold_bytes` bytes.
 *
 * Errors: ISIS_EAGAIN (`hold_bytes` are held), ISIS_EMESSAGE, ISIS_EINVAL. On an error `*held` is NULL.
 */
int32_t isis_msg_hold(const struct isis_message_t *message,
                      const struct isis_message_t **held);

/**
 * Lets go of a held message. NULL is taken, and does nothing.
 *
 * Errors: ISIS_EMESSAGE (not held by this thread).
 */
int32_t isis_msg_release(const struct isis_message_t *held);

/**
 * Registers the callback for messages at an entry point: 0 to 255, ISIS_ENTRY_REPLY or ISIS_ENTRY_OTHER. NULL takes it
 * back. A message that no callback takes is counted and dropped.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL (entry).
 */
int32_t isis_entry(struct isis_t *isis,
                   uint32_t entry,
                   isis_message_fn callback,
                   void *user);

/**
 * Registers a callback for messages at an entry point that takes several at once; it takes the place of one that isis_entry
 * registered, and the other way round. NULL takes it back. For those who get many short messages: under load a call for
 * each costs more than the rest of its delivery. Several at once come in inline mode only; in threaded mode each is alone.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL (entry).
 */
int32_t isis_entry_batch(struct isis_t *isis,
                         uint32_t entry,
                         isis_batch_fn callback,
                         void *user);

/**
 * Registers the callback for events: views and all the rest. NULL takes it back.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED.
 */
int32_t isis_on_event(struct isis_t *isis, isis_event_fn callback, void *user);

/**
 * Returns why an ISIS_EVENT_SLOW came: ISIS_SLOW_WINDOW or ISIS_SLOW_VIEW_CHANGE; 0 for other events. For languages that
 * do not read the struct. `event` is the one that is in delivery.
 *
 * Errors: ISIS_EINVAL.
 */
int32_t isis_event_reason(const struct isis_event_t *event);

/**
 * Runs callbacks for what has happened, at most `max` events (0: all there are, up to 65536). Inline mode: turns the
 * loop once, and must be called often. Never blocks. Returns the number of events.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINCALLBACK, ISIS_ESYSTEM.
 */
int32_t isis_poll(struct isis_t *isis,
                  uint32_t max);

/**
 * Turns the loop, runs callbacks and sleeps in between, until isis_stop, or until the handle is closed. Returns 0.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINCALLBACK, ISIS_ESYSTEM, ISIS_EENDED
 * (evicted).
 */
int32_t isis_run(struct isis_t *isis);

/**
 * Makes isis_run return: the one that runs, or else the next. Any thread may call it, and callbacks, and signal
 * handlers. From another thread or a handler it takes up to 20 ms.
 *
 * Errors: ISIS_EHANDLE, ISIS_EFORKED.
 */
int32_t isis_stop(struct isis_t *isis);

/**
 * Returns a file descriptor for select, poll, epoll and their likes: readable when isis_poll has work, if
 * isis_wait_prepare returned 0 just before. It stays the same, and the library's: do not read or close it.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED.
 */
int32_t isis_fd(struct isis_t *isis);

/**
 * To be called before sleeping on isis_fd. Returns 1: there is work, call isis_poll; 0: armed, sleep.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_ESYSTEM.
 */
int32_t isis_wait_prepare(struct isis_t *isis);

/**
 * Opens a sender, for another thread to multicast into the group (threaded mode). The first thread that uses it is its
 * owner. FIFO order holds among the messages of one sender.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ENOTMEMBER, ISIS_EENDED,
 * ISIS_ELIMIT, ISIS_EUNSUPPORTED (inline mode). On an error `*sender` is NULL.
 */
int32_t isis_sender_open(struct isis_group_t *group,
                         struct isis_sender_t **sender);

/**
 * Multicasts through a sender; as isis_multicast. No event tells when a full window has room again.
 *
 * Errors: ISIS_EAGAIN, ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_EKIND,
 * ISIS_ETOOLONG, ISIS_ENOTMEMBER, ISIS_EENDED (the instance is closed).
 */
int32_t isis_sender_send(struct isis_sender_t *sender,
                         uint32_t kind,
                         uint32_t entry,
                         const void *data,
                         uint64_t len);

/**
 * The ticket of the last message that this sender sent with success, as isis_last_sent tells it of a group's handle. 0 if
 * there was none.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EINVAL.
 */
int32_t isis_sender_last_sent(struct isis_sender_t *sender,
                              uint64_t *ticket);

/**
 * Closes a sender. What it has sent still goes out.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED.
 */
int32_t isis_sender_close(struct isis_sender_t *sender);

/**
 * Writes the first `capacity` counters to `stats` and returns how many there are: the order does not change while the
 * handle is open. `stats` may be NULL if `capacity` is 0.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL.
 */
int32_t isis_stats(struct isis_t *isis,
                   struct isis_stat_t *stats,
                   uint32_t capacity);

/**
 * The value of the counter of this name.
 *
 * Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ERANGE (no such counter).
 */
int32_t isis_stats_value(struct isis_t *isis,
                         const char *name,
                         uint64_t *value);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ISIS_H */

/* As the functions of the same names, for structs of the size that the program was compiled with. */
#define isis_options_init(options) isis_options_init_size((options), sizeof *(options))
#define isis_join_options_init(options) isis_join_options_init_size((options), sizeof *(options))
