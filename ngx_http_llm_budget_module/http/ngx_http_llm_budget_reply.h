
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Refusals in the client's dialect, and the headers of admitted answers.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_REPLY_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_REPLY_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"


/*
 * Sends ctx->refusal and finalizes the request; always NGX_DONE, for a phase
 * handler to return.  ctx->state becomes DENIED.
 */
ngx_int_t ngx_http_llm_budget_refuse(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);

/*
 * The body of ctx->refusal, in the dialect of ctx, in the request's pool:
 * NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_llm_budget_refusal_body(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_str_t *body);

/* x-llm-budget-code and -id on a refusal or an error of nginx's own */
ngx_int_t ngx_http_llm_budget_refusal_headers(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);

/* x-llm-budget-* on the answer of an admitted request */
ngx_int_t ngx_http_llm_budget_answer_headers(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);

/*
 * An error page of nginx's own on a metered location: its status as a
 * refusal, with its own code (413: "request_too_large", ...).
 */
void ngx_http_llm_budget_own_error(ngx_uint_t status,
    ngx_http_llm_budget_refusal_t *refusal);


#endif /* _NGX_HTTP_LLM_BUDGET_REPLY_H_INCLUDED_ */
