
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * One connection to a Redis server that is up: commands go out together, once
 * per turn of the event loop, and are answered in order.  A command is in one
 * of three queues: "waiting" as long as no byte of it was given to the kernel,
 * "sent" until its reply, "failing" until its handler was called.
 *
 * Handlers may do anything, closing and destroying the connection included.
 * Whoever calls them counts itself in "busy", which keeps the object, and
 * looks at "connection" afterwards.
 */


#include "http/ngx_http_llm_budget_redis_conn_int.h"


/* bytes around one argument: "$1048576" and two line ends */
#define NGX_HTTP_LLM_BUDGET_REDIS_FRAME     16


static u_char *ngx_http_llm_budget_redis_conn_log(ngx_log_t *log, u_char *buf,
    size_t len);
static void ngx_http_llm_budget_redis_conn_event(
    ngx_http_llm_budget_redis_conn_t *conn, ngx_uint_t writable);
static void ngx_http_llm_budget_redis_conn_flush_handler(ngx_event_t *ev);
static void ngx_http_llm_budget_redis_conn_timer_handler(ngx_event_t *ev);
static void ngx_http_llm_budget_redis_conn_notice_handler(ngx_event_t *ev);
static void ngx_http_llm_budget_redis_conn_leave(
    ngx_http_llm_budget_redis_conn_t *conn);
static void ngx_http_llm_budget_redis_conn_shut(
    ngx_http_llm_budget_redis_conn_t *conn);
static void ngx_http_llm_budget_redis_conn_close_socket(
    ngx_http_llm_budget_redis_conn_t *conn);
static void ngx_http_llm_budget_redis_conn_rest(
    ngx_http_llm_budget_redis_conn_t *conn);


ngx_http_llm_budget_redis_conn_t *
ngx_http_llm_budget_redis_conn_create(
    ngx_http_llm_budget_redis_conn_conf_t *conf,
    const ngx_http_llm_budget_redis_events_t *events, void *data,
    ngx_log_t *log)
{
    ngx_http_llm_budget_redis_conn_t  *conn;

    conn = ngx_calloc(sizeof(ngx_http_llm_budget_redis_conn_t), log);
    if (conn == NULL) {
        return NULL;
    }

    conn->conf = conf;
    conn->events = events;
    conn->data = data;
    conn->ident = -1;

    ngx_queue_init(&conn->waiting);
    ngx_queue_init(&conn->sent);
    ngx_queue_init(&conn->failing);

    /*
     * The owner is told why and decides what is worth a message: what nginx
     * itself says of each attempt is for a log that has everything.
     */

    conn->log = *log;
    conn->log.handler = ngx_http_llm_budget_redis_conn_log;
    conn->log.data = conn;
    conn->log.action = NULL;

    if (conn->log.log_level < NGX_LOG_INFO) {
        conn->log.log_level = ngx_min(conn->log.log_level, NGX_LOG_ALERT);
    }

    conn->timer.handler = ngx_http_llm_budget_redis_conn_timer_handler;
    conn->timer.data = conn;
    conn->timer.log = &conn->log;
    conn->timer.cancelable = 1;

    conn->flush.handler = ngx_http_llm_budget_redis_conn_flush_handler;
    conn->flush.data = conn;
    conn->flush.log = &conn->log;

    conn->notice.handler = ngx_http_llm_budget_redis_conn_notice_handler;
    conn->notice.data = conn;
    conn->notice.log = &conn->log;

    return conn;
}


