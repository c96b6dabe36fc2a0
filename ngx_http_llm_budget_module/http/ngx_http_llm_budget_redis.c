
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The store in Redis: its creation, its life in a worker, and the operations
 * that are waited for.
 */


#include "http/ngx_http_llm_budget_redis.h"
#include "http/ngx_http_llm_budget_redis_conf.h"
#include "http/ngx_http_llm_budget_redis_op.h"

#include "ngx_http_llm_budget_scripts.h"

#include <ngx_sha1.h>


static ngx_int_t ngx_http_llm_budget_redis_init(void *data,
    ngx_cycle_t *cycle);
static void ngx_http_llm_budget_redis_exit(void *data);
static void ngx_http_llm_budget_redis_up(void *data);
static void ngx_http_llm_budget_redis_timer(ngx_event_t *ev);
static ngx_int_t ngx_http_llm_budget_redis_open(void *data,
    ngx_http_llm_budget_call_t *call);
static void ngx_http_llm_budget_redis_opened(ngx_http_llm_budget_op_t *op,
    ngx_int_t rc, const llmb_answer_t *answer);
static void ngx_http_llm_budget_redis_orphan(ngx_http_llm_budget_op_t *op);
static void ngx_http_llm_budget_redis_cancel(void *data,
    ngx_http_llm_budget_call_t *call);
static ngx_int_t ngx_http_llm_budget_redis_post(void *data,
    ngx_http_llm_budget_closing_t *closing, llmb_ledger_rc_e *rc);
static ngx_int_t ngx_http_llm_budget_redis_void(void *data,
    ngx_http_llm_budget_closing_t *closing, llmb_ledger_rc_e *rc);
static void ngx_http_llm_budget_redis_extend(void *data, const u_char *id,
    llmb_str_t *tag, int64_t timeout_ms);
static void ngx_http_llm_budget_redis_extended(ngx_http_llm_budget_op_t *op,
    ngx_int_t rc, const llmb_answer_t *answer);
static ngx_int_t ngx_http_llm_budget_redis_read(void *data,
    ngx_http_llm_budget_read_t *read);
static void ngx_http_llm_budget_redis_walked(ngx_http_llm_budget_op_t *op,
    ngx_int_t rc, const llmb_answer_t *answer);
static ngx_int_t ngx_http_llm_budget_redis_copy(
    ngx_http_llm_budget_read_t *read, llmb_str_t *cursor);
static void ngx_http_llm_budget_redis_cancel_read(void *data,
    ngx_http_llm_budget_read_t *read);
static int64_t ngx_http_llm_budget_redis_now(void *data);
static ngx_int_t ngx_http_llm_budget_redis_ready(void *data);
static void ngx_http_llm_budget_redis_policy(void *data, ngx_uint_t charge);


static const char *const  ngx_http_llm_budget_sources[LLMB_CALLS] = {
    ngx_http_llm_budget_script_open,
    ngx_http_llm_budget_script_post,
    ngx_http_llm_budget_script_void,
    ngx_http_llm_budget_script_extend,
    ngx_http_llm_budget_script_peek,
    ngx_http_llm_budget_script_walk
};


/* the arguments in the making, and an answer whose request is gone */

static llmb_call_t         ngx_http_llm_budget_redis_args;
static llmb_ledger_open_t  ngx_http_llm_budget_redis_nobody;


char *
ngx_http_llm_budget_redis_create(ngx_conf_t *cf,
    ngx_http_llm_budget_store_t *store)
{
    ngx_sha1_t                     sha1;
    ngx_uint_t                     i;
    u_char                         digest[20];
    ngx_http_llm_budget_redis_t   *redis;
    ngx_http_llm_budget_script_t  *script;

    redis = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_budget_redis_t));
    if (redis == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < LLMB_CALLS; i++) {
        script = &redis->scripts[i];

        script->source.data = (u_char *) (uintptr_t)
                              ngx_http_llm_budget_sources[i];
        script->source.len = ngx_strlen(script->source.data);

        ngx_sha1_init(&sha1);
        ngx_sha1_update(&sha1, script->source.data, script->source.len);
        ngx_sha1_final(digest, &sha1);

        (void) ngx_hex_dump(script->digest, digest, 20);
    }

    redis->call.charge = 1;

    store->name = "redis";
    store->data = redis;
    store->open = ngx_http_llm_budget_redis_open;
    store->cancel = ngx_http_llm_budget_redis_cancel;
    store->post = ngx_http_llm_budget_redis_post;
    store->void_hold = ngx_http_llm_budget_redis_void;
    store->extend = ngx_http_llm_budget_redis_extend;
    store->read = ngx_http_llm_budget_redis_read;
    store->cancel_read = ngx_http_llm_budget_redis_cancel_read;
    store->now = ngx_http_llm_budget_redis_now;
    store->ready = ngx_http_llm_budget_redis_ready;
    store->policy = ngx_http_llm_budget_redis_policy;
    store->init = ngx_http_llm_budget_redis_init;
    store->exit = ngx_http_llm_budget_redis_exit;

    return ngx_http_llm_budget_redis_conf(cf, &redis->conf);
}


