
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The context of a request, and the end of its hold: one owner, one
 * idempotent close, three triggers (body filter, log phase, pool cleanup).
 */


#ifndef _NGX_HTTP_LLM_BUDGET_SETTLE_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_SETTLE_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"


/*
 * The context of a main request, found again after an internal redirect;
 * NULL: the request never came to a metered location.
 */
ngx_http_llm_budget_ctx_t *ngx_http_llm_budget_get_ctx(ngx_http_request_t *r);

/* A new context, owned by the pool of r, with its id; NULL: no memory. */
ngx_http_llm_budget_ctx_t *ngx_http_llm_budget_create_ctx(
    ngx_http_request_t *r);

/* The hold was opened: from now on it is pending, until it is closed. */
void ngx_http_llm_budget_pend(ngx_http_llm_budget_ctx_t *ctx);

/* The worker ends and will never log its requests: closes all their holds. */
void ngx_http_llm_budget_close_all(void);

/*
 * Tells the store that the hold is posted with what each unit cost, or, with
 * NULL, voided.  The one way out of pending.
 */
void ngx_http_llm_budget_store_close(ngx_http_llm_budget_ctx_t *ctx,
    const int64_t *actual);

/*
 * A hold that the store may have, of a request that was refused or has gone:
 * voids it.
 */
void ngx_http_llm_budget_abandon(ngx_http_llm_budget_ctx_t *ctx);

/*
 * Usage is final: posts it.  Returns at once when the hold is not pending,
 * so it may be called at every event.
 */
void ngx_http_llm_budget_settle(ngx_http_llm_budget_ctx_t *ctx);

/*
 * The request is over, however it ended: posts what is known, guesses, or
 * releases, by where it stopped.  Idempotent.
 */
void ngx_http_llm_budget_close(ngx_http_llm_budget_ctx_t *ctx);

/*
 * The call cost nothing: an error status, a cache hit.  Money and tokens are
 * released, the request counts, and so do attempts that were never answered.
 */
void ngx_http_llm_budget_release(ngx_http_llm_budget_ctx_t *ctx,
    const char *end);

/* An answer that nobody reads is charged at the hold. */
void ngx_http_llm_budget_forfeit(ngx_http_llm_budget_ctx_t *ctx,
    const char *end);

/* Moves the hold's deadline while the answer goes on. */
void ngx_http_llm_budget_keep(ngx_http_llm_budget_ctx_t *ctx);


#endif /* _NGX_HTTP_LLM_BUDGET_SETTLE_H_INCLUDED_ */
