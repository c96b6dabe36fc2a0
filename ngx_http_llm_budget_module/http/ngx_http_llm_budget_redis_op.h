
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What the files of the Redis store share: the store of a worker, and an
 * operation, which is its own object: requests come and go, it stays until it
 * is answered.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_REDIS_OP_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_REDIS_OP_H_INCLUDED_


#include "http/ngx_http_llm_budget_redis_journal.h"
#include "http/ngx_http_llm_budget_redis_nodes.h"
#include "http/ngx_http_llm_budget_store.h"


/* strings in the largest answer: a walk's */
#define NGX_HTTP_LLM_BUDGET_ANSWER          8192

/*
 * Closings of the journal that are told at a time, and looked at in one turn
 * of the event loop; milliseconds between two looks, to the next turn, and at
 * most between two tries of what could not be told.
 */
#define NGX_HTTP_LLM_BUDGET_REPLAYS         64
#define NGX_HTTP_LLM_BUDGET_REPLAY_LINES    256
#define NGX_HTTP_LLM_BUDGET_REPLAY_EVERY    1000
#define NGX_HTTP_LLM_BUDGET_REPLAY_SOON     10
#define NGX_HTTP_LLM_BUDGET_REPLAY_PAUSE    10000


typedef struct {
    ngx_str_t                            source;
    u_char                               digest[40];    /* SHA-1, hex */
} ngx_http_llm_budget_script_t;


typedef struct {
    ngx_http_llm_budget_redis_conf_t     conf;
    llmb_call_conf_t                     call;
    ngx_http_llm_budget_journal_t       *journal;
    ngx_http_llm_budget_script_t         scripts[LLMB_CALLS];

    /* of a worker */
    ngx_http_llm_budget_redis_nodes_t   *nodes;
    ngx_log_t                           *log;
    ngx_queue_t                          ops;
    int64_t                              offset_ms;     /* of its clock */
    time_t                               said;      /* the last complaint */
    time_t                               loaded;    /* scripts, the last time */

    ngx_event_t                          timer;     /* looks for a replay */
    ngx_uint_t                           replays;   /* in flight */
    ngx_msec_t                           pause;     /* between two tries of */
    ngx_msec_t                           again;     /* what was left; the next
                                                       one */
} ngx_http_llm_budget_redis_t;


typedef struct ngx_http_llm_budget_op_s  ngx_http_llm_budget_op_t;

struct ngx_http_llm_budget_op_s {
    ngx_http_llm_budget_redis_cmd_t      cmd;
    ngx_queue_t                          queue;     /* redis->ops */
    ngx_http_llm_budget_redis_t         *redis;
    llmb_call_e                          kind;
    void                                *args;      /* argv, lens, bytes */

    /* rc as in redis_nodes.h; the answer is there with NGX_OK */
    void                               (*done)(ngx_http_llm_budget_op_t *op,
                                               ngx_int_t rc,
                                               const llmb_answer_t *answer);

    ngx_http_llm_budget_call_t          *call;      /* open; NULL: its request
                                                       is gone */
    ngx_http_llm_budget_read_t          *read;      /* walk; likewise */
    unsigned                             n;         /* open: legs */

    u_char                               id[LLMB_LEDGER_ID];
    u_char                               tag[LLMB_CALL_TAG];
    size_t                               tag_len;

    llmb_record_t                       *record;    /* closing: with as many
                                                       legs as it has */
    off_t                                place;     /* replay: in the journal */

    unsigned                             eval:1;    /* with its source */
    unsigned                             legs:1;    /* also if unknown */
    unsigned                             replay:1;
    unsigned                             unsure:1;  /* NGX_ERROR, DECLINED: it
                                                       may have been done */
};


/* A new operation; NULL: no memory. */
ngx_http_llm_budget_op_t *ngx_http_llm_budget_op_create(
    ngx_http_llm_budget_redis_t *redis, llmb_call_e kind,
    const llmb_str_t *tag, const u_char *id);
void ngx_http_llm_budget_op_free(ngx_http_llm_budget_op_t *op);

/*
 * Sends it with those arguments, copied.  NGX_OK: done() will be called, not
 * from within; NGX_ERROR: it was not sent and is the caller's.
 */
ngx_int_t ngx_http_llm_budget_op_send(ngx_http_llm_budget_op_t *op,
    const llmb_call_t *call);

/* Notes the server's time of an answer. */
void ngx_http_llm_budget_op_time(ngx_http_llm_budget_redis_t *redis,
    int64_t now_ms);

/* Whether one more complaint about answers may be logged this second. */
ngx_uint_t ngx_http_llm_budget_op_say(ngx_http_llm_budget_redis_t *redis);

/*
 * Closings of holds: redis_close.c.  NGX_AGAIN: it will be told to Redis, by
 * the journal if need be; NGX_ERROR: lost.
 */
ngx_int_t ngx_http_llm_budget_redis_close(ngx_http_llm_budget_redis_t *redis,
    llmb_call_e kind, ngx_http_llm_budget_closing_t *closing);

/* Tells what the journal has, some at a time, as long as all goes well. */
void ngx_http_llm_budget_redis_replay(ngx_http_llm_budget_redis_t *redis);

/* The worker ends: the closing goes to the journal, and op is freed. */
void ngx_http_llm_budget_redis_keep(ngx_http_llm_budget_op_t *op);


#endif /* _NGX_HTTP_LLM_BUDGET_REDIS_OP_H_INCLUDED_ */
