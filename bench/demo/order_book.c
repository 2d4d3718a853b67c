/*
 * A replicated order book: the program of `cargo demo`, and an example of a C program over libisis.
 *
 * Every member multicasts orders (ABCAST: all members match them in the same order, so all books are equal) and quotes
 * (CBCAST: a quote comes after the orders that its sender had seen). A newcomer gets the book by state transfer.
 *
 * It speaks to its driver in lines. Standard input: "load <orders a second> <quotes a second>", "stop",
 * "settle <process> <orders> <quotes> ... .", "quit". Standard output: "admitted", "view", "state", "rate", "lat", "sent",
 * "done", "failed". Times are CLOCK_MONOTONIC in nanoseconds.
 *
 * Usage: order_book <runtime directory> <threaded | inline>
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "isis.h"

#define ENTRY_ORDER 1
#define ENTRY_QUOTE 2
#define LEVELS 512
#define TRADERS 64
#define SECOND UINT64_C(1000000000)
#define SAMPLES 512

typedef struct {
    uint64_t number; /* of its sender: 1, 2, 3 ... */
    uint64_t sent_at;
    uint32_t price; /* a level */
    uint32_t quantity;
    uint32_t sell;
    uint32_t reserved;
    uint64_t padding[4]; /* as an order of a real venue: account, instrument ... */
} order_t;

typedef struct {
    uint64_t number;
    uint64_t orders_seen; /* how many orders its sender had matched */
    uint32_t bid;
    uint32_t ask;
} quote_t;

/* What a member knows of another one's messages. */
typedef struct {
    uint64_t process;
    uint64_t orders;
    uint64_t quotes;
    uint32_t bid;
    uint32_t ask;
} trader_t;

/* The group's state. It goes to newcomers as it lies in memory: all members of the demo run on one machine. */
typedef struct {
    uint64_t bids[LEVELS];
    uint64_t asks[LEVELS];
    uint64_t orders;
    uint64_t quotes;
    uint64_t trades;
    uint64_t volume;
    uint64_t history; /* digest of all trades, in their order */
    uint64_t trader_count;
    trader_t traders[TRADERS];
} book_t;

static book_t book;
static isis_t *isis;
static isis_group_t *group;
static uint64_t self;
static int in_view, loading, settling, leaving, closed;
static uint64_t order_step, quote_step, order_due, quote_due, orders_sent, quotes_sent;
static uint64_t lcg = 88172645463325252u;
static uint64_t samples[SAMPLES];
static uint32_t sample_count;
static trader_t wanted[TRADERS];
static uint32_t wanted_count;

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

static void fail(const char *what, int32_t code)
{
    printf("failed %s: %s (%s)\n", what, isis_strerror(code), isis_last_error());
    fflush(stdout);
    exit(1);
}

