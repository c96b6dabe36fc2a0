
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The clients of scripts/bench: one thread, a fixed number of connections that
 * are kept, each with one POST after the other, all of them timed, all of the
 * answers checked: 200, complete, and with the texts wanted.
 *
 *     -p port   -u path   -b file of the body   -c connections
 *     -s ms     begin no request after that time; or
 *     -n count  make so many requests
 *     -x text   stands in each head          -e text   each body ends so
 *     -k text   the key of connection N is this text and N
 *     -w        one request each; says "ready" when all have an answer's first
 *               bytes, and waits for the rest of them
 *
 * The last line it prints is JSON, times in nanoseconds.
 */


#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "load_answer.h"


#define LOAD_BUFFER     262144
#define LOAD_EVENTS     256

/* streams that are being opened at a time, with -w */
#define LOAD_OPENING    128

/* nothing comes for so long: it hangs */
#define LOAD_PATIENCE   30000


typedef struct {
    int                     port;
    const char             *path;
    const char             *file;
    const char             *key;
    const char             *want;
    const char             *end;
    uint64_t                ms;
    uint64_t                count;
    unsigned                conns;
    int                     wait;
} load_args_t;


typedef struct {
    int                     fd;
    int                     blocked;    /* waits until it is writable */
    char                   *request;    /* its head */
    size_t                  request_len;
    size_t                  sent;
    uint64_t                start;
    uint64_t                first;      /* 0: no byte of the body yet */
    load_answer_t           answer;
} load_conn_t;


typedef struct {
    uint64_t               *ns;
    size_t                  n;
    size_t                  size;
} load_times_t;


static int load_parse(int argc, char *argv[]);
static int load_body(const char *name);
static load_conn_t *load_connect(unsigned n);
static int load_loop(load_conn_t **conns);
static int load_next(load_conn_t *c);
static int load_send(load_conn_t *c);
static int load_watch(load_conn_t *c, uint32_t events);
static int load_read(load_conn_t *c);
static int load_done(load_conn_t *c);
static int load_failed(load_conn_t *c, const char *why);
static void load_time(load_times_t *times, uint64_t ns);
static uint64_t load_percentile(load_times_t *times, unsigned permille);
static int load_compare(const void *one, const void *two);
static uint64_t load_now(void);


static load_args_t   load_args;
static int           load_ep;
static char         *load_text;         /* the body of all requests */
static size_t        load_text_len;
static char          load_buffer[LOAD_BUFFER];
static uint64_t      load_begun;
static uint64_t      load_started;
static uint64_t      load_firsts;
static uint64_t      load_live;         /* requests under way */
static uint64_t      load_bytes;
static uint64_t      load_errors;
static char          load_error[LOAD_ERROR];
static load_times_t  load_whole;
static load_times_t  load_first;


int
main(int argc, char *argv[])
{
    uint64_t      ns;
    unsigned      i;
    load_conn_t **conns;

    if (load_parse(argc, argv) != 0) {
        fprintf(stderr, "load: see the head of t/bench/load.c\n");
        return 2;
    }

    conns = calloc(load_args.conns, sizeof(load_conn_t *));

    if (conns == NULL || load_body(load_args.file) != 0) {
        fprintf(stderr, "load: cannot read \"%s\"\n", load_args.file);
        return 1;
    }

    load_ep = epoll_create1(0);

    for (i = 0; i < load_args.conns; i++) {
        conns[i] = load_connect(i);

        if (conns[i] == NULL) {
            fprintf(stderr, "load: cannot connect: %s\n", strerror(errno));
            return 1;
        }
    }

    load_begun = load_now();

    if (load_loop(conns) != 0) {
        fprintf(stderr, "load: %s\n", load_error);
        return 1;
    }

    ns = load_now() - load_begun;

    printf("{\"requests\": %zu, \"errors\": %llu, \"error\": \"%s\","
           " \"wall_ns\": %llu, \"bytes\": %llu, \"p50_ns\": %llu,"
           " \"p99_ns\": %llu, \"first_p50_ns\": %llu,"
           " \"first_p99_ns\": %llu}\n",
           load_whole.n, (unsigned long long) load_errors, load_error,
           (unsigned long long) ns, (unsigned long long) load_bytes,
           (unsigned long long) load_percentile(&load_whole, 500),
           (unsigned long long) load_percentile(&load_whole, 990),
           (unsigned long long) load_percentile(&load_first, 500),
           (unsigned long long) load_percentile(&load_first, 990));

    return 0;
}


