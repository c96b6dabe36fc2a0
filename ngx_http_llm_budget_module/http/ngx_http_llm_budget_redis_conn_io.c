
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What a Redis connection sends, receives and waits for: commands are formatted
 * when the socket takes them, replies go to them in order, and one timer looks
 * after their deadlines.
 */


#include "http/ngx_http_llm_budget_redis_conn_int.h"


/* bytes read at once, and reads before others have their turn */
#define NGX_HTTP_LLM_BUDGET_REDIS_READ      16384
#define NGX_HTTP_LLM_BUDGET_REDIS_READS     64

/*
 * Bytes and commands formatted for one write.  OpenSSL takes no less than a
 * record: one that is not out yet counts as sent.
 */
#define NGX_HTTP_LLM_BUDGET_REDIS_WRITE     65536
#define NGX_HTTP_LLM_BUDGET_REDIS_RECORD    16384
#define NGX_HTTP_LLM_BUDGET_REDIS_BATCH     512

/* bytes of an output buffer that is kept while empty */
#define NGX_HTTP_LLM_BUDGET_REDIS_KEEP      16384


static void ngx_http_llm_budget_redis_conn_ended(
    ngx_http_llm_budget_redis_conn_t *conn, ngx_err_t err, const char *text);
static void ngx_http_llm_budget_redis_conn_feed(
    ngx_http_llm_budget_redis_conn_t *conn, u_char *p, size_t len);
static void ngx_http_llm_budget_redis_conn_answer(
    ngx_http_llm_budget_redis_conn_t *conn, redisReply *reply);
static ngx_int_t ngx_http_llm_budget_redis_conn_fill(
    ngx_http_llm_budget_redis_conn_t *conn, size_t *ends);
static void ngx_http_llm_budget_redis_conn_handed(
    ngx_http_llm_budget_redis_conn_t *conn, size_t *ends, ngx_uint_t n,
    size_t bytes);
static void ngx_http_llm_budget_redis_conn_late(
    ngx_http_llm_budget_redis_conn_t *conn);
static ngx_msec_int_t ngx_http_llm_budget_redis_conn_left(
    ngx_msec_t deadline);


void
ngx_http_llm_budget_redis_conn_read(ngx_http_llm_budget_redis_conn_t *conn)
{
    u_char             buf[NGX_HTTP_LLM_BUDGET_REDIS_READ];
    ssize_t            n;
    ngx_err_t          err;
    ngx_uint_t         i;
    ngx_connection_t  *c;

    c = conn->connection;

    for (i = 0; i < NGX_HTTP_LLM_BUDGET_REDIS_READS; i++) {

        n = c->recv(c, buf, NGX_HTTP_LLM_BUDGET_REDIS_READ);

        if (n == NGX_AGAIN) {

            if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
                ngx_http_llm_budget_redis_conn_fail(conn, 0, "no read event");
            }

            return;
        }

        if (n == NGX_ERROR) {
            err = conn->conf->tls ? 0 : ngx_socket_errno;
            ngx_http_llm_budget_redis_conn_ended(conn, err, "recv() failed");
            return;
        }

        if (n == 0) {
            ngx_http_llm_budget_redis_conn_ended(conn, 0,
                                                 "it closed the connection");
            return;
        }

        conn->heard = 1;

        ngx_http_llm_budget_redis_conn_feed(conn, buf, n);

        if (conn->connection == NULL) {
            return;
        }
    }

    ngx_post_event(c->read, &ngx_posted_next_events);
}


/*
 * Since TLS 1.3 a server looks at the client's certificate when for the client
 * the handshake is over.
 */

static void
ngx_http_llm_budget_redis_conn_ended(ngx_http_llm_budget_redis_conn_t *conn,
    ngx_err_t err, const char *text)
{
    if (conn->conf->tls && !conn->heard) {
        text = "it ended TLS before its first answer: it may want a "
               "certificate, or another one";
    }

    ngx_http_llm_budget_redis_conn_fail(conn, err, text);
}


/* replies before what is wrong still count */

