
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * An operation in flight: its arguments, NOSCRIPT, its answer.
 */


#include "http/ngx_http_llm_budget_redis_op.h"


static void ngx_http_llm_budget_op_script(ngx_http_llm_budget_op_t *op);
static void ngx_http_llm_budget_op_handler(
    ngx_http_llm_budget_redis_cmd_t *cmd, ngx_int_t rc, redisReply *reply);
static ngx_int_t ngx_http_llm_budget_op_submit(ngx_http_llm_budget_op_t *op);
static void ngx_http_llm_budget_op_load(ngx_http_llm_budget_op_t *op);
static void ngx_http_llm_budget_op_loaded(
    ngx_http_llm_budget_redis_cmd_t *cmd, ngx_int_t rc, redisReply *reply);
static ngx_uint_t ngx_http_llm_budget_op_noscript(redisReply *reply);
static ngx_uint_t ngx_http_llm_budget_op_undone(redisReply *reply);
static ngx_int_t ngx_http_llm_budget_op_answer(redisReply *reply,
    llmb_answer_t *answer);


/* the strings of an answer, while it is looked at */

static llmb_str_t  ngx_http_llm_budget_op_items[NGX_HTTP_LLM_BUDGET_ANSWER];


ngx_http_llm_budget_op_t *
ngx_http_llm_budget_op_create(ngx_http_llm_budget_redis_t *redis,
    llmb_call_e kind, const llmb_str_t *tag, const u_char *id)
{
    ngx_http_llm_budget_op_t  *op;

    if (tag->len > LLMB_CALL_TAG) {
        return NULL;
    }

    op = ngx_calloc(sizeof(ngx_http_llm_budget_op_t), redis->log);
    if (op == NULL) {
        return NULL;
    }

    op->redis = redis;
    op->kind = kind;

    op->tag_len = tag->len;
    ngx_memcpy(op->tag, tag->data, tag->len);

    if (id) {
        ngx_memcpy(op->id, id, LLMB_LEDGER_ID);
    }

    ngx_queue_insert_tail(&redis->ops, &op->queue);

    return op;
}


void
ngx_http_llm_budget_op_free(ngx_http_llm_budget_op_t *op)
{
    ngx_queue_remove(&op->queue);

    if (op->args) {
        ngx_free(op->args);
    }

    if (op->record) {
        ngx_free(op->record);
    }

    ngx_free(op);
}


ngx_int_t
ngx_http_llm_budget_op_send(ngx_http_llm_budget_op_t *op,
    const llmb_call_t *call)
{
    u_char       *p;
    size_t        len, *lens;
    unsigned      i, argc;
    llmb_str_t    tag;
    const char  **argv;

    argc = call->n + 2;
    len = 0;

    for (i = 0; i < call->n; i++) {
        len += call->arg[i].len;
    }

    if (op->args) {
        ngx_free(op->args);
    }

    op->args = ngx_alloc(argc * (sizeof(char *) + sizeof(size_t)) + len,
                         op->redis->log);
    if (op->args == NULL) {
        return NGX_ERROR;
    }

    argv = op->args;
    lens = (size_t *) &argv[argc];
    p = (u_char *) &lens[argc];

    for (i = 0; i < call->n; i++) {
        argv[i + 2] = (char *) p;
        lens[i + 2] = call->arg[i].len;

        p = ngx_cpymem(p, call->arg[i].data, call->arg[i].len);
    }

    tag.data = op->tag;
    tag.len = op->tag_len;

    op->cmd.argc = argc;
    op->cmd.argv = argv;
    op->cmd.lens = lens;
    op->cmd.slot = llmb_call_slot(&tag);
    op->cmd.handler = ngx_http_llm_budget_op_handler;
    op->cmd.data = op;
    op->eval = 0;

    ngx_http_llm_budget_op_script(op);

    return ngx_http_llm_budget_op_submit(op);
}


/* by its digest, or with its source (T25) */

static void
ngx_http_llm_budget_op_script(ngx_http_llm_budget_op_t *op)
{
    size_t                        *lens;
    const char                   **argv;
    ngx_http_llm_budget_script_t  *script;

    script = &op->redis->scripts[op->kind];

    argv = op->cmd.argv;
    lens = (size_t *) (uintptr_t) op->cmd.lens;

    if (op->eval) {
        argv[0] = "EVAL";
        lens[0] = sizeof("EVAL") - 1;
        argv[1] = (char *) script->source.data;
        lens[1] = script->source.len;

    } else {
        argv[0] = "EVALSHA";
        lens[0] = sizeof("EVALSHA") - 1;
        argv[1] = (char *) script->digest;
        lens[1] = sizeof(script->digest);
    }
}


