
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Header and body filters: they read the answer, and take out the usage
 * frame that the module itself asked for.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_FILTER_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_FILTER_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"


void ngx_http_llm_budget_filter_init(void);

/* Reads answer bytes; posts as soon as usage is final. */
void ngx_http_llm_budget_meter(ngx_http_llm_budget_ctx_t *ctx, u_char *p,
    size_t len);


/*
 * Reads and passes on an event stream without its usage-only frames: bytes
 * are views of the buffers they came in, only an event that is not complete
 * and may be such a frame is held back (T09).  Fills *out; NGX_OK or
 * NGX_ERROR.
 */
ngx_int_t ngx_http_llm_budget_frames(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_chain_t *in, ngx_chain_t **out);

/* After the next filter: gives buffers back that were sent. */
void ngx_http_llm_budget_frames_sent(ngx_http_llm_budget_ctx_t *ctx,
    ngx_chain_t *out);


#endif /* _NGX_HTTP_LLM_BUDGET_FILTER_H_INCLUDED_ */