static void
ngx_http_llm_budget_redis_conn_feed(ngx_http_llm_budget_redis_conn_t *conn,
    u_char *p, size_t len)
{
    void    *reply;
    size_t   n;

    n = ngx_http_llm_budget_redis_scan(&conn->scan, p, len);

    if (redisReaderFeed(conn->reader, (char *) p, n) != REDIS_OK) {
        ngx_http_llm_budget_redis_conn_fail(conn, 0, "no memory");
        return;
    }

    for ( ;; ) {
        reply = NULL;

        if (redisReaderGetReply(conn->reader, &reply) != REDIS_OK) {
            ngx_http_llm_budget_redis_conn_fail(conn, 0,
                               "what it answers is not the Redis protocol");
            return;
        }

        if (reply == NULL) {
            break;
        }

        ngx_http_llm_budget_redis_conn_answer(conn, reply);
        freeReplyObject(reply);

        if (conn->connection == NULL) {
            return;
        }
    }

    if (n < len) {
        ngx_http_llm_budget_redis_conn_fail(conn, 0, conn->scan.error);
        return;
    }

    /* half of a reply to nothing is enough */

    if (conn->scan.bytes && conn->state == NGX_HTTP_LLM_BUDGET_REDIS_UP
        && ngx_queue_empty(&conn->sent))
    {
        ngx_http_llm_budget_redis_conn_fail(conn, 0,
                                            "it answered what nobody asked");
    }
}


static void
ngx_http_llm_budget_redis_conn_answer(ngx_http_llm_budget_redis_conn_t *conn,
    redisReply *reply)
{
    ngx_queue_t                      *q;
    ngx_http_llm_budget_redis_cmd_t  *cmd;

    if (conn->state == NGX_HTTP_LLM_BUDGET_REDIS_AUTH) {
        ngx_http_llm_budget_redis_conn_greeted(conn, reply);
        return;
    }

    q = ngx_queue_head(&conn->sent);

    /* the last one cannot be answered before it is out as a whole */

    if (q == ngx_queue_sentinel(&conn->sent)
        || (q == ngx_queue_last(&conn->sent) && conn->pos < conn->last))
    {
        ngx_http_llm_budget_redis_conn_refused(conn,
                                       "it answered what nobody asked", reply);
        return;
    }

    cmd = ngx_queue_data(q, ngx_http_llm_budget_redis_cmd_t, queue);

    if (cmd->asking && !conn->asked) {
        conn->asked = 1;
        return;
    }

    conn->asked = 0;

    ngx_queue_remove(q);
    ngx_http_llm_budget_redis_conn_call(conn, cmd, NGX_OK, reply);
}


void
ngx_http_llm_budget_redis_conn_flush(ngx_http_llm_budget_redis_conn_t *conn)
{
    size_t             size, ends[NGX_HTTP_LLM_BUDGET_REDIS_BATCH];
    ssize_t            n;
    ngx_err_t          err;
    ngx_int_t          nends;
    ngx_connection_t  *c;

    c = conn->connection;

    while (c->write->ready) {

        nends = 0;

        if (conn->pos == conn->last) {
            nends = ngx_http_llm_budget_redis_conn_fill(conn, ends);

            if (nends == NGX_ERROR) {
                ngx_http_llm_budget_redis_conn_fail(conn, 0, "no memory");
                return;
            }

            if (nends == 0) {
                break;
            }
        }

        size = conn->last - conn->pos;

        if (conn->conf->tls) {
            size = ngx_min(size, NGX_HTTP_LLM_BUDGET_REDIS_RECORD);
        }

        n = c->send(c, conn->out + conn->pos, size);

        if (n == NGX_ERROR) {
            err = conn->conf->tls ? 0 : ngx_socket_errno;
            ngx_http_llm_budget_redis_conn_handed(conn, ends, nends,
                                                  conn->conf->tls ? size : 0);

            /* what it answered before */

            if (conn->state == NGX_HTTP_LLM_BUDGET_REDIS_UP) {
                ngx_http_llm_budget_redis_conn_read(conn);
            }

            if (conn->connection) {
                ngx_http_llm_budget_redis_conn_ended(conn, err,
                                                     "send() failed");
            }

            return;
        }

        if (n == NGX_AGAIN) {

            /* TLS wants to have the same bytes again, at the same place */

            ngx_http_llm_budget_redis_conn_handed(conn, ends, nends,
                                                  conn->conf->tls ? size : 0);
            break;
        }

        ngx_http_llm_budget_redis_conn_handed(conn, ends, nends, n);
        conn->pos += n;
    }

    if (conn->pos == conn->last
        && conn->size > NGX_HTTP_LLM_BUDGET_REDIS_KEEP)
    {
        ngx_free(conn->out);
        conn->out = NULL;
        conn->size = 0;
        conn->pos = 0;
        conn->last = 0;
    }

    if (ngx_handle_write_event(c->write, 0) != NGX_OK) {
        ngx_http_llm_budget_redis_conn_fail(conn, 0, "no write event");
    }
}


