
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Closings of holds: told to Redis, or kept in the journal and told again by
 * their ids until it answers for them.  Replays are harmless.
 */


#include "http/ngx_http_llm_budget_redis_op.h"


static llmb_record_t *ngx_http_llm_budget_close_record(
    ngx_http_llm_budget_redis_t *redis, const llmb_record_t *record,
    const llmb_ledger_leg_t *leg);
static size_t ngx_http_llm_budget_close_line(ngx_http_llm_budget_op_t *op);
static ngx_int_t ngx_http_llm_budget_close_send(ngx_http_llm_budget_op_t *op);
static ngx_uint_t ngx_http_llm_budget_close_stale(
    ngx_http_llm_budget_redis_t *redis, const llmb_record_t *record);
static void ngx_http_llm_budget_close_done(ngx_http_llm_budget_op_t *op,
    ngx_int_t rc, const llmb_answer_t *answer);
static void ngx_http_llm_budget_close_say(ngx_http_llm_budget_op_t *op,
    ngx_uint_t level, const char *what);
static void ngx_http_llm_budget_close_refused(ngx_http_llm_budget_op_t *op);
static ngx_int_t ngx_http_llm_budget_close_unknown(
    ngx_http_llm_budget_op_t *op);
static void ngx_http_llm_budget_close_failed(ngx_http_llm_budget_op_t *op);
static void ngx_http_llm_budget_close_leave(ngx_http_llm_budget_op_t *op);
static ngx_int_t ngx_http_llm_budget_close_journal(
    ngx_http_llm_budget_op_t *op);
static void ngx_http_llm_budget_close_told(ngx_http_llm_budget_op_t *op);
static ngx_int_t ngx_http_llm_budget_replay_next(
    ngx_http_llm_budget_redis_t *redis);


/* a record as it is read, a line and arguments as they are made */

static llmb_record_t  ngx_http_llm_budget_close_read;
static u_char         ngx_http_llm_budget_close_text[LLMB_RECORD_LEN];
static llmb_call_t    ngx_http_llm_budget_close_args;


ngx_int_t
ngx_http_llm_budget_redis_close(ngx_http_llm_budget_redis_t *redis,
    llmb_call_e kind, ngx_http_llm_budget_closing_t *closing)
{
    ngx_int_t                  rc;
    llmb_record_t             *record;
    ngx_http_llm_budget_op_t  *op;

    op = ngx_http_llm_budget_op_create(redis, kind, &closing->tag,
                                       closing->id);
    if (op == NULL) {
        return NGX_ERROR;
    }

    record = &ngx_http_llm_budget_close_read;

    record->kind = kind;
    record->tag = closing->tag;
    record->time_ms = ngx_http_llm_budget_now() + redis->offset_ms;
    record->sent = 0;
    record->n = (kind == LLMB_CALL_POST) ? closing->n : 0;

    ngx_memcpy(record->id, closing->id, LLMB_LEDGER_ID);

    if (kind == LLMB_CALL_POST) {
        ngx_memcpy(record->actual, closing->actual, sizeof(record->actual));

    } else {
        ngx_memzero(record->actual, sizeof(record->actual));
    }

    op->legs = (closing->unknown != 0);
    op->done = ngx_http_llm_budget_close_done;

    op->record = ngx_http_llm_budget_close_record(redis, record, closing->leg);

    if (op->record == NULL) {
        ngx_http_llm_budget_op_free(op);
        return NGX_ERROR;
    }

    if (redis->nodes && ngx_http_llm_budget_close_send(op) == NGX_OK) {
        return NGX_AGAIN;
    }

    rc = ngx_http_llm_budget_close_journal(op);
    ngx_http_llm_budget_op_free(op);

    return (rc == NGX_OK) ? NGX_AGAIN : NGX_ERROR;
}


/*
 * A copy of its own, with what it views, and with no more legs than it has:
 * the rest of its array is not there.
 */

