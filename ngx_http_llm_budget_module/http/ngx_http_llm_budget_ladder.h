
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The ladder: rungs of cheaper models, and the clamp of the output ceiling.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LADDER_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LADDER_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"


/*
 * Takes a rung after an attempt that the ledger did not open (denied: it had
 * no room).  NGX_OK: try again; NGX_DECLINED: there is none, or its model has
 * no price and ctx->refusal says so; NGX_ERROR.
 */
ngx_int_t ngx_http_llm_budget_next_rung(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_uint_t denied);

/* Lowers the ceiling to what is left.  NGX_OK: try again; NGX_DECLINED. */
ngx_int_t ngx_http_llm_budget_clamp_down(ngx_http_llm_budget_ctx_t *ctx);

/* The least ceiling that a clamp may write; NGX_DECLINED: it may write none. */
ngx_int_t ngx_http_llm_budget_clamp_floor(ngx_http_llm_budget_ctx_t *ctx);

/* What rung i makes of the model as it stands; NULL: nothing, or taken. */
ngx_str_t *ngx_http_llm_budget_rung_to(ngx_http_llm_budget_ctx_t *ctx,
    ngx_uint_t i);

/* Whether a rung looks at an account of that limit and unit. */
ngx_uint_t ngx_http_llm_budget_rung_of(ngx_http_llm_budget_rung_t *rung,
    ngx_http_llm_budget_limit_t *limit, llmb_unit_e unit);


#endif /* _NGX_HTTP_LLM_BUDGET_LADDER_H_INCLUDED_ */