/*
 * Formats commands that wait, for one write.  They stay where they are, ends
 * is where each of them ends in the buffer.
 */

static ngx_int_t
ngx_http_llm_budget_redis_conn_fill(ngx_http_llm_budget_redis_conn_t *conn,
    size_t *ends)
{
    size_t                            limit;
    ngx_int_t                         n;
    ngx_queue_t                      *q;
    ngx_http_llm_budget_redis_cmd_t  *cmd;

    static const char    *asking[] = { "ASKING" };
    static const size_t   asking_len[] = { sizeof("ASKING") - 1 };

    n = 0;
    conn->pos = 0;
    conn->last = 0;

    if (conn->state != NGX_HTTP_LLM_BUDGET_REDIS_UP) {
        return 0;
    }

    limit = conn->conf->tls ? NGX_HTTP_LLM_BUDGET_REDIS_RECORD
                            : NGX_HTTP_LLM_BUDGET_REDIS_WRITE;

    for (q = ngx_queue_head(&conn->waiting);
         q != ngx_queue_sentinel(&conn->waiting)
         && n < NGX_HTTP_LLM_BUDGET_REDIS_BATCH && conn->last < limit;
         q = ngx_queue_next(q))
    {
        cmd = ngx_queue_data(q, ngx_http_llm_budget_redis_cmd_t, queue);

        if (ngx_http_llm_budget_redis_conn_left(cmd->deadline) <= 0) {

            /* never sent, the timer is about to find it */

            break;
        }

        if (cmd->asking
            && ngx_http_llm_budget_redis_conn_put(conn, 1, asking, asking_len)
               != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (ngx_http_llm_budget_redis_conn_put(conn, cmd->argc, cmd->argv,
                                               cmd->lens)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        ends[n++] = conn->last;
    }

    return n;
}


/*
 * That many bytes of the commands just formatted may have reached the kernel:
 * those that have some of them are sent, the others are forgotten and wait to
 * be formatted again.
 */

static void
ngx_http_llm_budget_redis_conn_handed(ngx_http_llm_budget_redis_conn_t *conn,
    size_t *ends, ngx_uint_t n, size_t bytes)
{
    size_t                            start;
    ngx_uint_t                        i;
    ngx_queue_t                      *q;
    ngx_http_llm_budget_redis_cmd_t  *cmd;

    if (n == 0) {
        return;
    }

    start = 0;

    for (i = 0; i < n && start < bytes; i++) {
        q = ngx_queue_head(&conn->waiting);

        ngx_queue_remove(q);
        ngx_queue_insert_tail(&conn->sent, q);

        cmd = ngx_queue_data(q, ngx_http_llm_budget_redis_cmd_t, queue);
        cmd->sent = 1;

        start = ends[i];
    }

    conn->last = start;
}


ngx_int_t
ngx_http_llm_budget_redis_conn_put(ngx_http_llm_budget_redis_conn_t *conn,
    ngx_uint_t argc, const char **argv, const size_t *lens)
{
    char       *p;
    u_char     *out;
    size_t      size;
    long long   n;

    n = redisFormatCommandArgv(&p, (int) argc, argv, lens);
    if (n < 0) {
        return NGX_ERROR;
    }

    if ((size_t) n > conn->size - conn->last) {
        size = ngx_max(2 * conn->size, conn->last + (size_t) n);

        out = ngx_alloc(size, &conn->log);
        if (out == NULL) {
            redisFreeCommand(p);
            return NGX_ERROR;
        }

        if (conn->out) {
            ngx_memcpy(out, conn->out, conn->last);
            ngx_free(conn->out);
        }

        conn->out = out;
        conn->size = size;
    }

    ngx_memcpy(conn->out + conn->last, p, n);
    conn->last += n;

    redisFreeCommand(p);

    return NGX_OK;
}


/*
 * The timer is not set again for every command, nor when one is answered: it
 * fires not later than the first deadline, and then looks for the next.
 */

void
ngx_http_llm_budget_redis_conn_arm(ngx_http_llm_budget_redis_conn_t *conn,
    ngx_msec_t deadline)
{
    ngx_msec_int_t  left;

    if (conn->timer.timer_set) {

        if ((ngx_msec_int_t) (deadline - conn->timer.timer.key) >= 0) {
            return;
        }

        ngx_del_timer(&conn->timer);
    }

    left = ngx_http_llm_budget_redis_conn_left(deadline);

    ngx_add_timer(&conn->timer, (ngx_msec_t) ngx_max(left, 1));
}


void
ngx_http_llm_budget_redis_conn_expire(ngx_http_llm_budget_redis_conn_t *conn)
{
    ngx_queue_t                      *q, *next;
    ngx_msec_int_t                    left, first;
    ngx_http_llm_budget_redis_cmd_t  *cmd;

    first = NGX_MAX_INT_T_VALUE;

    if (conn->state != NGX_HTTP_LLM_BUDGET_REDIS_UP) {
        first = ngx_http_llm_budget_redis_conn_left(conn->deadline);

        if (first <= 0) {
            ngx_http_llm_budget_redis_conn_late(conn);
            return;
        }
    }

    for (q = ngx_queue_head(&conn->sent);
         q != ngx_queue_sentinel(&conn->sent);
         q = ngx_queue_next(q))
    {
        cmd = ngx_queue_data(q, ngx_http_llm_budget_redis_cmd_t, queue);
        left = ngx_http_llm_budget_redis_conn_left(cmd->deadline);

        if (left <= 0) {
            ngx_http_llm_budget_redis_conn_fail(conn, 0,
                                                "a command timed out");
            return;
        }

        first = ngx_min(first, left);
    }

    for (q = ngx_queue_head(&conn->waiting);
         q != ngx_queue_sentinel(&conn->waiting);
         q = next)
    {
        next = ngx_queue_next(q);

        cmd = ngx_queue_data(q, ngx_http_llm_budget_redis_cmd_t, queue);
        left = ngx_http_llm_budget_redis_conn_left(cmd->deadline);

        if (left <= 0) {
            ngx_queue_remove(q);
            ngx_queue_insert_tail(&conn->failing, q);
            continue;
        }

        first = ngx_min(first, left);
    }

    if (first != NGX_MAX_INT_T_VALUE) {
        ngx_http_llm_budget_redis_conn_arm(conn, ngx_current_msec + first);
    }

    if (conn->state == NGX_HTTP_LLM_BUDGET_REDIS_UP
        && !ngx_queue_empty(&conn->waiting))
    {
        ngx_post_event(&conn->flush, &ngx_posted_events);
    }

    ngx_http_llm_budget_redis_conn_drain(conn);
}


static void
ngx_http_llm_budget_redis_conn_late(ngx_http_llm_budget_redis_conn_t *conn)
{
    const char  *text;

    switch (conn->state) {

    case NGX_HTTP_LLM_BUDGET_REDIS_HANDSHAKE:
        text = "TLS handshake failed";
        break;

    case NGX_HTTP_LLM_BUDGET_REDIS_AUTH:
        text = "no answer to AUTH or SELECT";
        break;

    default:
        text = "connect() failed";
        break;
    }

    ngx_http_llm_budget_redis_conn_fail(conn, NGX_ETIMEDOUT, text);
}


static ngx_msec_int_t
ngx_http_llm_budget_redis_conn_left(ngx_msec_t deadline)
{
    return (ngx_msec_int_t) (deadline - ngx_current_msec);
}