ngx_int_t
ngx_http_llm_budget_redis_setup(ngx_conf_t *cf,
    ngx_http_llm_budget_store_t *store, ngx_str_t *journal, off_t max_len)
{
    ngx_http_llm_budget_redis_t  *redis;

    redis = store->data;

    redis->call.prefix = *ngx_http_llm_budget_view(&redis->conf.prefix);
    redis->call.keep_ms = (int64_t) redis->conf.keep;

    if (ngx_http_llm_budget_redis_conf_init(cf, &redis->conf) != NGX_OK) {
        return NGX_ERROR;
    }

    redis->journal = ngx_http_llm_budget_journal_create(cf, journal, max_len,
                                                        redis->conf.id);

    return redis->journal ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_llm_budget_redis_init(void *data, ngx_cycle_t *cycle)
{
    ngx_http_llm_budget_redis_t  *redis = data;

    redis->log = cycle->log;
    ngx_queue_init(&redis->ops);

    ngx_http_llm_budget_journal_init(redis->journal, cycle->log);

    redis->nodes = ngx_http_llm_budget_redis_nodes_create(&redis->conf,
                                                 cycle->log,
                                                 ngx_http_llm_budget_redis_up,
                                                 redis);
    if (redis->nodes == NULL) {
        return NGX_ERROR;
    }

    redis->timer.handler = ngx_http_llm_budget_redis_timer;
    redis->timer.data = redis;
    redis->timer.log = cycle->log;
    redis->timer.cancelable = 1;

    ngx_add_timer(&redis->timer, NGX_HTTP_LLM_BUDGET_REPLAY_EVERY);

    return NGX_OK;
}


/*
 * What is in flight may or may not be done by Redis: closings go to the
 * journal, and a hold that nobody will close is voided by it.
 */

static void
ngx_http_llm_budget_redis_exit(void *data)
{
    ngx_http_llm_budget_redis_t  *redis = data;

    ngx_queue_t                   left, *q;
    ngx_http_llm_budget_op_t     *op;

    if (redis->nodes == NULL) {
        return;
    }

    ngx_queue_init(&left);
    ngx_http_llm_budget_redis_nodes_destroy(redis->nodes, &left);
    redis->nodes = NULL;

    while (!ngx_queue_empty(&redis->ops)) {
        q = ngx_queue_head(&redis->ops);
        op = ngx_queue_data(q, ngx_http_llm_budget_op_t, queue);

        if (op->kind == LLMB_CALL_OPEN && op->cmd.sent) {
            ngx_http_llm_budget_redis_orphan(op);
        }

        ngx_http_llm_budget_redis_keep(op);
    }

    if (redis->timer.timer_set) {
        ngx_del_timer(&redis->timer);
    }

    ngx_http_llm_budget_journal_flush(redis->journal);
    ngx_http_llm_budget_journal_done(redis->journal);
}


static void
ngx_http_llm_budget_redis_up(void *data)
{
    ngx_http_llm_budget_redis_t  *redis = data;

    if (redis->nodes) {
        redis->again = ngx_current_msec;
        redis->pause = 0;

        ngx_http_llm_budget_redis_replay(redis);
    }
}


static void
ngx_http_llm_budget_redis_timer(ngx_event_t *ev)
{
    ngx_http_llm_budget_redis_t  *redis;

    if (ngx_exiting) {

        /* the next generation does it */

        return;
    }

    redis = ev->data;

    if (ngx_http_llm_budget_redis_nodes_state(redis->nodes) == NGX_OK) {
        ngx_http_llm_budget_redis_replay(redis);
    }

    ngx_add_timer(ev, NGX_HTTP_LLM_BUDGET_REPLAY_EVERY);
}


static ngx_int_t
ngx_http_llm_budget_redis_open(void *data, ngx_http_llm_budget_call_t *call)
{
    ngx_http_llm_budget_redis_t  *redis = data;

    ngx_http_llm_budget_op_t     *op;

    call->unsure = 0;
    call->op = NULL;

    if (llmb_call_open(&ngx_http_llm_budget_redis_args, &redis->call,
                       &call->tag, call->open, call->timeout_ms)
        != LLMB_OK)
    {
        call->rc = LLMB_LEDGER_BAD;
        call->late = 0;
        return NGX_OK;
    }

    op = ngx_http_llm_budget_op_create(redis, LLMB_CALL_OPEN, &call->tag,
                                       call->open->id);
    if (op == NULL) {
        return NGX_ERROR;
    }

    op->call = call;
    op->n = call->open->n;
    op->done = ngx_http_llm_budget_redis_opened;

    if (ngx_http_llm_budget_op_send(op, &ngx_http_llm_budget_redis_args)
        != NGX_OK)
    {
        ngx_http_llm_budget_op_free(op);
        return NGX_ERROR;
    }

    call->op = op;

    return NGX_AGAIN;
}


static void
ngx_http_llm_budget_redis_opened(ngx_http_llm_budget_op_t *op, ngx_int_t rc,
    const llmb_answer_t *answer)
{
    int64_t                      now_ms;
    unsigned                     late;
    ngx_uint_t                   unsure;
    llmb_ledger_rc_e             result;
    llmb_ledger_open_t          *open;
    ngx_http_llm_budget_call_t  *call;

    call = op->call;
    late = 0;
    result = LLMB_LEDGER_UNKNOWN;
    unsure = op->unsure;

    if (rc == NGX_OK) {

        open = &ngx_http_llm_budget_redis_nobody;
        open->n = op->n;

        if (call) {
            open = call->open;
        }

        if (llmb_answer_open(answer, open, &result, &now_ms, &late)
            == LLMB_OK)
        {
            ngx_http_llm_budget_op_time(op->redis, now_ms);

        } else {
            rc = NGX_ERROR;
            unsure = 1;

            if (ngx_http_llm_budget_op_say(op->redis)) {
                ngx_log_error(NGX_LOG_ERR, op->redis->log, 0,
                              "llm_budget: redis sent an answer that the "
                              "script cannot have made");
            }
        }
    }

    if (call == NULL) {

        /* the client has left: nobody would close the hold */

        if (rc == NGX_OK ? (!late && result == LLMB_LEDGER_OK) : unsure) {
            ngx_http_llm_budget_redis_orphan(op);
        }

        ngx_http_llm_budget_op_free(op);
        return;
    }

    call->op = NULL;
    call->rc = result;
    call->late = late;
    call->unsure = unsure;

    ngx_http_llm_budget_op_free(op);

    call->done(call, rc == NGX_OK ? NGX_OK : NGX_ERROR);
}


static void
ngx_http_llm_budget_redis_orphan(ngx_http_llm_budget_op_t *op)
{
    ngx_http_llm_budget_closing_t  closing;

    ngx_memzero(&closing, sizeof(ngx_http_llm_budget_closing_t));

    closing.id = op->id;
    closing.tag.data = op->tag;
    closing.tag.len = op->tag_len;

    (void) ngx_http_llm_budget_redis_close(op->redis, LLMB_CALL_VOID,
                                           &closing);
}


static void
ngx_http_llm_budget_redis_cancel(void *data, ngx_http_llm_budget_call_t *call)
{
    ngx_http_llm_budget_op_t  *op;

    op = call->op;

    if (op) {
        op->call = NULL;
        call->op = NULL;
    }
}


static ngx_int_t
ngx_http_llm_budget_redis_post(void *data,
    ngx_http_llm_budget_closing_t *closing, llmb_ledger_rc_e *rc)
{
    return ngx_http_llm_budget_redis_close(data, LLMB_CALL_POST, closing);
}


static ngx_int_t
ngx_http_llm_budget_redis_void(void *data,
    ngx_http_llm_budget_closing_t *closing, llmb_ledger_rc_e *rc)
{
    return ngx_http_llm_budget_redis_close(data, LLMB_CALL_VOID, closing);
}


static void
ngx_http_llm_budget_redis_extend(void *data, const u_char *id, llmb_str_t *tag,
    int64_t timeout_ms)
{
    ngx_http_llm_budget_redis_t  *redis = data;

    ngx_http_llm_budget_op_t     *op;

    if (llmb_call_extend(&ngx_http_llm_budget_redis_args, &redis->call, tag,
                         id, timeout_ms)
        != LLMB_OK)
    {
        return;
    }

    op = ngx_http_llm_budget_op_create(redis, LLMB_CALL_EXTEND, tag, id);
    if (op == NULL) {
        return;
    }

    op->done = ngx_http_llm_budget_redis_extended;

    if (ngx_http_llm_budget_op_send(op, &ngx_http_llm_budget_redis_args)
        != NGX_OK)
    {
        ngx_http_llm_budget_op_free(op);
    }
}


/* whether it worked or not: the next extension comes long before expiry */

static void
ngx_http_llm_budget_redis_extended(ngx_http_llm_budget_op_t *op, ngx_int_t rc,
    const llmb_answer_t *answer)
{
    ngx_http_llm_budget_op_free(op);
}


static ngx_int_t
ngx_http_llm_budget_redis_read(void *data, ngx_http_llm_budget_read_t *read)
{
    ngx_http_llm_budget_redis_t  *redis = data;

    llmb_str_t                    cursor;
    ngx_http_llm_budget_op_t     *op;

    static const llmb_str_t  begin = llmb_string("0");

    read->op = NULL;
    cursor = read->cursor.len ? read->cursor : begin;

    if (llmb_call_walk(&ngx_http_llm_budget_redis_args, &redis->call,
                       &read->tag, &cursor)
        != LLMB_OK)
    {
        return NGX_ERROR;
    }

    op = ngx_http_llm_budget_op_create(redis, LLMB_CALL_WALK, &read->tag,
                                       NULL);
    if (op == NULL) {
        return NGX_ERROR;
    }

    op->read = read;
    op->done = ngx_http_llm_budget_redis_walked;

    if (ngx_http_llm_budget_op_send(op, &ngx_http_llm_budget_redis_args)
        != NGX_OK)
    {
        ngx_http_llm_budget_op_free(op);
        return NGX_ERROR;
    }

    read->op = op;

    return NGX_AGAIN;
}


static void
ngx_http_llm_budget_redis_walked(ngx_http_llm_budget_op_t *op, ngx_int_t rc,
    const llmb_answer_t *answer)
{
    int64_t                      now_ms;
    unsigned                     n;
    llmb_str_t                   cursor;
    ngx_http_llm_budget_read_t  *read;

    read = op->read;

    if (read == NULL) {
        ngx_http_llm_budget_op_free(op);
        return;
    }

    if (rc == NGX_OK) {
        n = (unsigned) read->max;

        if (llmb_answer_read(answer, &read->stat, &now_ms, &cursor,
                             read->account, &n)
            != LLMB_OK)
        {
            rc = NGX_ERROR;

        } else {
            ngx_http_llm_budget_op_time(op->redis, now_ms);

            read->n = n;
            rc = ngx_http_llm_budget_redis_copy(read, &cursor);
        }
    }

    read->op = NULL;
    ngx_http_llm_budget_op_free(op);

    read->done(read, rc == NGX_OK ? NGX_OK : NGX_ERROR);
}


/* the views of an answer end with it */

static ngx_int_t
ngx_http_llm_budget_redis_copy(ngx_http_llm_budget_read_t *read,
    llmb_str_t *cursor)
{
    u_char      *p;
    size_t       len;
    ngx_uint_t   i;
    llmb_str_t  *name;

    len = cursor->len;

    for (i = 0; i < read->n; i++) {
        len += read->account[i].name.len;
    }

    p = ngx_pnalloc(read->pool, len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < read->n; i++) {
        name = &read->account[i].name;

        ngx_memcpy(p, name->data, name->len);
        name->data = p;
        p += name->len;
    }

    ngx_memcpy(p, cursor->data, cursor->len);

    read->cursor.data = p;
    read->cursor.len = (cursor->len == 1 && *p == '0') ? 0 : cursor->len;

    return NGX_OK;
}


static void
ngx_http_llm_budget_redis_cancel_read(void *data,
    ngx_http_llm_budget_read_t *read)
{
    ngx_http_llm_budget_op_t  *op;

    op = read->op;

    if (op) {
        op->read = NULL;
        read->op = NULL;
    }
}


static int64_t
ngx_http_llm_budget_redis_now(void *data)
{
    ngx_http_llm_budget_redis_t  *redis = data;

    return ngx_http_llm_budget_now() + redis->offset_ms;
}


static ngx_int_t
ngx_http_llm_budget_redis_ready(void *data)
{
    ngx_http_llm_budget_redis_t  *redis = data;

    return ngx_http_llm_budget_journal_room(redis->journal);
}


static void
ngx_http_llm_budget_redis_policy(void *data, ngx_uint_t charge)
{
    ngx_http_llm_budget_redis_t  *redis = data;

    redis->call.charge = (unsigned) charge;
}
