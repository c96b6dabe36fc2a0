
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What becomes of a request while its store is away: the one place that
 * decides it, for every call (T24).
 */


#ifndef _NGX_HTTP_LLM_BUDGET_OUTAGE_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_OUTAGE_H_INCLUDED_


#include "http/ngx_http_llm_budget_store.h"


/*
 * The store did not answer the opening of a hold.  NGX_OK: admitted without
 * one, the charge is journalled; NGX_BUSY: to be held in this machine's zone;
 * NGX_DECLINED: refused, ctx->refusal says why.
 */
ngx_int_t ngx_http_llm_budget_outage(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);

/*
 * Before a hold is opened: the store to open it in.  In an outage that is the
 * zone: the legs become those of the allowance, what they were is kept for the
 * charge.  NULL: no memory.
 */
ngx_http_llm_budget_store_t *ngx_http_llm_budget_outage_store(
    ngx_http_request_t *r, ngx_http_llm_budget_ctx_t *ctx);

/* "deny", "allow", "local", or "" */
const char *ngx_http_llm_budget_outage_name(
    ngx_http_llm_budget_outage_e outage);


#endif /* _NGX_HTTP_LLM_BUDGET_OUTAGE_H_INCLUDED_ */
