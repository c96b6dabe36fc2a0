
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The edits of a request body: model, ceiling, stream_options, dropped
 * members.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_EDITS_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_EDITS_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"


/*
 * Fills an empty list with the edits ctx asks for, and sets ctx->injected
 * when usage is asked for by us.  Replacement text lies in the request's
 * pool.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_llm_budget_edits(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, llmb_edits_t *edits);


#endif /* _NGX_HTTP_LLM_BUDGET_EDITS_H_INCLUDED_ */
