
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The store: where the ledger lives.  Handlers call these; which store it is
 * they do not know.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_STORE_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_STORE_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"


/*
 * What a store can do.  open: NGX_OK and the ledger's answer in *rc, or
 * NGX_ERROR: the store is not available (nothing is known to be held).  post,
 * void_hold and extend: NGX_OK once the store answers for it.  Times are
 * milliseconds since the epoch.  Nothing blocks.
 */

struct ngx_http_llm_budget_store_s {
    void       *data;

    ngx_int_t (*open)(void *data, llmb_ledger_open_t *op, int64_t now_ms,
                      int64_t deadline_ms, llmb_ledger_rc_e *rc);
    ngx_int_t (*post)(void *data, const u_char *id, const int64_t *actual,
                      int64_t now_ms, llmb_ledger_rc_e *rc);
    ngx_int_t (*void_hold)(void *data, const u_char *id, int64_t now_ms,
                           llmb_ledger_rc_e *rc);
    ngx_int_t (*extend)(void *data, const u_char *id, int64_t deadline_ms,
                        llmb_ledger_rc_e *rc);
    ngx_int_t (*walk)(void *data, uint64_t *cursor,
                      llmb_ledger_account_t *accounts, u_char *names,
                      ngx_uint_t max, ngx_uint_t *n);
    ngx_int_t (*stat)(void *data, int64_t now_ms, llmb_ledger_stat_t *stat);
    void      (*policy)(void *data, ngx_uint_t charge);
};


/*
 * The store of a configuration: for now the embedded one, in a zone of that
 * name and size.  charge: what happens to overdue holds, see
 * ngx_http_llm_budget_store_policy().  NULL after an error was logged.
 */
ngx_http_llm_budget_store_t *ngx_http_llm_budget_store_create(ngx_conf_t *cf,
    ngx_str_t *name, size_t size, ngx_shm_zone_t **shm_zone);

/* What happens to overdue holds: 1 charges them, 0 releases them. */
void ngx_http_llm_budget_store_policy(ngx_http_llm_budget_store_t *store,
    ngx_uint_t charge);

/* milliseconds since the epoch, from nginx's cached time */
int64_t ngx_http_llm_budget_now(void);


#endif /* _NGX_HTTP_LLM_BUDGET_STORE_H_INCLUDED_ */
