
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The scripts in Redis.  Their clock is a field of the meta hash: the call
 * that reads the time is replaced in their text, which is all that differs
 * from what the module runs.
 */


#include "agree.h"
#include "ngx_http_llm_budget_scripts.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


#define NODES   8
#define WORDS   (LLMB_CALL_ARGS + 2)
#define TIME    "redis.call('TIME')"
#define CLOCK   "redis.call('HMGET', KEYS[5], 'test_s', 'test_us')"


typedef struct {
    redisContext  *context;
    char           address[80];
    char           sha[LLMB_CALLS][48];
    int            first;       /* slots */
    int            last;
} node_t;


static const char *const  texts[LLMB_CALLS] = {
    ngx_http_llm_budget_script_open,
    ngx_http_llm_budget_script_post,
    ngx_http_llm_budget_script_void,
    ngx_http_llm_budget_script_extend,
    ngx_http_llm_budget_script_peek,
    ngx_http_llm_budget_script_walk
};


static node_t                  nodes[NODES];
static node_t                 *home;
static char                   *scripts[LLMB_CALLS];
static char                    tag_text[32];
static int64_t                 clock_ms;
static unsigned                nnodes;
static unsigned                tags;
static redisReply             *kept;
static llmb_str_t              items[4096];
static llmb_call_t             call;
static const llmb_call_conf_t  conf[2] = {
    { llmb_string("agree:"), 0, LLMB_LEDGER_KEEP_MS },
    { llmb_string("agree:"), 1, LLMB_LEDGER_KEEP_MS }
};


char        agree_error[256];
llmb_str_t  agree_tag;
int         agree_cluster;


static redisContext *
dial(const char *address)
{
    char           host[80];
    const char    *colon;
    redisContext  *context;

    if (strncmp(address, "unix:", 5) == 0) {
        context = redisConnectUnix(address + 5);

    } else {
        colon = strrchr(address, ':');

        if (colon == NULL) {
            return NULL;
        }

        (void) snprintf(host, sizeof(host), "%.*s", (int) (colon - address),
                        address);
        context = redisConnect(host, (int) strtol(colon + 1, NULL, 10));
    }

    if (context != NULL && context->err) {
        redisFree(context);
        return NULL;
    }

    return context;
}


static int
add_node(const char *address, int first, int last)
{
    unsigned     i;
    node_t      *node;
    redisReply  *reply;

    if (nnodes == NODES) {
        return 0;
    }

    node = &nodes[nnodes];
    node->context = dial(address);
    node->first = first;
    node->last = last;

    if (node->context == NULL) {
        return 0;
    }

    nnodes++;

    for (i = 0; i < LLMB_CALLS; i++) {
        reply = redisCommand(node->context, "SCRIPT LOAD %s", scripts[i]);

        if (reply == NULL || reply->type != REDIS_REPLY_STRING) {
            printf("# %s: %s\n", llmb_call_name((llmb_call_e) i),
                   (reply != NULL) ? reply->str : "no reply");
            freeReplyObject(reply);
            return 0;
        }

        (void) snprintf(node->sha[i], sizeof(node->sha[i]), "%s", reply->str);
        freeReplyObject(reply);
    }

    return 1;
}


static int
add_slots(const redisReply *slots)
{
    char               address[80];
    size_t             i;
    const redisReply  *range;

    for (i = 0; i < slots->elements; i++) {
        range = slots->element[i];

        (void) snprintf(address, sizeof(address), "%s:%lld",
                        range->element[2]->element[0]->str,
                        range->element[2]->element[1]->integer);

        if (!add_node(address, (int) range->element[0]->integer,
                      (int) range->element[1]->integer))
        {
            return 0;
        }
    }

    return slots->elements != 0;
}