static llmb_record_t *
ngx_http_llm_budget_close_record(ngx_http_llm_budget_redis_t *redis,
    const llmb_record_t *record, const llmb_ledger_leg_t *leg)
{
    u_char         *p;
    size_t          size, len;
    unsigned        i;
    llmb_record_t  *copy;

    size = offsetof(llmb_record_t, leg)
           + record->n * sizeof(llmb_ledger_leg_t);
    len = record->tag.len;

    for (i = 0; i < record->n; i++) {
        len += leg[i].name.len;
    }

    copy = ngx_alloc(size + len, redis->log);
    if (copy == NULL) {
        return NULL;
    }

    ngx_memcpy(copy, record, offsetof(llmb_record_t, leg));

    p = (u_char *) copy + size;

    copy->tag.data = p;
    p = ngx_cpymem(p, record->tag.data, record->tag.len);

    for (i = 0; i < record->n; i++) {
        copy->leg[i] = leg[i];
        copy->leg[i].name.data = p;
        p = ngx_cpymem(p, leg[i].name.data, leg[i].name.len);
    }

    return copy;
}


/* its line, in close_text, as the journal and the log have it */

static size_t
ngx_http_llm_budget_close_line(ngx_http_llm_budget_op_t *op)
{
    size_t  len;

    len = llmb_record_write(ngx_http_llm_budget_close_text, op->record);

    if (len == 0) {
        ngx_log_error(NGX_LOG_ALERT, op->redis->log, 0,
                      "llm_budget: a closing cannot be recorded");
    }

    return len;
}


static ngx_int_t
ngx_http_llm_budget_close_send(ngx_http_llm_budget_op_t *op)
{
    llmb_rc_e       rc;
    llmb_call_t    *call;
    llmb_record_t  *record;

    call = &ngx_http_llm_budget_close_args;
    record = op->record;

    if (op->kind == LLMB_CALL_VOID) {
        rc = llmb_call_void(call, &op->redis->call, &record->tag, op->id);

    } else {
        rc = llmb_call_post(call, &op->redis->call, &record->tag, op->id,
                            record->actual, op->legs ? record->leg : NULL,
                            op->legs ? record->n : 0);
    }

    if (rc != LLMB_OK) {
        ngx_log_error(NGX_LOG_ALERT, op->redis->log, 0,
                      "llm_budget: a closing cannot be sent");
        return NGX_ERROR;
    }

    return ngx_http_llm_budget_op_send(op, call);
}


/*
 * Redis may have done it once, and has forgotten by now whether it did: an
 * unknown hold is then one that it closed.
 */

static ngx_uint_t
ngx_http_llm_budget_close_stale(ngx_http_llm_budget_redis_t *redis,
    const llmb_record_t *record)
{
    return record->sent
           && ngx_http_llm_budget_now() + redis->offset_ms - record->time_ms
              >= redis->call.keep_ms;
}


static void
ngx_http_llm_budget_close_done(ngx_http_llm_budget_op_t *op, ngx_int_t rc,
    const llmb_answer_t *answer)
{
    int64_t           now_ms;
    llmb_hold_e       state;
    llmb_ledger_rc_e  result;

    if (rc != NGX_OK
        || llmb_answer_close(answer, &result, &now_ms, &state) != LLMB_OK)
    {
        if (rc == NGX_OK) {
            op->unsure = 1;
        }

        ngx_http_llm_budget_close_failed(op);
        return;
    }

    ngx_http_llm_budget_op_time(op->redis, now_ms);

    if (op->kind == LLMB_CALL_POST) {

        switch (result) {

        case LLMB_LEDGER_UNKNOWN:

            if (ngx_http_llm_budget_close_unknown(op) == NGX_AGAIN) {
                return;
            }

            break;

        case LLMB_LEDGER_CLOSED:
            ngx_http_llm_budget_close_say(op, NGX_LOG_WARN,
                          "a hold was closed before its cost came: if it "
                          "expired, llm_budget_hold_timeout is too short");
            break;

        case LLMB_LEDGER_BAD:
            ngx_http_llm_budget_close_say(op, NGX_LOG_CRIT,
                          "redis cannot charge the cost of a hold");
            ngx_http_llm_budget_close_refused(op);
            break;

        default:
            break;
        }
    }

    ngx_http_llm_budget_close_told(op);
}


