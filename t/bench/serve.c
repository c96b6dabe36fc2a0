
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The provider of scripts/bench: one thread that answers with bytes made
 * before, for a few system calls a request, so that the proxy before it is
 * what is measured.  "serve port name=file ..."; port 0 picks one, and the
 * first line says "listening on PORT".  The path "/name/..." chooses the
 * answer, any other gets the first one.
 *
 * An answer's file is one line "kind n len1 ... lenN" and then N pieces, which
 * make a whole HTTP answer:
 *
 *     whole   all at once
 *     each    a piece at a time, in turn with all other answers under way
 *     paced   a piece every other millisecond
 *     hold    the first piece; the rest when SIGUSR1 comes
 */


#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>


#define SERVE_ANSWERS   16
#define SERVE_HEAD      4096
#define SERVE_BODY      262144
#define SERVE_EVENTS    256
#define SERVE_FD_MAX    131072

#define SERVE_PACE_NS   2000000


typedef enum {
    SERVE_WHOLE = 0,
    SERVE_EACH,
    SERVE_PACED,
    SERVE_HOLD
} serve_kind_e;


typedef struct {
    const char             *name;
    serve_kind_e            kind;
    size_t                  n;
    size_t                 *end;        /* of each piece */
    char                   *data;
} serve_answer_t;


typedef struct serve_conn_s  serve_conn_t;

struct serve_conn_s {
    int                     fd;
    int                     blocked;    /* waits until it is writable */
    size_t                  head_len;
    size_t                  body_left;
    const serve_answer_t   *answer;     /* being sent, or NULL */
    size_t                  piece;
    size_t                  sent;
    int                     listed;     /* in the list of those under way */
    serve_conn_t           *prev;
    serve_conn_t           *next;
    char                    head[SERVE_HEAD];
};


static int serve_load(serve_answer_t *answer, char *arg);
static int serve_listen(int port);
static void serve_loop(int listener);
static int serve_timer(void);
static void serve_round(serve_conn_t *list);
static void serve_accept(int listener);
static void serve_read(serve_conn_t *c);
static size_t serve_head(serve_conn_t *c);
static void serve_begin(serve_conn_t *c);
static void serve_piece(serve_conn_t *c);
static void serve_watch(serve_conn_t *c, unsigned events);
static void serve_list(serve_conn_t *c);
static void serve_unlist(serve_conn_t *c);
static void serve_close(serve_conn_t *c);
static void serve_signal(int signo);


static int                    serve_ep;
static size_t                 serve_n;
static serve_answer_t         serve_answers[SERVE_ANSWERS];
static serve_conn_t          *serve_conns[SERVE_FD_MAX];
static serve_conn_t           serve_active;
static serve_conn_t           serve_paced;
static char                   serve_body[SERVE_BODY];
static volatile sig_atomic_t  serve_release;


int
main(int argc, char *argv[])
{
    int               i, listener;
    sigset_t          usr1;
    struct sigaction  sa;

    if (argc < 3 || argc - 2 > SERVE_ANSWERS) {
        fprintf(stderr, "usage: serve port name=file ...\n");
        return 2;
    }

    for (i = 2; i < argc; i++) {

        if (serve_load(&serve_answers[i - 2], argv[i]) != 0) {
            fprintf(stderr, "serve: cannot use \"%s\"\n", argv[i]);
            return 1;
        }
    }

    serve_n = (size_t) argc - 2;
    serve_active.next = &serve_active;
    serve_active.prev = &serve_active;
    serve_paced.next = &serve_paced;
    serve_paced.prev = &serve_paced;

    memset(&sa, 0, sizeof(struct sigaction));
    sa.sa_handler = serve_signal;
    sigaction(SIGUSR1, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);

    /* comes only while nothing else is done */

    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, NULL);

    listener = serve_listen((int) strtol(argv[1], NULL, 10));

    if (listener == -1) {
        fprintf(stderr, "serve: cannot listen: %s\n", strerror(errno));
        return 1;
    }

    serve_loop(listener);

    return 1;
}