int
agree_connect(const char *server, int cluster)
{
    int            fine;
    size_t         len;
    unsigned       i;
    const char    *at;
    redisReply    *reply;
    redisContext  *context;

    agree_cluster = cluster;

    for (i = 0; i < LLMB_CALLS; i++) {
        at = strstr(texts[i], TIME);

        if (at == NULL || strstr(at + 1, TIME) != NULL) {
            return 0;
        }

        len = strlen(texts[i]) + sizeof(CLOCK);
        scripts[i] = malloc(len);

        (void) snprintf(scripts[i], len, "%.*s" CLOCK "%s",
                        (int) (at - texts[i]), texts[i],
                        at + sizeof(TIME) - 1);
    }

    if (!cluster) {
        return add_node(server, 0, 16383);
    }

    context = dial(server);

    if (context == NULL) {
        return 0;
    }

    reply = redisCommand(context, "CLUSTER SLOTS");
    fine = (reply != NULL && reply->type == REDIS_REPLY_ARRAY
            && add_slots(reply));

    freeReplyObject(reply);
    redisFree(context);

    return fine;
}


void
agree_disconnect(void)
{
    unsigned  i;

    for (i = 0; i < nnodes; i++) {
        redisFree(nodes[i].context);
    }

    for (i = 0; i < LLMB_CALLS; i++) {
        free(scripts[i]);
    }

    freeReplyObject(kept);
    nnodes = 0;
}


static void
redis_reset(void)
{
    int       slot;
    unsigned  i;

    (void) snprintf(tag_text, sizeof(tag_text), "t%ld.%u", (long) getpid(),
                    ++tags);

    agree_tag.data = (unsigned char *) tag_text;
    agree_tag.len = strlen(tag_text);

    slot = (int) llmb_call_slot(&agree_tag);
    home = NULL;
    clock_ms = -1;

    for (i = 0; i < nnodes; i++) {

        if (nodes[i].first <= slot && slot <= nodes[i].last) {
            home = &nodes[i];
        }
    }
}


static int
failed(redisReply *reply)
{
    if (reply != NULL && reply->type != REDIS_REPLY_ERROR) {
        return 0;
    }

    (void) snprintf(agree_error, sizeof(agree_error), "%s",
                    (reply != NULL) ? reply->str : "no reply");

    freeReplyObject(reply);

    return 1;
}


static void
set_clock(void)
{
    redisReply  *reply;

    if (clock_ms == agree_now_ms) {
        return;
    }

    clock_ms = agree_now_ms;

    reply = redisCommand(home->context,
                         "HSET agree:{%s}:meta test_s %lld test_us %lld",
                         tag_text, (long long) (clock_ms / 1000),
                         (long long) (clock_ms % 1000 * 1000));

    if (!failed(reply)) {
        freeReplyObject(reply);
    }
}


/* One round trip, or two where the script is not there. */

static redisReply *
run(llmb_call_e kind, const llmb_call_t *c)
{
    size_t        lens[WORDS];
    unsigned      i;
    const char   *argv[WORDS];
    redisReply   *reply;

    set_clock();

    argv[0] = "EVALSHA";
    argv[1] = home->sha[kind];

    for (i = 0; i < c->n; i++) {
        argv[i + 2] = (const char *) c->arg[i].data;
        lens[i + 2] = c->arg[i].len;
    }

    lens[0] = strlen(argv[0]);
    lens[1] = strlen(argv[1]);

    reply = redisCommandArgv(home->context, (int) c->n + 2, argv, lens);

    if (reply != NULL && reply->type == REDIS_REPLY_ERROR
        && strncmp(reply->str, "NOSCRIPT", 8) == 0)
    {
        freeReplyObject(reply);

        argv[0] = "EVAL";
        argv[1] = scripts[kind];
        lens[0] = strlen(argv[0]);
        lens[1] = strlen(argv[1]);

        reply = redisCommandArgv(home->context, (int) c->n + 2, argv, lens);
    }

    if (failed(reply)) {
        return NULL;
    }

    return reply;
}


void
agree_append(llmb_call_e kind, const llmb_call_t *c)
{
    size_t       lens[WORDS];
    unsigned     i;
    const char  *argv[WORDS];

    set_clock();

    argv[0] = "EVALSHA";
    argv[1] = home->sha[kind];
    lens[0] = strlen(argv[0]);
    lens[1] = strlen(argv[1]);

    for (i = 0; i < c->n; i++) {
        argv[i + 2] = (const char *) c->arg[i].data;
        lens[i + 2] = c->arg[i].len;
    }

    (void) redisAppendCommandArgv(home->context, (int) c->n + 2, argv, lens);
}


