
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The store: where the ledger lives.  Handlers call these; which store it is
 * they do not know.  Nothing blocks: what cannot be answered at once is
 * answered later.  Times are milliseconds since the epoch.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_STORE_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_STORE_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"


/* bytes of llm_budget_redis_tag's value as it is sent */
#define NGX_HTTP_LLM_BUDGET_TAG_MAX     64


/*
 * The opening of a hold.  The caller owns it, and keeps it with what it points
 * to until it was answered or cancelled.
 */

struct ngx_http_llm_budget_call_s {
    llmb_ledger_open_t              *open;      /* id, legs; their balances */
    llmb_str_t                       tag;
    int64_t                          timeout_ms;    /* of the hold */

    /* the answer: what became of it, where done() or open() got NGX_OK */
    llmb_ledger_rc_e                 rc;
    ngx_uint_t                       late;      /* nothing was done: the legs
                                                   are not of the periods of
                                                   the store's time */

    /* where it was NGX_ERROR: the store is away */
    ngx_uint_t                       unsure;    /* it may have been opened */

    void                           (*done)(ngx_http_llm_budget_call_t *call,
                                           ngx_int_t rc);
    void                            *data;      /* of the caller */
    void                            *op;        /* the store's, while it waits;
                                                   else NULL */
};


/* the closing of a hold: copied by the store before it returns */

typedef struct {
    const u_char                    *id;
    llmb_str_t                       tag;
    const llmb_ledger_leg_t         *leg;
    unsigned                         n;
    const int64_t                   *actual;    /* by unit; of a post */
    ngx_uint_t                       unknown;   /* the store may never have
                                                   heard of the hold: charge
                                                   it all the same */
} ngx_http_llm_budget_closing_t;


/* a portion of the ledger; owned as a call is */

struct ngx_http_llm_budget_read_s {
    llmb_str_t                       tag;
    ngx_pool_t                      *pool;      /* for names, cursor */

    llmb_str_t                       cursor;    /* empty: from the beginning,
                                                   and at the end */
    llmb_ledger_account_t           *account;
    ngx_uint_t                       max;       /* room in account */

    /* the answer */
    ngx_uint_t                       n;
    llmb_ledger_stat_t               stat;

    void                           (*done)(ngx_http_llm_budget_read_t *read,
                                           ngx_int_t rc);
    void                            *data;
    void                            *op;
};


/*
 * What a store can do.
 *
 * open, read: NGX_OK: answered; NGX_AGAIN: done() will be called, with NGX_OK
 * or NGX_ERROR; NGX_ERROR: the store is away.  cancel, cancel_read: done()
 * will not be called any more; a hold that was opened all the same is voided.
 *
 * post, void_hold: NGX_OK: closed, *rc says how; NGX_AGAIN: the store has it
 * and will see to it, also beyond this process; NGX_ERROR: it is lost, as the
 * log says.  extend: no answer is of use.
 *
 * now: the time of the store.  ready: NGX_OK, or NGX_DECLINED when closings
 * could be lost if holds were opened now.  charge: 1, overdue holds are
 * charged; 0, released.
 */

struct ngx_http_llm_budget_store_s {
    const char  *name;
    void        *data;

    ngx_int_t  (*open)(void *data, ngx_http_llm_budget_call_t *call);
    void       (*cancel)(void *data, ngx_http_llm_budget_call_t *call);
    ngx_int_t  (*post)(void *data, ngx_http_llm_budget_closing_t *closing,
                       llmb_ledger_rc_e *rc);
    ngx_int_t  (*void_hold)(void *data, ngx_http_llm_budget_closing_t *closing,
                            llmb_ledger_rc_e *rc);
    void       (*extend)(void *data, const u_char *id, llmb_str_t *tag,
                         int64_t timeout_ms);
    ngx_int_t  (*read)(void *data, ngx_http_llm_budget_read_t *read);
    void       (*cancel_read)(void *data, ngx_http_llm_budget_read_t *read);
    int64_t    (*now)(void *data);
    ngx_int_t  (*ready)(void *data);
    void       (*policy)(void *data, ngx_uint_t charge);

    /* of a worker; NULL: nothing to do */
    ngx_int_t  (*init)(void *data, ngx_cycle_t *cycle);
    void       (*exit)(void *data);
};


/*
 * The embedded store, in a zone of that name and size.  NULL after an error
 * was logged.
 */
ngx_http_llm_budget_store_t *ngx_http_llm_budget_store_zone(ngx_conf_t *cf,
    ngx_str_t *name, size_t size, ngx_shm_zone_t **shm_zone);

/*
 * The store of an llm_budget_redis directive, in cf->args; *store gets it.
 * NGX_CONF_OK or a text for the log.
 */
char *ngx_http_llm_budget_store_redis(ngx_conf_t *cf,
    ngx_http_llm_budget_store_t **store);

/* All was read: the rest of the redis store.  journal: its folder. */
ngx_int_t ngx_http_llm_budget_store_redis_init(ngx_conf_t *cf,
    ngx_http_llm_budget_store_t *store, ngx_str_t *journal, off_t max_len);

/* A tag as it is sent; p: NGX_HTTP_LLM_BUDGET_TAG_MAX bytes. */
void ngx_http_llm_budget_store_tag(u_char *p, ngx_str_t *text,
    llmb_str_t *tag);

/* milliseconds since the epoch, from nginx's cached time */
int64_t ngx_http_llm_budget_now(void);


#endif /* _NGX_HTTP_LLM_BUDGET_STORE_H_INCLUDED_ */