static ngx_int_t
ngx_http_llm_budget_op_submit(ngx_http_llm_budget_op_t *op)
{
    op->unsure = 0;
    op->cmd.sent = 0;
    op->cmd.asking = 0;
    op->cmd.tries = 0;
    op->cmd.deadline = ngx_current_msec + op->redis->conf.conn.timeout;

    return (ngx_http_llm_budget_redis_send(op->redis->nodes, &op->cmd)
            == NGX_OK)
           ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_llm_budget_op_handler(ngx_http_llm_budget_redis_cmd_t *cmd,
    ngx_int_t rc, redisReply *reply)
{
    llmb_answer_t              answer;
    ngx_http_llm_budget_op_t  *op;

    op = cmd->data;

    if (rc == NGX_OK && ngx_http_llm_budget_op_noscript(reply)) {

        if (!op->eval) {
            op->eval = 1;
            ngx_http_llm_budget_op_script(op);

            if (ngx_http_llm_budget_op_submit(op) == NGX_OK) {
                ngx_http_llm_budget_op_load(op);
                return;
            }
        }

        /* certainly not done */

        op->unsure = 0;
        op->done(op, NGX_ERROR, NULL);
        return;
    }

    if (rc == NGX_OK
        && ngx_http_llm_budget_op_answer(reply, &answer) == NGX_OK)
    {
        op->done(op, NGX_OK, &answer);
        return;
    }

    if (rc == NGX_OK) {

        /* no answer of ours */

        op->unsure = 1;

    } else if (rc == NGX_DECLINED) {
        op->unsure = !ngx_http_llm_budget_op_undone(reply);

        if (reply && ngx_http_llm_budget_op_say(op->redis)) {

            /* what follows a comma may be arguments */

            ngx_log_error(NGX_LOG_ERR, op->redis->log, 0,
                          "llm_budget: redis refused %s: %*s",
                          llmb_call_name(op->kind),
                          strcspn(reply->str, ",\r\n"), reply->str);
        }

    } else {
        op->unsure = cmd->sent;
    }

    op->done(op, NGX_ERROR, NULL);
}


/*
 * The server will not know the others either: a post that has to be sent
 * twice would come after the next open.
 */

static void
ngx_http_llm_budget_op_load(ngx_http_llm_budget_op_t *op)
{
    size_t                       *lens;
    llmb_str_t                    tag;
    ngx_uint_t                    i;
    const char                  **argv;
    ngx_http_llm_budget_op_t     *load;
    ngx_http_llm_budget_redis_t  *redis;

    redis = op->redis;

    if (redis->loaded == ngx_time()) {
        return;
    }

    redis->loaded = ngx_time();

    tag.data = op->tag;
    tag.len = op->tag_len;

    for (i = 0; i < LLMB_CALLS; i++) {

        if (i == op->kind) {
            continue;
        }

        load = ngx_http_llm_budget_op_create(redis, LLMB_CALLS, &tag, NULL);
        if (load == NULL) {
            return;
        }

        load->args = ngx_alloc(3 * (sizeof(char *) + sizeof(size_t)),
                               redis->log);
        if (load->args == NULL) {
            ngx_http_llm_budget_op_free(load);
            return;
        }

        argv = load->args;
        lens = (size_t *) &argv[3];

        argv[0] = "SCRIPT";
        lens[0] = sizeof("SCRIPT") - 1;
        argv[1] = "LOAD";
        lens[1] = sizeof("LOAD") - 1;
        argv[2] = (char *) redis->scripts[i].source.data;
        lens[2] = redis->scripts[i].source.len;

        load->cmd.argc = 3;
        load->cmd.argv = argv;
        load->cmd.lens = lens;
        load->cmd.slot = op->cmd.slot;
        load->cmd.soft = 1;
        load->cmd.handler = ngx_http_llm_budget_op_loaded;
        load->cmd.data = load;

        if (ngx_http_llm_budget_op_submit(load) != NGX_OK) {
            ngx_http_llm_budget_op_free(load);
            return;
        }
    }
}


static void
ngx_http_llm_budget_op_loaded(ngx_http_llm_budget_redis_cmd_t *cmd,
    ngx_int_t rc, redisReply *reply)
{
    ngx_http_llm_budget_op_free(cmd->data);
}


static ngx_uint_t
ngx_http_llm_budget_op_noscript(redisReply *reply)
{
    return reply->type == REDIS_REPLY_ERROR
           && ngx_strncmp(reply->str, "NOSCRIPT", 8) == 0;
}


/* errors that come before a script has written anything */

static ngx_uint_t
ngx_http_llm_budget_op_undone(redisReply *reply)
{
    ngx_uint_t  i;

    static const char *const  words[] = {
        "READONLY", "OOM", "LOADING", "MISCONF", "NOAUTH", "WRONGPASS",
        "NOPERM", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "NOREPLICAS", "LOST",
        "MOVED", "ASK", "TRYAGAIN", "CROSSSLOT", "NOSCRIPT", NULL
    };

    if (reply == NULL || reply->type != REDIS_REPLY_ERROR) {
        return 0;
    }

    for (i = 0; words[i]; i++) {

        if (ngx_strncmp(reply->str, words[i], ngx_strlen(words[i])) == 0) {
            return 1;
        }
    }

    return 0;
}


static ngx_int_t
ngx_http_llm_budget_op_answer(redisReply *reply, llmb_answer_t *answer)
{
    size_t       i;
    redisReply  *item;

    if (reply->type != REDIS_REPLY_ARRAY
        || reply->elements > NGX_HTTP_LLM_BUDGET_ANSWER)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < reply->elements; i++) {
        item = reply->element[i];

        if (item->type != REDIS_REPLY_STRING) {
            return NGX_ERROR;
        }

        ngx_http_llm_budget_op_items[i].data = (u_char *) item->str;
        ngx_http_llm_budget_op_items[i].len = (size_t) item->len;
    }

    answer->n = (unsigned) reply->elements;
    answer->item = ngx_http_llm_budget_op_items;

    return NGX_OK;
}


void
ngx_http_llm_budget_op_time(ngx_http_llm_budget_redis_t *redis, int64_t now_ms)
{
    redis->offset_ms = now_ms - ngx_http_llm_budget_now();
}


ngx_uint_t
ngx_http_llm_budget_op_say(ngx_http_llm_budget_redis_t *redis)
{
    time_t  now;

    now = ngx_time();

    if (redis->said == now) {
        return 0;
    }

    redis->said = now;

    return 1;
}