static int
load_parse(int argc, char *argv[])
{
    int  c;

    load_args.conns = 1;
    load_args.key = "sk-bench-";

    while ((c = getopt(argc, argv, "p:u:b:c:s:n:x:e:k:w")) != -1) {

        switch (c) {

        case 'p':
            load_args.port = (int) strtol(optarg, NULL, 10);
            break;

        case 'u':
            load_args.path = optarg;
            break;

        case 'b':
            load_args.file = optarg;
            break;

        case 'c':
            load_args.conns = (unsigned) strtoul(optarg, NULL, 10);
            break;

        case 's':
            load_args.ms = strtoull(optarg, NULL, 10);
            break;

        case 'n':
            load_args.count = strtoull(optarg, NULL, 10);
            break;

        case 'x':
            load_args.want = optarg;
            break;

        case 'e':
            load_args.end = optarg;
            break;

        case 'k':
            load_args.key = optarg;
            break;

        case 'w':
            load_args.wait = 1;
            break;

        default:
            return -1;
        }
    }

    if (load_args.wait) {
        load_args.count = load_args.conns;
    }

    return (load_args.port == 0 || load_args.path == NULL
            || load_args.file == NULL || load_args.conns == 0
            || (load_args.ms == 0 && load_args.count == 0)
            || (load_args.end != NULL && strlen(load_args.end) > LOAD_TAIL))
           ? -1 : 0;
}


static int
load_body(const char *name)
{
    FILE         *f;
    struct stat   st;

    f = fopen(name, "rb");

    if (f == NULL || fstat(fileno(f), &st) != 0) {
        return -1;
    }

    load_text_len = (size_t) st.st_size;
    load_text = malloc(load_text_len + 1);

    if (load_text == NULL
        || fread(load_text, 1, load_text_len, f) != load_text_len)
    {
        return -1;
    }

    fclose(f);

    return 0;
}


static load_conn_t *
load_connect(unsigned n)
{
    int                 on, len;
    load_conn_t        *c;
    struct epoll_event  ev;
    struct sockaddr_in  sin;

    c = malloc(sizeof(load_conn_t));

    if (c == NULL) {
        return NULL;
    }

    memset(c, 0, offsetof(load_conn_t, answer));

    len = asprintf(&c->request,
                   "POST %s HTTP/1.1\r\nHost: bench\r\n"
                   "Authorization: Bearer %s%u\r\n"
                   "Content-Type: application/json\r\n"
                   "Content-Length: %zu\r\n\r\n",
                   load_args.path, load_args.key, n, load_text_len);

    c->fd = socket(AF_INET, SOCK_STREAM, 0);

    if (len == -1 || c->fd == -1) {
        return NULL;
    }

    c->request_len = (size_t) len;

    on = 1;

    memset(&sin, 0, sizeof(struct sockaddr_in));
    sin.sin_family = AF_INET;
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sin.sin_port = htons((unsigned short) load_args.port);

    if (connect(c->fd, (struct sockaddr *) &sin, sizeof(struct sockaddr_in))
        == -1
        || fcntl(c->fd, F_SETFL, O_NONBLOCK) == -1
        || setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(int)) == -1)
    {
        return NULL;
    }

    ev.events = EPOLLIN;
    ev.data.ptr = c;

    return (epoll_ctl(load_ep, EPOLL_CTL_ADD, c->fd, &ev) == 0) ? c : NULL;
}


static int
load_loop(load_conn_t **conns)
{
    int                 i, n, ready;
    unsigned            next;
    load_conn_t        *c;
    struct epoll_event  events[LOAD_EVENTS];

    next = 0;
    ready = 0;

    for ( ;; ) {

        while (next < load_args.conns
               && (!load_args.wait
                   || load_started - load_firsts < LOAD_OPENING))
        {
            if (load_next(conns[next++]) != 0) {
                return -1;
            }
        }

        if (load_args.wait && !ready && load_firsts == load_args.conns) {
            ready = 1;
            printf("ready\n");
            fflush(stdout);
        }

        if (load_live == 0) {
            return 0;
        }

        n = epoll_wait(load_ep, events, LOAD_EVENTS, LOAD_PATIENCE);

        if (n == 0) {
            snprintf(load_error, sizeof(load_error),
                     "no answer for %d s", LOAD_PATIENCE / 1000);
            return -1;
        }

        for (i = 0; i < n; i++) {
            c = events[i].data.ptr;

            if (c->fd == -1) {
                continue;
            }

            if (c->blocked && (events[i].events & EPOLLOUT)
                && load_send(c) != 0)
            {
                return -1;
            }

            if (c->fd != -1 && (events[i].events
                                & (EPOLLIN|EPOLLHUP|EPOLLERR))
                && load_read(c) != 0)
            {
                return -1;
            }
        }
    }
}


