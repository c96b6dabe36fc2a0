
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * $llm_budget_*: all that the module knows of a request.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_VARIABLES_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_VARIABLES_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"


ngx_int_t ngx_http_llm_budget_add_variables(ngx_conf_t *cf);


#endif /* _NGX_HTTP_LLM_BUDGET_VARIABLES_H_INCLUDED_ */
