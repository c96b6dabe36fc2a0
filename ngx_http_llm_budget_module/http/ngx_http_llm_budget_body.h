
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The request body: scanned as it arrives, kept pristine, spliced.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_BODY_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_BODY_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"


void ngx_http_llm_budget_body_init(void);

/*
 * The whole body has arrived: scans what the filter did not see (a body read
 * before us) and ends the scan.  NGX_OK; NGX_DECLINED: refused, ctx->refusal
 * is filled in; NGX_ERROR.
 */
ngx_int_t ngx_http_llm_budget_body_end(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);

/* The pristine body as one run of bytes: ctx->body.  NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_llm_budget_body_gather(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);

/*
 * Makes the body that goes out of the pristine one, with every edit that
 * ctx asks for: model, ceiling, stream_options, dropped members.  May be
 * called again for another attempt.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_llm_budget_body_splice(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);


#endif /* _NGX_HTTP_LLM_BUDGET_BODY_H_INCLUDED_ */