static void
ngx_http_llm_budget_close_say(ngx_http_llm_budget_op_t *op, ngx_uint_t level,
    const char *what)
{
    if (ngx_http_llm_budget_op_say(op->redis)) {
        ngx_log_error(level, op->redis->log, 0, "llm_budget: %s: %*s", what,
                      ngx_http_llm_budget_close_line(op),
                      ngx_http_llm_budget_close_text);
    }
}


static void
ngx_http_llm_budget_close_refused(ngx_http_llm_budget_op_t *op)
{
    size_t  len;

    len = ngx_http_llm_budget_close_line(op);

    if (len) {
        (void) ngx_http_llm_budget_journal_refused(op->redis->journal,
                                               ngx_http_llm_budget_close_text,
                                               len);
    }
}


/* NGX_AGAIN: charged all the same, by its legs; NGX_OK: that was all */

static ngx_int_t
ngx_http_llm_budget_close_unknown(ngx_http_llm_budget_op_t *op)
{
    if (op->legs) {
        return NGX_OK;
    }

    if (ngx_http_llm_budget_close_stale(op->redis, op->record)) {
        ngx_http_llm_budget_close_say(op, NGX_LOG_WARN,
                          "redis no longer knows a hold whose cost it may "
                          "have got before: taken as charged");
        return NGX_OK;
    }

    op->legs = 1;

    if (ngx_http_llm_budget_close_send(op) != NGX_OK) {
        op->unsure = 0;
        ngx_http_llm_budget_close_failed(op);
    }

    return NGX_AGAIN;
}


static void
ngx_http_llm_budget_close_failed(ngx_http_llm_budget_op_t *op)
{
    ngx_uint_t                    replay;
    ngx_http_llm_budget_redis_t  *redis;

    redis = op->redis;
    replay = op->replay;

    if (replay) {
        redis->replays--;
        ngx_http_llm_budget_close_leave(op);

    } else {
        (void) ngx_http_llm_budget_close_journal(op);
    }

    ngx_http_llm_budget_op_free(op);

    if (replay) {
        ngx_http_llm_budget_redis_replay(redis);
    }
}


/* a line of the journal stays there */

static void
ngx_http_llm_budget_close_leave(ngx_http_llm_budget_op_t *op)
{
    size_t  len;

    op->record->sent |= op->unsure;

    len = ngx_http_llm_budget_close_line(op);

    ngx_http_llm_budget_journal_leave(op->redis->journal, op->place,
                                      op->unsure,
                                      ngx_http_llm_budget_close_text, len);
}


static ngx_int_t
ngx_http_llm_budget_close_journal(ngx_http_llm_budget_op_t *op)
{
    size_t  len;

    op->record->sent |= op->unsure;

    len = ngx_http_llm_budget_close_line(op);

    if (len
        && ngx_http_llm_budget_journal_write(op->redis->journal,
                                             ngx_http_llm_budget_close_text,
                                             len)
           == NGX_OK)
    {
        return NGX_OK;
    }

    ngx_http_llm_budget_close_say(op, NGX_LOG_CRIT,
                                  "the closing of a hold is lost");

    return NGX_ERROR;
}


static void
ngx_http_llm_budget_close_told(ngx_http_llm_budget_op_t *op)
{
    ngx_uint_t                    replay;
    ngx_http_llm_budget_redis_t  *redis;

    redis = op->redis;
    replay = op->replay;

    if (replay) {
        redis->replays--;
        ngx_http_llm_budget_journal_told(redis->journal, op->place);
    }

    ngx_http_llm_budget_op_free(op);

    if (replay) {
        ngx_http_llm_budget_redis_replay(redis);
    }
}