/* The next request of a connection, if there is to be one. */

static int
load_next(load_conn_t *c)
{
    uint64_t  now;

    now = load_now();

    if ((load_args.count != 0 && load_started >= load_args.count)
        || (load_args.ms != 0 && now - load_begun >= load_args.ms * 1000000))
    {
        close(c->fd);
        c->fd = -1;
        return 0;
    }

    c->sent = 0;
    c->first = 0;
    c->start = now;
    load_answer_init(&c->answer);

    load_started++;
    load_live++;

    return load_send(c);
}


static int
load_send(load_conn_t *c)
{
    int           n;
    size_t        body;
    ssize_t       sent;
    struct iovec  iov[2];

    n = 0;
    body = 0;

    if (c->sent < c->request_len) {
        iov[n].iov_base = c->request + c->sent;
        iov[n++].iov_len = c->request_len - c->sent;

    } else {
        body = c->sent - c->request_len;
    }

    iov[n].iov_base = load_text + body;
    iov[n++].iov_len = load_text_len - body;

    sent = writev(c->fd, iov, n);

    if (sent == -1 && errno != EAGAIN) {
        return load_failed(c, "a request could not be sent");
    }

    c->sent += (sent > 0) ? (size_t) sent : 0;

    if (c->sent < c->request_len + load_text_len) {

        if (c->blocked) {
            return 0;
        }

        c->blocked = 1;
        return load_watch(c, EPOLLIN|EPOLLOUT);
    }

    if (c->blocked) {
        c->blocked = 0;
        return load_watch(c, EPOLLIN);
    }

    return 0;
}


static int
load_watch(load_conn_t *c, uint32_t events)
{
    struct epoll_event  ev;

    ev.events = events;
    ev.data.ptr = c;

    return epoll_ctl(load_ep, EPOLL_CTL_MOD, c->fd, &ev);
}


static int
load_read(load_conn_t *c)
{
    char            error[LOAD_ERROR];
    ssize_t         n;
    uint64_t        body;
    const char     *p;
    load_answer_t  *answer;

    answer = &c->answer;
    n = recv(c->fd, load_buffer, LOAD_BUFFER, 0);

    if (n == -1 && errno == EAGAIN) {
        return 0;
    }

    if (n <= 0) {
        return load_failed(c, "a connection was closed within an answer");
    }

    body = answer->body;
    p = load_answer_feed(answer, load_buffer, load_buffer + n, load_args.want,
                         error);

    if (p == NULL) {
        return load_failed(c, error);
    }

    load_bytes += answer->body - body;

    if (c->first == 0 && answer->body > 0) {
        c->first = load_now();
        load_firsts++;
    }

    if (answer->state != LOAD_DONE) {
        return 0;
    }

    if (p < load_buffer + n) {
        return load_failed(c, "more came than the answer");
    }

    return load_done(c);
}


static int
load_done(load_conn_t *c)
{
    uint64_t  now;

    now = load_now();

    if (load_args.end != NULL
        && !load_answer_ends(&c->answer, load_args.end))
    {
        return load_failed(c, "an answer does not end as it should");
    }

    load_live--;
    load_time(&load_whole, now - c->start);
    load_time(&load_first, c->first - c->start);

    return load_next(c);
}


/* An error of a call is counted, and ends its connection. */

static int
load_failed(load_conn_t *c, const char *why)
{
    if (load_errors == 0) {
        snprintf(load_error, sizeof(load_error), "%s", why);
    }

    load_errors++;
    load_live--;

    if (c->first == 0) {
        load_firsts++;
    }

    close(c->fd);
    c->fd = -1;

    return 0;
}


static void
load_time(load_times_t *times, uint64_t ns)
{
    if (times->n == times->size) {
        times->size = times->size * 2 + 65536;
        times->ns = realloc(times->ns, times->size * sizeof(uint64_t));

        if (times->ns == NULL) {
            abort();
        }
    }

    times->ns[times->n++] = ns;
}


static uint64_t
load_percentile(load_times_t *times, unsigned permille)
{
    if (times->n == 0) {
        return 0;
    }

    qsort(times->ns, times->n, sizeof(uint64_t), load_compare);

    return times->ns[(times->n - 1) * permille / 1000];
}


static int
load_compare(const void *one, const void *two)
{
    uint64_t  a, b;

    a = *(const uint64_t *) one;
    b = *(const uint64_t *) two;

    return (a > b) - (a < b);
}


static uint64_t
load_now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}
