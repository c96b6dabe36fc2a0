
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Reading an answer that a provider compressed though identity was asked: a
 * copy is inflated for the meter, the client's bytes stay as they are (T07).
 */


#ifndef _NGX_HTTP_LLM_BUDGET_INFLATE_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_INFLATE_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"


typedef void (*ngx_http_llm_budget_inflate_pt)(ngx_http_llm_budget_ctx_t *ctx,
    u_char *p, size_t len);


/*
 * Begins with a Content-Encoding: NGX_OK for gzip and deflate, NGX_DECLINED
 * for what cannot be read.
 */
ngx_int_t ngx_http_llm_budget_inflate_begin(ngx_http_llm_budget_ctx_t *ctx,
    ngx_str_t *encoding);

/* Hands what p holds, inflated, to the handler.  NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_llm_budget_inflate(ngx_http_llm_budget_ctx_t *ctx,
    u_char *p, size_t len, ngx_http_llm_budget_inflate_pt handler);

/* Frees what zlib holds; idempotent. */
void ngx_http_llm_budget_inflate_end(ngx_http_llm_budget_ctx_t *ctx);


#endif /* _NGX_HTTP_LLM_BUDGET_INFLATE_H_INCLUDED_ */
