
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Admission: the access handler, the guard for what skips it, the context.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_ACCESS_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_ACCESS_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"


ngx_int_t ngx_http_llm_budget_access_handler(ngx_http_request_t *r);

/* the precontent phase: "satisfy any" and subrequests skip the access phase */
ngx_int_t ngx_http_llm_budget_guard_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_LLM_BUDGET_ACCESS_H_INCLUDED_ */