int
agree_collect(unsigned n)
{
    int          fine;
    unsigned     i;
    redisReply  *reply;

    fine = 1;

    for (i = 0; i < n; i++) {
        reply = NULL;

        (void) redisGetReply(home->context, (void **) &reply);

        if (failed(reply)) {
            fine = 0;
            continue;
        }

        fine = fine && strcmp(reply->element[0]->str, "ok") == 0;
        freeReplyObject(reply);
    }

    return fine;
}


int
agree_send(llmb_call_e kind, const llmb_call_t *c)
{
    redisReply  *reply;

    reply = run(kind, c);

    if (reply == NULL) {
        return -1;
    }

    freeReplyObject(reply);

    return 0;
}


/* The reply is kept until the next one: answers view it. */

static int
ask(llmb_call_e kind, llmb_answer_t *answer)
{
    size_t  i;

    freeReplyObject(kept);
    kept = run(kind, &call);

    if (kept == NULL) {
        return 0;
    }

    answer->n = 0;
    answer->item = items;

    for (i = 0; i < kept->elements; i++) {

        if (kept->element[i]->type != REDIS_REPLY_STRING
            || i == sizeof(items) / sizeof(items[0]))
        {
            (void) snprintf(agree_error, sizeof(agree_error),
                            "item %u is not a string", (unsigned) i);
            return 0;
        }

        items[i].data = (unsigned char *) kept->element[i]->str;
        items[i].len = kept->element[i]->len;
        answer->n++;
    }

    return 1;
}


static llmb_ledger_rc_e
redis_open(llmb_ledger_open_t *op, int64_t timeout_ms)
{
    int64_t           time_ms;
    unsigned          late;
    llmb_answer_t     answer;
    llmb_ledger_rc_e  rc;

    op->denied = 0;
    op->replayed = 0;

    if (llmb_call_open(&call, &conf[agree_charge], &agree_tag, op, timeout_ms)
        != LLMB_OK)
    {
        return LLMB_LEDGER_BAD;
    }

    if (!ask(LLMB_CALL_OPEN, &answer)
        || llmb_answer_open(&answer, op, &rc, &time_ms, &late) != LLMB_OK
        || time_ms != agree_now_ms)
    {
        return AGREE_ERROR;
    }

    return late ? AGREE_LATE : rc;
}


static llmb_ledger_rc_e
closing(llmb_call_e kind, llmb_hold_e *state)
{
    int64_t           time_ms;
    llmb_answer_t     answer;
    llmb_ledger_rc_e  rc;

    if (!ask(kind, &answer)
        || llmb_answer_close(&answer, &rc, &time_ms, state) != LLMB_OK
        || time_ms != agree_now_ms)
    {
        return AGREE_ERROR;
    }

    return rc;
}


static llmb_ledger_rc_e
redis_post(const unsigned char *id, const int64_t *actual,
    const llmb_ledger_leg_t *legs, unsigned n, llmb_hold_e *state)
{
    if (llmb_call_post(&call, &conf[0], &agree_tag, id, actual, legs, n)
        != LLMB_OK)
    {
        return LLMB_LEDGER_BAD;
    }

    return closing(LLMB_CALL_POST, state);
}


static llmb_ledger_rc_e
redis_cancel(const unsigned char *id, llmb_hold_e *state)
{
    if (llmb_call_void(&call, &conf[0], &agree_tag, id) != LLMB_OK) {
        return LLMB_LEDGER_BAD;
    }

    return closing(LLMB_CALL_VOID, state);
}


static llmb_ledger_rc_e
redis_extend(const unsigned char *id, int64_t timeout_ms)
{
    if (llmb_call_extend(&call, &conf[0], &agree_tag, id, timeout_ms)
        != LLMB_OK)
    {
        return LLMB_LEDGER_BAD;
    }

    return closing(LLMB_CALL_EXTEND, NULL);
}


static int
redis_peek(const uint64_t (*keys)[2], unsigned n,
    llmb_ledger_account_t *accounts, llmb_ledger_stat_t *stat)
{
    int64_t        time_ms;
    unsigned       got;
    llmb_answer_t  answer;

    got = n;

    return llmb_call_peek(&call, &conf[agree_charge], &agree_tag, keys, n)
           == LLMB_OK
           && ask(LLMB_CALL_PEEK, &answer)
           && llmb_answer_read(&answer, stat, &time_ms, NULL, accounts, &got)
              == LLMB_OK
           && time_ms == agree_now_ms
           && got == n;
}


