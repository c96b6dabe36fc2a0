
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The log phase: closes what is open, and the usage line.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LOG_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LOG_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"


ngx_int_t ngx_http_llm_budget_log_handler(ngx_http_request_t *r);

/* The usage line of a call: one JSON object without a line end. */
ngx_int_t ngx_http_llm_budget_usage_line(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_str_t *line);

/* the name of a source, as in lines and variables */
const char *ngx_http_llm_budget_source_name(
    ngx_http_llm_budget_source_e source);

/* what was held for a call, nano-USD; 0: nothing was */
int64_t ngx_http_llm_budget_held(ngx_http_llm_budget_ctx_t *ctx);

/* tokens charged, those of other samplings included; 0 before the end */
void ngx_http_llm_budget_total_tokens(ngx_http_llm_budget_ctx_t *ctx,
    int64_t *input, int64_t *output);


#endif /* _NGX_HTTP_LLM_BUDGET_LOG_H_INCLUDED_ */
