
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Opening a hold: price, estimate, the accounts of all limits, the ladder.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_HOLD_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_HOLD_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"


/*
 * Opens the hold of a judged request, walking the ladder as needed.  NGX_OK:
 * admitted, ctx says with what model, ceiling and provider; NGX_DECLINED:
 * refused, ctx->refusal says why; NGX_ERROR; NGX_AGAIN: the store was asked,
 * set ctx->call->done, and when it was called, with its rc in ctx->call_rc,
 * resume.
 */
ngx_int_t ngx_http_llm_budget_hold(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
ngx_int_t ngx_http_llm_budget_hold_resume(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);

/*
 * Another provider takes the call over: its prices count from now on.  NGX_OK;
 * NGX_DECLINED: it could cost more than was held.
 */
ngx_int_t ngx_http_llm_budget_reprice(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);

/*
 * Sets ctx->model and ctx->price.  NGX_OK; NGX_DECLINED: it has no price,
 * ctx->refusal says so; NGX_ERROR.
 */
ngx_int_t ngx_http_llm_budget_set_model(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_str_t *model);

/*
 * Fills ctx->open with the accounts of all limits, for the estimate of this
 * attempt.  NGX_OK; NGX_DECLINED: ctx->refusal says why; NGX_ERROR.
 */
ngx_int_t ngx_http_llm_budget_legs(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, int64_t now_ms);

/* The amounts of the legs, from ctx->estimate. */
void ngx_http_llm_budget_amounts(ngx_http_llm_budget_ctx_t *ctx);

/* Fills in ctx->refusal; texts are constants. */
void ngx_http_llm_budget_hold_refuse(ngx_http_llm_budget_ctx_t *ctx,
    ngx_uint_t status, const char *code, const char *message);

/*
 * An amount of a unit as text: USD as a decimal, others as an integer.
 * NGX_ERROR: not a number, negative, or over LLMB_MONEY_LIMIT_NUSD (T53).
 */
ngx_int_t ngx_http_llm_budget_amount(llmb_unit_e unit, ngx_str_t *text,
    int64_t *amount);


#endif /* _NGX_HTTP_LLM_BUDGET_HOLD_H_INCLUDED_ */
