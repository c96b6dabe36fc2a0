
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The Redis clients of scripts/bench: what a module would send, without a
 * module.  "resp socket file connections ms" repeats the sequences of commands
 * in the file, on each connection one command after the other, and each time
 * with a new hold id; it counts errors, and times each command.
 *
 * The file: a line "sequences steps hex", then for each step of each sequence
 * a line "length offsets off1 off2 ...", then the bytes of all commands, as
 * they travel.  At each offset there is an id: 32 hex digits if hex is 1, else
 * 16 bytes.
 *
 * The last line it prints is JSON, times in nanoseconds.
 */


#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>


#define RESP_STEPS      8
#define RESP_SEQUENCES  256
#define RESP_OFFSETS    8
#define RESP_BUFFER     65536
#define RESP_EVENTS     64
#define RESP_PATIENCE   10000


typedef struct {
    size_t                  len;
    size_t                  n;
    size_t                  off[RESP_OFFSETS];
    char                   *data;
} resp_step_t;


typedef struct {
    int                     fd;
    size_t                  sequence;
    size_t                  step;
    char                    id[32];
    uint64_t                start;
    size_t                  len;
    char                    buffer[RESP_BUFFER];
} resp_conn_t;


static int resp_load(const char *name);
static resp_conn_t *resp_connect(const char *path);
static int resp_loop(size_t n);
static void resp_id(resp_conn_t *c);
static int resp_send(resp_conn_t *c);
static int resp_read(resp_conn_t *c);
static int resp_complete(const resp_conn_t *c);
static void resp_time(size_t step, uint64_t ns);
static int resp_compare(const void *one, const void *two);
static uint64_t resp_now(void);


static size_t       resp_sequences;
static size_t       resp_steps;
static size_t       resp_hex;
static resp_step_t  resp_step[RESP_SEQUENCES][RESP_STEPS];
static int          resp_ep;
static uint64_t     resp_end;
static uint64_t     resp_seed;
static uint64_t     resp_done;
static uint64_t     resp_errors;
static char         resp_error[128];
static uint64_t    *resp_ns[RESP_STEPS];
static size_t       resp_n[RESP_STEPS];
static size_t       resp_size[RESP_STEPS];


int
main(int argc, char *argv[])
{
    size_t              i, conns;
    uint64_t            begun;
    resp_conn_t        *c;
    struct epoll_event  ev;

    if (argc != 5 || resp_load(argv[2]) != 0) {
        fprintf(stderr, "usage: resp socket file connections ms\n");
        return 2;
    }

    conns = strtoul(argv[3], NULL, 10);
    resp_ep = epoll_create1(0);
    begun = resp_now();
    resp_seed = begun;
    resp_end = begun + strtoull(argv[4], NULL, 10) * 1000000;

    for (i = 0; i < conns; i++) {
        c = resp_connect(argv[1]);

        if (c == NULL) {
            fprintf(stderr, "resp: cannot connect: %s\n", strerror(errno));
            return 1;
        }

        c->sequence = i % resp_sequences;

        ev.events = EPOLLIN;
        ev.data.ptr = c;

        if (epoll_ctl(resp_ep, EPOLL_CTL_ADD, c->fd, &ev) != 0
            || resp_send(c) != 0)
        {
            return 1;
        }
    }

    if (resp_loop(conns) != 0) {
        fprintf(stderr, "resp: no answer, or a cut one\n");
        return 1;
    }

    printf("{\"sequences\": %llu, \"errors\": %llu, \"error\": \"%s\","
           " \"wall_ns\": %llu, \"steps\": [",
           (unsigned long long) resp_done, (unsigned long long) resp_errors,
           resp_error, (unsigned long long) (resp_now() - begun));

    for (i = 0; i < resp_steps; i++) {
        qsort(resp_ns[i], resp_n[i], sizeof(uint64_t), resp_compare);

        printf("%s{\"p50_ns\": %llu, \"p99_ns\": %llu}", (i == 0) ? "" : ", ",
               (unsigned long long) resp_ns[i][(resp_n[i] - 1) / 2],
               (unsigned long long) resp_ns[i][(resp_n[i] - 1) * 99 / 100]);
    }

    printf("]}\n");

    return 0;
}


static int
resp_load(const char *name)
{
    FILE         *f;
    size_t        i, k, s;
    resp_step_t  *step;

    f = fopen(name, "rb");

    if (f == NULL
        || fscanf(f, "%zu %zu %zu", &resp_sequences, &resp_steps, &resp_hex)
           != 3
        || resp_sequences == 0 || resp_sequences > RESP_SEQUENCES
        || resp_steps == 0 || resp_steps > RESP_STEPS)
    {
        return -1;
    }

    for (i = 0; i < resp_sequences; i++) {

        for (s = 0; s < resp_steps; s++) {
            step = &resp_step[i][s];

            if (fscanf(f, "%zu %zu", &step->len, &step->n) != 2
                || step->n > RESP_OFFSETS)
            {
                return -1;
            }

            for (k = 0; k < step->n; k++) {

                if (fscanf(f, "%zu", &step->off[k]) != 1) {
                    return -1;
                }
            }
        }
    }

    if (fgetc(f) != '\n') {
        return -1;
    }

    for (i = 0; i < resp_sequences; i++) {

        for (s = 0; s < resp_steps; s++) {
            step = &resp_step[i][s];
            step->data = malloc(step->len + 1);

            if (step->data == NULL
                || fread(step->data, 1, step->len, f) != step->len)
            {
                return -1;
            }
        }
    }

    fclose(f);

    return 0;
}


