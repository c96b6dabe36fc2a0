
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What the provider gets to see: headers, query and URL.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_FORWARD_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_FORWARD_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"


/*
 * Sets up the request's headers and query for ctx->provider, from what the
 * client sent; may be called again for another attempt.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_llm_budget_forward(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);

/*
 * Masks a key in the request line, for all logs; the query that is forwarded
 * keeps it.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_llm_budget_hide_key(ngx_http_request_t *r);

/*
 * Headers without any key, for a subrequest or a location that is not
 * metered: neither the client's nor ours is for it.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_llm_budget_forward_bare(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);

/*
 * Gives the request its own headers back, for the log, and masks a key in
 * its query.
 */
void ngx_http_llm_budget_restore(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);

/* $llm_budget_pass: the whole URL, path normalized.  NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_llm_budget_pass_url(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_str_t *url);


#endif /* _NGX_HTTP_LLM_BUDGET_FORWARD_H_INCLUDED_ */