static uint64_t mix(uint64_t digest, uint64_t value)
{
    digest = (digest ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return digest ^ digest >> 31;
}

static uint32_t random_below(uint32_t limit)
{
    lcg ^= lcg << 13;
    lcg ^= lcg >> 7;
    lcg ^= lcg << 17;
    return (uint32_t)(lcg >> 33) % limit;
}

static trader_t *trader_of(uint64_t process)
{
    for (uint64_t i = 0; i < book.trader_count; i++)
        if (book.traders[i].process == process)
            return &book.traders[i];
    if (book.trader_count == TRADERS)
        fail("too many traders", ISIS_ELIMIT);
    trader_t *trader = &book.traders[book.trader_count++];
    memset(trader, 0, sizeof *trader);
    trader->process = process;
    return trader;
}

/* The same at all members that delivered the same orders in the same order, and the same quotes. */
static uint64_t digest_of_book(void)
{
    uint64_t digest = mix(mix(book.history, book.orders), mix(book.trades, book.volume));
    for (int level = 0; level < LEVELS; level++)
        digest = mix(mix(digest, book.bids[level]), book.asks[level]);
    uint64_t sum = 0; /* traders are met in different orders */
    for (uint64_t i = 0; i < book.trader_count; i++) {
        const trader_t *t = &book.traders[i];
        sum += mix(mix(mix(t->process, t->orders), t->quotes), (uint64_t)t->bid << 32 | t->ask);
    }
    return mix(digest, sum);
}

static void trade(uint32_t price, uint64_t quantity)
{
    book.trades++;
    book.volume += quantity;
    book.history = mix(book.history, (uint64_t)price << 32 ^ quantity);
}

static void match(const order_t *order)
{
    uint32_t price = order->price % LEVELS;
    uint64_t left = order->quantity;
    if (order->sell) {
        for (uint32_t level = LEVELS; left > 0 && level-- > price;) {
            uint64_t taken = book.bids[level] < left ? book.bids[level] : left;
            if (taken == 0)
                continue;
            book.bids[level] -= taken;
            left -= taken;
            trade(level, taken);
        }
        book.asks[price] += left;
    } else {
        for (uint32_t level = 0; left > 0 && level <= price; level++) {
            uint64_t taken = book.asks[level] < left ? book.asks[level] : left;
            if (taken == 0)
                continue;
            book.asks[level] -= taken;
            left -= taken;
            trade(level, taken);
        }
        book.bids[price] += left;
    }
}

static void write_samples(void)
{
    printf("lat");
    for (uint32_t i = 0; i < sample_count; i++)
        printf(" %" PRIu64, samples[i]);
    printf("\n");
    sample_count = 0;
}

static void on_order(void *user, const isis_message_t *message)
{
    (void)user;
    order_t order;
    if (message->len != sizeof order)
        fail("an order of a wrong length", ISIS_EINVAL);
    memcpy(&order, message->data, sizeof order);
    trader_t *trader = trader_of(message->sender);
    if (order.number != ++trader->orders)
        fail("an order is lost or came twice", ISIS_EINVAL);
    book.orders++;
    match(&order);
    if (message->sender == self) {
        samples[sample_count++] = now_ns() - order.sent_at;
        if (sample_count == SAMPLES)
            write_samples();
    }
}

static void on_quote(void *user, const isis_message_t *message)
{
    (void)user;
    quote_t quote;
    if (message->len != sizeof quote)
        fail("a quote of a wrong length", ISIS_EINVAL);
    memcpy(&quote, message->data, sizeof quote);
    trader_t *trader = trader_of(message->sender);
    if (quote.number != ++trader->quotes)
        fail("a quote is lost or came twice", ISIS_EINVAL);
    if (quote.orders_seen > book.orders)
        fail("a quote came before the orders that its sender had seen", ISIS_EINVAL);
    trader->bid = quote.bid;
    trader->ask = quote.ask;
    book.quotes++;
}

static void on_event(void *user, const isis_event_t *event)
{
    (void)user;
    switch (event->type) {
    case ISIS_EVENT_SYSTEM_JOINED:
        self = event->process;
        printf("admitted %" PRIu64 " %" PRIu64 "\n", now_ns(), self);
        break;
    case ISIS_EVENT_VIEW:
        in_view = 1;
        printf("view %" PRIu64 " %" PRIu64 " %" PRIu32 " %" PRIu32, now_ns(), event->view, event->members, event->rank);
        for (uint32_t rank = 0; rank < event->members; rank++)
            printf(" %" PRIu64, event->member_list[rank]);
        printf("\n");
        break;
    case ISIS_EVENT_STATE_RECEIVED:
        printf("state %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", now_ns(), event->number, book.orders,
               book.quotes);
        break;
    case ISIS_EVENT_EVICTED:
    case ISIS_EVENT_POISONED:
        fail("evicted or poisoned", ISIS_EENDED);
        break;
    case ISIS_EVENT_REFUSED:
        if (!leaving)
            fail(event->text, event->code);
        break;
    case ISIS_EVENT_LEFT:
        group = NULL;
        in_view = 0;
        break;
    case ISIS_EVENT_CLOSED:
        closed = 1;
        break;
    default:
        break;
    }
}

/* The state: a copy of the book as it is now; its bytes; its end; and the other side. */
static int32_t capture(void *user, void **snapshot)
{
    (void)user;
    *snapshot = malloc(sizeof book);
    if (*snapshot == NULL)
        return ISIS_ESYSTEM;
    memcpy(*snapshot, &book, sizeof book);
    return 0;
}

static int64_t next_bytes(void *user, void *snapshot, uint64_t offset, void *buffer, uint64_t capacity)
{
    (void)user;
    uint64_t left = sizeof book - offset, len = left < capacity ? left : capacity;
    memcpy(buffer, (char *)snapshot + offset, len);
    return (int64_t)len;
}

static void done(void *user, void *snapshot)
{
    (void)user;
    free(snapshot);
}

static void take_block(void *user, uint64_t offset, const void *data, uint64_t len, uint32_t last)
{
    (void)user;
    if (len > sizeof book || offset > sizeof book - len || (last && len > 0 && offset + len != sizeof book))
        fail("a book of another size", ISIS_EINVAL);
    if (len > 0)
        memcpy((char *)&book + offset, data, len);
}

static int try_multicast(uint32_t kind, uint32_t entry, const void *data, uint64_t len)
{
    int32_t code = isis_multicast(group, kind, entry, data, len);
    if (code < 0 && code != ISIS_EAGAIN)
        fail("isis_multicast", code);
    return code == 0;
}

static void next_due(uint64_t *due, uint64_t step, uint64_t now)
{
    *due += step;
    if (*due + SECOND / 100 < now) /* what a full window or a view change held up is not made up for */
        *due = now - SECOND / 100;
}

/* Sends what is due; gives the time of the next message. */
static uint64_t send_due(void)
{
    for (int burst = 0; burst < 256; burst++) {
        uint64_t now = now_ns();
        if (now < order_due && now < quote_due)
            break;
        if (now >= order_due) {
            order_t order;
            memset(&order, 0, sizeof order);
            order.number = orders_sent + 1;
            order.sent_at = now;
            order.sell = random_below(2);
            order.price = LEVELS / 2 + random_below(64) - 32;
            order.quantity = 1 + random_below(100);
            if (!try_multicast(ISIS_TOTAL, ENTRY_ORDER, &order, sizeof order))
                return now + SECOND / 5000;
            orders_sent++;
            next_due(&order_due, order_step, now);
        }
        if (now >= quote_due) {
            uint32_t middle = LEVELS / 2 + random_below(16) - 8;
            quote_t quote = {quotes_sent + 1, book.orders, middle - 1, middle + 1};
            if (!try_multicast(ISIS_CAUSAL, ENTRY_QUOTE, &quote, sizeof quote))
                return now + SECOND / 5000;
            quotes_sent++;
            next_due(&quote_due, quote_step, now);
        }
    }
    return order_due < quote_due ? order_due : quote_due;
}

static void obey(char *line)
{
    char *rest = NULL, *word = strtok_r(line, " ", &rest);
    if (word == NULL)
        return;
    if (strcmp(word, "load") == 0) {
        uint64_t orders = strtoull(rest, &rest, 10), quotes = strtoull(rest, &rest, 10);
        order_step = SECOND / (orders ? orders : 1);
        quote_step = SECOND / (quotes ? quotes : 1);
        order_due = quote_due = now_ns();
        loading = 1;
    } else if (strcmp(word, "stop") == 0) {
        loading = 0;
        write_samples();
        printf("sent %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", self, orders_sent, quotes_sent);
    } else if (strcmp(word, "settle") == 0) {
        wanted_count = 0;
        while (wanted_count < TRADERS && rest != NULL && *rest >= '0' && *rest <= '9') {
            trader_t *trader = &wanted[wanted_count++];
            trader->process = strtoull(rest, &rest, 10);
            trader->orders = strtoull(rest, &rest, 10);
            trader->quotes = strtoull(rest, &rest, 10);
            while (*rest == ' ')
                rest++;
        }
        settling = 1;
    } else if (strcmp(word, "quit") == 0) {
        leaving = 1;
    }
}

static void settle(void)
{
    for (uint32_t i = 0; i < wanted_count; i++) {
        const trader_t *trader = trader_of(wanted[i].process);
        if (trader->orders < wanted[i].orders || trader->quotes < wanted[i].quotes)
            return;
    }
    settling = 0;
    printf("done %016" PRIx64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", digest_of_book(), book.orders,
           book.quotes, book.trades, book.volume);
}

/* Reads what the driver wrote; its end is the end of this program. */
static void read_orders(void)
{
    static char text[1 << 16];
    static size_t used;
    ssize_t count = read(STDIN_FILENO, text + used, sizeof text - 1 - used);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (count <= 0)
        exit(3);
    used += (size_t)count;
    for (char *end; (end = memchr(text, '\n', used)) != NULL;) {
        *end = '\0';
        size_t len = (size_t)(end - text) + 1;
        obey(text);
        used -= len;
        memmove(text, text + len, used);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: order_book <runtime directory> <threaded | inline>\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 1 << 16);
    fcntl(STDIN_FILENO, F_SETFL, fcntl(STDIN_FILENO, F_GETFL) | O_NONBLOCK);
    lcg ^= (uint64_t)getpid() << 17;

    isis_options_t options;
    isis_join_options_t join;
    int32_t code = isis_options_init(&options);
    if (code == 0)
        code = isis_options_set(&options, "runtime_dir", argv[1]);
    if (code == 0)
        code = isis_options_set(&options, "mode", argv[2]);
    if (code == 0)
        code = isis_open(&options, &isis);
    if (code < 0)
        fail("isis_open", code);
    isis_on_event(isis, on_event, NULL);
    isis_entry(isis, ENTRY_ORDER, on_order, NULL);
    isis_entry(isis, ENTRY_QUOTE, on_quote, NULL);
    isis_join_options_init(&join);
    join.state_capture = capture;
    join.state_next = next_bytes;
    join.state_done = done;
    join.state_block = take_block;
    code = isis_group_join(isis, "order-book", &join, &group);
    if (code < 0)
        fail("isis_group_join", code);

    uint64_t told_at = now_ns(), asked_at = 0, close_at = 0;
    while (!closed) {
        int32_t events = isis_poll(isis, 1024);
        if (events < 0)
            fail("isis_poll", events);
        uint64_t now = now_ns(), next = now + SECOND / 20;
        if (loading && in_view)
            next = send_due();
        if (settling)
            settle();
        if (now - told_at > SECOND / 10) {
            told_at = now;
            if (sample_count > 0)
                write_samples();
            printf("rate %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", now, book.orders, book.quotes);
        }
        if (leaving && close_at == 0) {
            close_at = now;
            code = isis_close(isis);
            if (code < 0)
                fail("isis_close", code);
        }
        struct pollfd ready[2] = {{isis_fd(isis), POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
        struct timespec timeout = {0, 0};
        now = now_ns();
        if (events == 0 && !closed && next > now && isis_wait_prepare(isis) == 0)
            timeout.tv_nsec = (long)(next - now < SECOND / 20 ? next - now : SECOND / 20);
        else if (now - asked_at < SECOND / 1000)
            continue; /* busy: the driver can wait a millisecond */
        asked_at = now;
        if (ppoll(ready, 2, &timeout, NULL) > 0 && ready[1].revents != 0)
            read_orders();
    }
    return 0;
}