static int
serve_load(serve_answer_t *answer, char *arg)
{
    FILE    *f;
    char    *file, kind[16];
    size_t   i, len, end;

    file = strchr(arg, '=');

    if (file == NULL) {
        return -1;
    }

    *file++ = '\0';
    answer->name = arg;

    f = fopen(file, "rb");

    if (f == NULL) {
        return -1;
    }

    if (fscanf(f, "%15s %zu", kind, &answer->n) != 2 || answer->n == 0
        || answer->n > 1000000)
    {
        fclose(f);
        return -1;
    }

    answer->kind = (strcmp(kind, "each") == 0) ? SERVE_EACH
                   : (strcmp(kind, "paced") == 0) ? SERVE_PACED
                   : (strcmp(kind, "hold") == 0) ? SERVE_HOLD : SERVE_WHOLE;
    answer->end = calloc(answer->n, sizeof(size_t));
    end = 0;

    for (i = 0; answer->end != NULL && i < answer->n; i++) {

        if (fscanf(f, "%zu", &len) != 1) {
            fclose(f);
            return -1;
        }

        end += len;
        answer->end[i] = end;
    }

    answer->data = malloc(end + 1);

    if (answer->end == NULL || answer->data == NULL || fgetc(f) != '\n'
        || fread(answer->data, 1, end, f) != end)
    {
        fclose(f);
        return -1;
    }

    fclose(f);

    return 0;
}


static int
serve_listen(int port)
{
    int                 fd, on;
    socklen_t           len;
    struct sockaddr_in  sin;

    fd = socket(AF_INET, SOCK_STREAM|SOCK_NONBLOCK, 0);

    if (fd == -1) {
        return -1;
    }

    on = 1;
    len = sizeof(struct sockaddr_in);

    memset(&sin, 0, len);
    sin.sin_family = AF_INET;
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sin.sin_port = htons((unsigned short) port);

    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(int)) == -1
        || bind(fd, (struct sockaddr *) &sin, len) == -1
        || listen(fd, 4096) == -1
        || getsockname(fd, (struct sockaddr *) &sin, &len) == -1)
    {
        return -1;
    }

    printf("listening on %d\n", ntohs(sin.sin_port));
    fflush(stdout);

    return fd;
}


static void
serve_loop(int listener)
{
    int                 i, n, timer;
    sigset_t            none;
    uint64_t            ticks;
    serve_conn_t       *c;
    struct epoll_event  ev, events[SERVE_EVENTS];

    sigemptyset(&none);
    serve_ep = epoll_create1(0);

    ev.events = EPOLLIN;
    ev.data.fd = listener;
    epoll_ctl(serve_ep, EPOLL_CTL_ADD, listener, &ev);

    timer = serve_timer();

    ev.data.fd = timer;
    epoll_ctl(serve_ep, EPOLL_CTL_ADD, timer, &ev);

    for ( ;; ) {
        n = epoll_pwait(serve_ep, events, SERVE_EVENTS,
                        (serve_active.next == &serve_active) ? -1 : 0, &none);

        for (i = 0; i < n; i++) {

            if (events[i].data.fd == listener) {
                serve_accept(listener);
                continue;
            }

            if (events[i].data.fd == timer) {

                if (read(timer, &ticks, sizeof(uint64_t)) > 0) {
                    serve_round(&serve_paced);
                }

                continue;
            }

            c = serve_conns[events[i].data.fd];

            if (c == NULL) {
                continue;
            }

            if (c->blocked && (events[i].events & EPOLLOUT)) {
                c->blocked = 0;
                serve_watch(c, EPOLLIN);
                serve_list(c);
            }

            if (events[i].events & (EPOLLIN|EPOLLHUP|EPOLLERR)) {
                serve_read(c);
            }
        }

        for (i = 0; serve_release && i < SERVE_FD_MAX; i++) {
            c = serve_conns[i];

            if (c != NULL && c->answer != NULL && !c->blocked) {
                serve_list(c);
            }
        }

        serve_release = 0;

        serve_round(&serve_active);

    }
}


static int
serve_timer(void)
{
    int                fd;
    struct itimerspec  its;

    fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);

    memset(&its, 0, sizeof(struct itimerspec));
    its.it_value.tv_nsec = SERVE_PACE_NS;
    its.it_interval.tv_nsec = SERVE_PACE_NS;
    timerfd_settime(fd, 0, &its, NULL);

    return fd;
}


/* One piece for each of those that are in the list now. */

static void
serve_round(serve_conn_t *list)
{
    serve_conn_t         *c, *next;
    static serve_conn_t   last;

    if (list->next == list) {
        return;
    }

    last.prev = list->prev;
    last.next = list;
    last.prev->next = &last;
    list->prev = &last;

    for (c = list->next; c != &last; c = next) {
        next = c->next;
        serve_piece(c);
    }

    last.prev->next = last.next;
    last.next->prev = last.prev;
}


static void
serve_accept(int listener)
{
    int                 fd, on;
    serve_conn_t       *c;
    struct epoll_event  ev;

    for ( ;; ) {
        fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);

        if (fd == -1) {
            return;
        }

        c = (fd < SERVE_FD_MAX) ? malloc(sizeof(serve_conn_t)) : NULL;

        if (c == NULL) {
            close(fd);
            continue;
        }

        memset(c, 0, offsetof(serve_conn_t, head));
        c->fd = fd;
        serve_conns[fd] = c;

        on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(int));

        ev.events = EPOLLIN;
        ev.data.fd = fd;
        epoll_ctl(serve_ep, EPOLL_CTL_ADD, fd, &ev);
    }
}


