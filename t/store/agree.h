
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The stores that are compared, behind one face: the ledger of the core in
 * memory, and the scripts in Redis.  The clock of both is agree_now_ms.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_AGREE_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_AGREE_H_INCLUDED_


#include "core/llmb_call.h"

#include <hiredis/hiredis.h>


/* the server answered with an error, see agree_error */
#define AGREE_ERROR     ((llmb_ledger_rc_e) 100)

/* the legs are of another time */
#define AGREE_LATE      ((llmb_ledger_rc_e) 101)


typedef struct {
    const char         *name;

    /* an empty ledger: of another tag */
    void              (*reset)(void);

    llmb_ledger_rc_e  (*open)(llmb_ledger_open_t *op, int64_t timeout_ms);

    /* legs NULL, or what is charged if the hold is not known */
    llmb_ledger_rc_e  (*post)(const unsigned char *id, const int64_t *actual,
                              const llmb_ledger_leg_t *legs, unsigned n,
                              llmb_hold_e *state);

    /* remembers what it does not know */
    llmb_ledger_rc_e  (*cancel)(const unsigned char *id, llmb_hold_e *state);

    llmb_ledger_rc_e  (*extend)(const unsigned char *id, int64_t timeout_ms);

    /* closes overdue holds first; what is not there is all zeros */
    int               (*peek)(const uint64_t (*keys)[2], unsigned n,
                              llmb_ledger_account_t *accounts,
                              llmb_ledger_stat_t *stat);
} agree_store_t;


extern const agree_store_t  agree_core;
extern const agree_store_t  agree_redis;

extern int64_t              agree_now_ms;
extern unsigned             agree_charge;   /* policy of expiry */
extern char                 agree_error[256];
extern llmb_str_t           agree_tag;      /* of the Redis ledger */
extern int                  agree_cluster;


/* "unix:<path>" or "<address>:<port>"; 0: no such server */
int agree_connect(const char *server, int cluster);
void agree_disconnect(void);

/* A call as it is, without the answer: 0, or -1 with agree_error. */
int agree_send(llmb_call_e kind, const llmb_call_t *call);

/* Many of them at once; whether all n answers begin with "ok". */
void agree_append(llmb_call_e kind, const llmb_call_t *call);
int agree_collect(unsigned n);

/*
 * A command to the server of the tag: first word, and then the key of that
 * suffix, unless NULL, and then further words up to NULL.  An integer, 0, or
 * -1 with agree_error.
 */
long long agree_command(const char *command, const char *key, ...);

/* The same command to every server. */
void agree_everywhere(const char *a, const char *b, const char *c,
    const char *d);

/* Keys of two tags in one call: 0, or -1 with agree_error. */
int agree_two_tags(void);

/* All accounts by walking; their number, or -1. */
int agree_walk(llmb_ledger_account_t *accounts, unsigned max,
    unsigned *portion);

/* CPU microseconds of all scripts, and how many ran, in all. */
void agree_cpu(double *usec, double *calls);

/* Random operations on both stores; NULL: they agree, or what differs. */
const char *agree_random(unsigned profile, unsigned long steps,
    uint64_t seed, unsigned long *step);
const char *agree_random_name(unsigned profile);


#endif /* _NGX_HTTP_LLM_BUDGET_AGREE_H_INCLUDED_ */
