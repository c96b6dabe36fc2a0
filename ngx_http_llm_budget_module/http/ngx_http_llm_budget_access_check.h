
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What is checked before a body is read: the endpoint and the headers.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_ACCESS_CHECK_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_ACCESS_CHECK_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"


/*
 * NGX_OK; NGX_ABORT: refused, ctx->refusal says why; NGX_ERROR.  The first
 * sets ctx->endpoint, ctx->dialect and ctx->uri.
 */
ngx_int_t ngx_http_llm_budget_find_endpoint(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
ngx_int_t ngx_http_llm_budget_check_headers(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);

/* Fills in ctx->refusal; texts are constants.  NGX_ABORT. */
ngx_int_t ngx_http_llm_budget_deny(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_uint_t status, const char *code,
    const char *message);


#endif /* _NGX_HTTP_LLM_BUDGET_ACCESS_CHECK_H_INCLUDED_ */