static void
serve_read(serve_conn_t *c)
{
    size_t   len;
    ssize_t  n;

    if (c->body_left > 0) {
        len = (c->body_left < SERVE_BODY) ? c->body_left : SERVE_BODY;
        n = recv(c->fd, serve_body, len, 0);

    } else {
        n = recv(c->fd, c->head + c->head_len, SERVE_HEAD - 1 - c->head_len,
                 0);
    }

    if (n == -1 && errno == EAGAIN) {
        return;
    }

    /* one request after the other: nothing may come before the answer went */

    if (n <= 0 || c->answer != NULL) {
        serve_close(c);
        return;
    }

    if (c->body_left > 0) {
        c->body_left -= (size_t) n;

        if (c->body_left == 0) {
            serve_begin(c);
        }

        return;
    }

    c->head_len += (size_t) n;
    c->head[c->head_len] = '\0';

    len = serve_head(c);

    if (len == 0) {

        if (c->head_len == SERVE_HEAD - 1) {
            serve_close(c);
        }

        return;
    }

    if (c->body_left < c->head_len - len) {
        serve_close(c);
        return;
    }

    c->body_left -= c->head_len - len;

    if (c->body_left == 0) {
        serve_begin(c);
    }
}


/* The length of the head, 0 if it is not complete; sets body_left. */

static size_t
serve_head(serve_conn_t *c)
{
    char  *end, *p;

    end = strstr(c->head, "\r\n\r\n");

    if (end == NULL) {
        return 0;
    }

    p = strcasestr(c->head, "\r\ncontent-length:");

    c->body_left = (p != NULL && p < end) ? strtoul(p + 17, NULL, 10) : 0;

    return (size_t) (end - c->head) + 4;
}


static void
serve_begin(serve_conn_t *c)
{
    char    *path;
    size_t   i, len;

    c->answer = &serve_answers[0];
    path = strchr(c->head, '/');

    for (i = 0; path != NULL && i < serve_n; i++) {
        len = strlen(serve_answers[i].name);

        if (strncmp(path + 1, serve_answers[i].name, len) == 0
            && path[1 + len] == '/')
        {
            c->answer = &serve_answers[i];
            break;
        }
    }

    c->head_len = 0;
    c->piece = 0;
    c->sent = 0;

    serve_piece(c);
}


static void
serve_piece(serve_conn_t *c)
{
    size_t                 end;
    ssize_t                n;
    const serve_answer_t  *answer;

    answer = c->answer;
    end = answer->end[(answer->kind == SERVE_WHOLE) ? answer->n - 1 : c->piece];

    n = send(c->fd, answer->data + c->sent, end - c->sent, MSG_NOSIGNAL);

    if (n == -1 && errno != EAGAIN) {
        serve_close(c);
        return;
    }

    c->sent += (n > 0) ? (size_t) n : 0;

    if (c->sent < end) {
        serve_unlist(c);
        c->blocked = 1;
        serve_watch(c, EPOLLIN|EPOLLOUT);
        return;
    }

    while (c->piece < answer->n && answer->end[c->piece] <= c->sent) {
        c->piece++;
    }

    if (c->piece == answer->n) {
        serve_unlist(c);
        c->answer = NULL;
        return;
    }

    if (answer->kind != SERVE_HOLD || c->piece > 1) {
        serve_list(c);
    }
}


static void
serve_watch(serve_conn_t *c, unsigned events)
{
    struct epoll_event  ev;

    ev.events = events;
    ev.data.fd = c->fd;
    epoll_ctl(serve_ep, EPOLL_CTL_MOD, c->fd, &ev);
}


static void
serve_list(serve_conn_t *c)
{
    serve_conn_t  *list;

    if (c->listed) {
        return;
    }

    list = (c->answer->kind == SERVE_PACED) ? &serve_paced : &serve_active;

    c->listed = 1;
    c->prev = list->prev;
    c->next = list;
    c->prev->next = c;
    list->prev = c;
}


static void
serve_unlist(serve_conn_t *c)
{
    if (!c->listed) {
        return;
    }

    c->listed = 0;
    c->prev->next = c->next;
    c->next->prev = c->prev;
}


static void
serve_close(serve_conn_t *c)
{
    serve_unlist(c);
    serve_conns[c->fd] = NULL;
    close(c->fd);
    free(c);
}


static void
serve_signal(int signo)
{
    (void) signo;
    serve_release = 1;
}