void
ngx_http_llm_budget_redis_keep(ngx_http_llm_budget_op_t *op)
{
    op->unsure = op->cmd.sent;

    if (op->replay) {
        ngx_http_llm_budget_close_leave(op);

    } else if (op->record) {
        (void) ngx_http_llm_budget_close_journal(op);
    }

    ngx_http_llm_budget_op_free(op);
}


/*
 * Lines that cannot be told, as when their node of a cluster is down, are
 * left, and the others are told; then it begins anew, ever more seldom.
 */

void
ngx_http_llm_budget_redis_replay(ngx_http_llm_budget_redis_t *redis)
{
    ngx_int_t   rc;
    ngx_uint_t  n;

    rc = NGX_OK;

    for (n = 0; rc == NGX_OK && n < NGX_HTTP_LLM_BUDGET_REPLAY_LINES; n++) {

        if (ngx_exiting || redis->replays == NGX_HTTP_LLM_BUDGET_REPLAYS
            || ngx_http_llm_budget_redis_nodes_state(redis->nodes) != NGX_OK)
        {
            return;
        }

        rc = ngx_http_llm_budget_replay_next(redis);
    }

    if (rc == NGX_OK) {

        /* enough for one turn of the event loop */

        ngx_add_timer(&redis->timer, NGX_HTTP_LLM_BUDGET_REPLAY_SOON);
        return;
    }

    if (redis->replays) {
        return;
    }

    if (ngx_http_llm_budget_journal_left(redis->journal) == 0) {
        redis->pause = 0;
        return;
    }

    if ((ngx_msec_int_t) (redis->again - ngx_current_msec) > 0) {
        return;
    }

    redis->pause = ngx_min(2 * redis->pause + NGX_HTTP_LLM_BUDGET_REPLAY_EVERY,
                           NGX_HTTP_LLM_BUDGET_REPLAY_PAUSE);
    redis->again = ngx_current_msec + redis->pause;

    ngx_http_llm_budget_journal_rewind(redis->journal);
}


/* NGX_OK: one more was sent, left or set aside; NGX_DONE: there is none */

static ngx_int_t
ngx_http_llm_budget_replay_next(ngx_http_llm_budget_redis_t *redis)
{
    off_t                      place;
    ngx_str_t                  line;
    ngx_uint_t                 sent;
    llmb_record_t             *record;
    ngx_http_llm_budget_op_t  *op;

    record = &ngx_http_llm_budget_close_read;

    if (ngx_http_llm_budget_journal_next(redis->journal, &line, &sent, &place)
        != NGX_OK)
    {
        return NGX_DONE;
    }

    if (llmb_record_read(ngx_http_llm_budget_view(&line), record) != LLMB_OK) {
        ngx_http_llm_budget_journal_bad(redis->journal);
        return NGX_OK;
    }

    record->sent |= (unsigned) sent;

    op = ngx_http_llm_budget_op_create(redis, record->kind, &record->tag,
                                       record->id);
    if (op == NULL) {
        goto failed;
    }

    op->replay = 1;
    op->place = place;
    op->legs = !record->sent;
    op->done = ngx_http_llm_budget_close_done;

    op->record = ngx_http_llm_budget_close_record(redis, record, record->leg);

    if (op->record == NULL) {
        ngx_http_llm_budget_op_free(op);
        goto failed;
    }

    if (ngx_http_llm_budget_close_send(op) != NGX_OK) {
        ngx_http_llm_budget_close_leave(op);
        ngx_http_llm_budget_op_free(op);

        return NGX_OK;
    }

    redis->replays++;

    return NGX_OK;

failed:

    /* no memory: the line is valid still */

    ngx_http_llm_budget_journal_leave(redis->journal, place, 0, line.data,
                                      line.len);
    return NGX_DONE;
}