static resp_conn_t *
resp_connect(const char *path)
{
    resp_conn_t         *c;
    struct sockaddr_un   sun;

    c = calloc(1, sizeof(resp_conn_t));

    if (c == NULL) {
        return NULL;
    }

    memset(&sun, 0, sizeof(struct sockaddr_un));
    sun.sun_family = AF_UNIX;
    snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);

    c->fd = socket(AF_UNIX, SOCK_STREAM, 0);

    if (c->fd == -1
        || connect(c->fd, (struct sockaddr *) &sun,
                   sizeof(struct sockaddr_un)) == -1
        || fcntl(c->fd, F_SETFL, O_NONBLOCK) == -1)
    {
        return NULL;
    }

    return c;
}


static int
resp_loop(size_t n)
{
    int                 i, got;
    resp_conn_t        *c;
    struct epoll_event  events[RESP_EVENTS];

    while (n > 0) {
        got = epoll_wait(resp_ep, events, RESP_EVENTS, RESP_PATIENCE);

        if (got <= 0) {
            return -1;
        }

        for (i = 0; i < got; i++) {
            c = events[i].data.ptr;

            if (resp_read(c) != 0) {
                return -1;
            }

            if (c->fd == -1) {
                n--;
            }
        }
    }

    return 0;
}


/* An id that was never there. */

static void
resp_id(resp_conn_t *c)
{
    int       i;
    uint64_t  x;

    for (i = 0; i < 32; i++) {
        resp_seed += 0x9e3779b97f4a7c15u;
        x = (resp_seed ^ (resp_seed >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        x ^= x >> 31;

        c->id[i] = resp_hex ? "0123456789abcdef"[x & 15] : (char) x;
    }
}


static int
resp_send(resp_conn_t *c)
{
    size_t        i;
    resp_step_t  *step;

    if (c->step == 0) {
        resp_id(c);
    }

    step = &resp_step[c->sequence][c->step];

    for (i = 0; i < step->n; i++) {
        memcpy(step->data + step->off[i], c->id, resp_hex ? 32 : 16);
    }

    c->len = 0;
    c->start = resp_now();

    return (send(c->fd, step->data, step->len, MSG_NOSIGNAL)
            == (ssize_t) step->len) ? 0 : -1;
}


static int
resp_read(resp_conn_t *c)
{
    ssize_t  n;

    n = recv(c->fd, c->buffer + c->len, RESP_BUFFER - 1 - c->len, 0);

    if (n == -1 && errno == EAGAIN) {
        return 0;
    }

    if (n <= 0) {
        return -1;
    }

    c->len += (size_t) n;
    c->buffer[c->len] = '\0';

    if (!resp_complete(c)) {
        return 0;
    }

    resp_time(c->step, resp_now() - c->start);

    if (c->buffer[0] == '-') {

        if (resp_errors++ == 0) {
            c->buffer[strcspn(c->buffer, "\r\"\\")] = '\0';
            snprintf(resp_error, sizeof(resp_error), "%.100s", c->buffer + 1);
        }
    }

    c->step++;

    if (c->step == resp_steps) {
        c->step = 0;
        c->sequence = (c->sequence + 1) % resp_sequences;
        resp_done++;

        if (resp_now() >= resp_end) {
            close(c->fd);
            c->fd = -1;
            return 0;
        }
    }

    return resp_send(c);
}


/* Is it a whole answer?  Each is read from its beginning: they are short. */

static int
resp_complete(const resp_conn_t *c)
{
    long         len, left;
    const char  *p, *end, *last;

    p = c->buffer;
    last = c->buffer + c->len;

    for (left = 1; left > 0; left--) {
        end = memchr(p, '\n', (size_t) (last - p));

        if (end == NULL) {
            return 0;
        }

        len = strtol(p + 1, NULL, 10);

        if (*p == '*' && len > 0) {
            left += len;
        }

        if (*p == '$' && len >= 0) {

            if (last - end - 1 < len + 2) {
                return 0;
            }

            end += len + 2;
        }

        p = end + 1;
    }

    return 1;
}


static void
resp_time(size_t step, uint64_t ns)
{
    if (resp_n[step] == resp_size[step]) {
        resp_size[step] = resp_size[step] * 2 + 65536;
        resp_ns[step] = realloc(resp_ns[step],
                                resp_size[step] * sizeof(uint64_t));

        if (resp_ns[step] == NULL) {
            abort();
        }
    }

    resp_ns[step][resp_n[step]++] = ns;
}


static int
resp_compare(const void *one, const void *two)
{
    uint64_t  a, b;

    a = *(const uint64_t *) one;
    b = *(const uint64_t *) two;

    return (a > b) - (a < b);
}


static uint64_t
resp_now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}