ngx_int_t
ngx_http_llm_budget_redis_conn_submit(ngx_http_llm_budget_redis_conn_t *conn,
    ngx_http_llm_budget_redis_cmd_t *cmd)
{
    size_t      len;
    ngx_uint_t  i;

    if (conn->state == NGX_HTTP_LLM_BUDGET_REDIS_CLOSED
        || conn->load >= NGX_HTTP_LLM_BUDGET_REDIS_QUEUE)
    {
        return NGX_DECLINED;
    }

    len = 0;

    for (i = 0; i < cmd->argc; i++) {
        len += NGX_HTTP_LLM_BUDGET_REDIS_FRAME;

        if (len > NGX_HTTP_LLM_BUDGET_REDIS_CMD_MAX
            || cmd->lens[i] > NGX_HTTP_LLM_BUDGET_REDIS_CMD_MAX - len)
        {
            ngx_log_error(NGX_LOG_ALERT, &conn->log, 0,
                          "llm_budget: a command is too large");
            return NGX_DECLINED;
        }

        len += cmd->lens[i];
    }

    ngx_queue_insert_tail(&conn->waiting, &cmd->queue);

    conn->load++;
    ngx_http_llm_budget_redis_conn_rest(conn);
    ngx_http_llm_budget_redis_conn_arm(conn, cmd->deadline);

    if (conn->state == NGX_HTTP_LLM_BUDGET_REDIS_UP) {
        ngx_post_event(&conn->flush, &ngx_posted_events);
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_budget_redis_conn_state(ngx_http_llm_budget_redis_conn_t *conn)
{
    switch (conn->state) {

    case NGX_HTTP_LLM_BUDGET_REDIS_CLOSED:
        return NGX_DECLINED;

    case NGX_HTTP_LLM_BUDGET_REDIS_UP:
        return NGX_OK;

    default:
        return NGX_AGAIN;
    }
}


ngx_uint_t
ngx_http_llm_budget_redis_conn_load(ngx_http_llm_budget_redis_conn_t *conn)
{
    return conn->load;
}


void
ngx_http_llm_budget_redis_conn_close(ngx_http_llm_budget_redis_conn_t *conn,
    const char *reason)
{
    if (conn->state == NGX_HTTP_LLM_BUDGET_REDIS_CLOSED) {
        return;
    }

    conn->busy++;

    (void) ngx_cpystrn(conn->why, (u_char *) reason,
                       NGX_HTTP_LLM_BUDGET_REDIS_WHY);

    ngx_http_llm_budget_redis_conn_shut(conn);
    ngx_http_llm_budget_redis_conn_drain(conn);
    ngx_http_llm_budget_redis_conn_leave(conn);
}


void
ngx_http_llm_budget_redis_conn_destroy(ngx_http_llm_budget_redis_conn_t *conn)
{
    conn->dying = 1;

    if (conn->state != NGX_HTTP_LLM_BUDGET_REDIS_CLOSED) {
        (void) ngx_cpystrn(conn->why, (u_char *) "it is not needed",
                           NGX_HTTP_LLM_BUDGET_REDIS_WHY);
        ngx_http_llm_budget_redis_conn_shut(conn);
    }

    if (conn->notice.posted) {
        ngx_delete_posted_event(&conn->notice);
    }

    if (conn->busy) {
        return;
    }

    if (conn->load) {
        ngx_log_error(NGX_LOG_ALERT, &conn->log, 0,
                      "llm_budget: a connection with %ui commands is destroyed",
                      conn->load);
    }

    ngx_free(conn);
}


static u_char *
ngx_http_llm_budget_redis_conn_log(ngx_log_t *log, u_char *buf, size_t len)
{
    ngx_http_llm_budget_redis_conn_t  *conn;

    conn = log->data;

    if (conn->addr.len == 0) {
        return buf;
    }

    return ngx_snprintf(buf, len, ", redis: %V", &conn->addr);
}


void
ngx_http_llm_budget_redis_conn_read_handler(ngx_event_t *rev)
{
    ngx_connection_t  *c;

    c = rev->data;

    ngx_http_llm_budget_redis_conn_event(c->data, 0);
}


void
ngx_http_llm_budget_redis_conn_write_handler(ngx_event_t *wev)
{
    ngx_connection_t  *c;

    c = wev->data;

    ngx_http_llm_budget_redis_conn_event(c->data, 1);
}


static void
ngx_http_llm_budget_redis_conn_event(ngx_http_llm_budget_redis_conn_t *conn,
    ngx_uint_t writable)
{
    conn->busy++;

    if (conn->connection->close) {

        /* idle at the end of the worker, or worker_shutdown_timeout passed */

        ngx_http_llm_budget_redis_conn_close(conn, "the worker exits");

    } else if (conn->state < NGX_HTTP_LLM_BUDGET_REDIS_AUTH) {
        ngx_http_llm_budget_redis_conn_step(conn, writable);

    } else if (writable) {
        ngx_http_llm_budget_redis_conn_flush(conn);

    } else {
        ngx_http_llm_budget_redis_conn_read(conn);
    }

    ngx_http_llm_budget_redis_conn_leave(conn);
}


static void
ngx_http_llm_budget_redis_conn_flush_handler(ngx_event_t *ev)
{
    ngx_http_llm_budget_redis_conn_t  *conn;

    conn = ev->data;
    conn->busy++;

    if (conn->state < NGX_HTTP_LLM_BUDGET_REDIS_AUTH) {
        ngx_http_llm_budget_redis_conn_step(conn, 1);

    } else if (conn->state == NGX_HTTP_LLM_BUDGET_REDIS_UP
               && conn->load == 0 && ngx_exiting)
    {
        ngx_http_llm_budget_redis_conn_close(conn, "the worker exits");

    } else {
        ngx_http_llm_budget_redis_conn_flush(conn);
    }

    ngx_http_llm_budget_redis_conn_leave(conn);
}


static void
ngx_http_llm_budget_redis_conn_timer_handler(ngx_event_t *ev)
{
    ngx_http_llm_budget_redis_conn_t  *conn;

    conn = ev->data;

    conn->busy++;
    ngx_http_llm_budget_redis_conn_expire(conn);
    ngx_http_llm_budget_redis_conn_leave(conn);
}


static void
ngx_http_llm_budget_redis_conn_notice_handler(ngx_event_t *ev)
{
    u_char                             why[NGX_HTTP_LLM_BUDGET_REDIS_WHY];
    ngx_http_llm_budget_redis_conn_t  *conn;

    conn = ev->data;

    /* he may connect again from there, which may fail at once */

    ngx_memcpy(why, conn->why, NGX_HTTP_LLM_BUDGET_REDIS_WHY);

    conn->busy++;
    conn->events->down(conn, conn->data, (const char *) why);
    ngx_http_llm_budget_redis_conn_leave(conn);
}


/* the end of whatever may have called handlers */

static void
ngx_http_llm_budget_redis_conn_leave(ngx_http_llm_budget_redis_conn_t *conn)
{
    if (--conn->busy) {
        return;
    }

    if (conn->dying) {
        ngx_free(conn);
        return;
    }

    /* the owner may have more, but not later than in this turn */

    if (ngx_exiting && conn->load == 0
        && conn->state == NGX_HTTP_LLM_BUDGET_REDIS_UP)
    {
        ngx_post_event(&conn->flush, &ngx_posted_next_events);
    }
}


void
ngx_http_llm_budget_redis_conn_up(ngx_http_llm_budget_redis_conn_t *conn)
{
    conn->state = NGX_HTTP_LLM_BUDGET_REDIS_UP;

    ngx_log_error(NGX_LOG_INFO, &conn->log, 0,
                  "llm_budget: redis \"%V\" is connected", &conn->host);

    if (!ngx_queue_empty(&conn->waiting)) {
        ngx_post_event(&conn->flush, &ngx_posted_events);
    }

    conn->events->up(conn, conn->data);
}


void
ngx_http_llm_budget_redis_conn_fail(ngx_http_llm_budget_redis_conn_t *conn,
    ngx_err_t err, const char *text)
{
    u_char  *p, *last, *end, errstr[NGX_MAX_ERROR_STR / 16];

    p = conn->why;
    last = conn->why + NGX_HTTP_LLM_BUDGET_REDIS_WHY - 1;

    if (err) {
        end = ngx_strerror(err, errstr, sizeof(errstr));
        p = ngx_slprintf(p, last, "%s (%d: %*s)", text, err,
                         (size_t) (end - errstr), errstr);

    } else {
        p = ngx_slprintf(p, last, "%s", text);
    }

    *p = '\0';

    conn->failed = 1;

    ngx_http_llm_budget_redis_conn_shut(conn);
    ngx_http_llm_budget_redis_conn_drain(conn);
}


static void
ngx_http_llm_budget_redis_conn_shut(ngx_http_llm_budget_redis_conn_t *conn)
{
    ngx_log_error(NGX_LOG_INFO, &conn->log, 0,
                  "llm_budget: redis \"%V\" is closed: %s",
                  &conn->host, conn->why);

    conn->state = NGX_HTTP_LLM_BUDGET_REDIS_CLOSED;

    if (conn->timer.timer_set) {
        ngx_del_timer(&conn->timer);
    }

    if (conn->flush.posted) {
        ngx_delete_posted_event(&conn->flush);
    }

    if (conn->connection) {
        ngx_http_llm_budget_redis_conn_close_socket(conn);
    }

    if (conn->reader) {
        redisReaderFree(conn->reader);
        conn->reader = NULL;
    }

    if (conn->out) {
        ngx_free(conn->out);
        conn->out = NULL;
    }

    conn->size = 0;
    conn->pos = 0;
    conn->last = 0;

    conn->addr.len = 0;
    conn->host.len = 0;

    if (conn->pool) {
        ngx_destroy_pool(conn->pool);
        conn->pool = NULL;
    }

    if (!ngx_queue_empty(&conn->sent)) {
        ngx_queue_add(&conn->failing, &conn->sent);
        ngx_queue_init(&conn->sent);
    }

    if (!ngx_queue_empty(&conn->waiting)) {
        ngx_queue_add(&conn->failing, &conn->waiting);
        ngx_queue_init(&conn->waiting);
    }

    if (!conn->dying) {
        ngx_post_event(&conn->notice, &ngx_posted_events);
    }
}


static void
ngx_http_llm_budget_redis_conn_close_socket(
    ngx_http_llm_budget_redis_conn_t *conn)
{
    ngx_connection_t  *c;

    c = conn->connection;
    conn->connection = NULL;

#if (NGX_SSL)

    if (c->ssl) {
        c->ssl->no_wait_shutdown = 1;

        if (conn->failed || conn->pos < conn->last || !c->write->ready) {
            c->ssl->no_send_shutdown = 1;
        }

        if (ngx_ssl_shutdown(c) == NGX_AGAIN) {

            /* without the goodbye: nobody is left to wait for */

            c->timedout = 1;
            (void) ngx_ssl_shutdown(c);
        }
    }

#endif

    ngx_close_connection(c);

    conn->log.connection = 0;
}


/* calls the handlers due, in order; within one of them it is left to itself */

void
ngx_http_llm_budget_redis_conn_drain(ngx_http_llm_budget_redis_conn_t *conn)
{
    ngx_queue_t                      *q;
    ngx_http_llm_budget_redis_cmd_t  *cmd;

    if (conn->draining) {
        return;
    }

    conn->draining = 1;

    while (!ngx_queue_empty(&conn->failing)) {
        q = ngx_queue_head(&conn->failing);
        ngx_queue_remove(q);

        cmd = ngx_queue_data(q, ngx_http_llm_budget_redis_cmd_t, queue);
        ngx_http_llm_budget_redis_conn_call(conn, cmd, NGX_ERROR, NULL);
    }

    conn->draining = 0;
}


void
ngx_http_llm_budget_redis_conn_call(ngx_http_llm_budget_redis_conn_t *conn,
    ngx_http_llm_budget_redis_cmd_t *cmd, ngx_int_t rc, redisReply *reply)
{
    conn->load--;
    ngx_http_llm_budget_redis_conn_rest(conn);

    if (cmd->done) {
        cmd->done(cmd, rc, reply);
        return;
    }

    cmd->handler(cmd, rc, reply);
}


/* a worker that exits waits for commands, and for nothing else */

static void
ngx_http_llm_budget_redis_conn_rest(ngx_http_llm_budget_redis_conn_t *conn)
{
    conn->timer.cancelable = (conn->load == 0);

    if (conn->connection) {
        conn->connection->idle = (conn->load == 0);
    }
}