int
agree_walk(llmb_ledger_account_t *accounts, unsigned max, unsigned *portion)
{
    char                   text[64];
    int64_t                time_ms;
    unsigned               n, got, i;
    llmb_str_t             cursor;
    llmb_answer_t          answer;
    llmb_ledger_stat_t     stat;

    n = 0;
    *portion = 0;
    cursor.data = (unsigned char *) text;
    cursor.len = 1;
    text[0] = '0';

    do {
        got = max - n;

        if (llmb_call_walk(&call, &conf[agree_charge], &agree_tag, &cursor)
            != LLMB_OK
            || !ask(LLMB_CALL_WALK, &answer)
            || llmb_answer_read(&answer, &stat, &time_ms, &cursor,
                                &accounts[n], &got)
               != LLMB_OK
            || cursor.len > sizeof(text)
            || (got == 0 && n == max))
        {
            return -1;
        }

        /* names go with the reply */

        for (i = 0; i < got; i++) {
            accounts[n + i].name.data = NULL;
        }

        if (*portion < got) {
            *portion = got;
        }

        n += got;

        memcpy(text, cursor.data, cursor.len);
        cursor.data = (unsigned char *) text;

    } while (cursor.len != 1 || text[0] != '0');

    return (int) n;
}


long long
agree_command(const char *command, const char *key, ...)
{
    char          name[64];
    va_list       args;
    unsigned      n;
    long long     result;
    const char   *argv[16];
    redisReply   *reply;

    n = 0;
    argv[n++] = command;

    if (key != NULL) {
        (void) snprintf(name, sizeof(name), "agree:{%s}:%s", tag_text, key);
        argv[n++] = name;
    }

    va_start(args, key);

    while (n < 16 && (argv[n] = va_arg(args, const char *)) != NULL) {
        n++;
    }

    va_end(args);

    reply = redisCommandArgv(home->context, (int) n, argv, NULL);

    if (failed(reply)) {
        return -1;
    }

    result = (reply->type == REDIS_REPLY_INTEGER) ? reply->integer : 0;

    if (strcmp(command, "DEL") == 0 && strcmp(key, "meta") == 0) {
        clock_ms = -1;
    }

    freeReplyObject(reply);

    return result;
}


void
agree_everywhere(const char *a, const char *b, const char *c, const char *d)
{
    unsigned     i;
    const char  *argv[4];
    redisReply  *reply;

    argv[0] = a;
    argv[1] = b;
    argv[2] = c;
    argv[3] = d;

    for (i = 0; i < nnodes; i++) {
        reply = redisCommandArgv(nodes[i].context,
                                 (d != NULL) ? 4 : (c != NULL) ? 3 : 2,
                                 argv, NULL);

        if (!failed(reply)) {
            freeReplyObject(reply);
        }
    }
}


int
agree_two_tags(void)
{
    static unsigned char  other[] = "agree:{another}:meta";

    if (llmb_call_peek(&call, &conf[0], &agree_tag, NULL, 0) != LLMB_OK) {
        return 0;
    }

    call.arg[LLMB_CALL_KEYS].data = other;
    call.arg[LLMB_CALL_KEYS].len = sizeof(other) - 1;

    return agree_send(LLMB_CALL_PEEK, &call);
}


void
agree_cpu(double *usec, double *calls)
{
    unsigned     i;
    const char  *p;
    redisReply  *reply;

    *usec = 0;
    *calls = 0;

    for (i = 0; i < nnodes; i++) {
        reply = redisCommand(nodes[i].context, "INFO commandstats");

        if (failed(reply)) {
            continue;
        }

        p = strstr(reply->str, "cmdstat_evalsha:calls=");

        if (p != NULL) {
            *calls += strtod(strchr(p, '=') + 1, NULL);
            *usec += strtod(strstr(p, "usec=") + 5, NULL);
        }

        freeReplyObject(reply);
    }
}


const agree_store_t  agree_redis = {
    "redis",
    redis_reset,
    redis_open,
    redis_post,
    redis_cancel,
    redis_extend,
    redis_peek
};
