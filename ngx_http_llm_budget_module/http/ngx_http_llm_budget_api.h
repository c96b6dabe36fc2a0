
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The read endpoints: the ledger as JSON.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_API_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_API_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"


/* the directive llm_budget_api */
char *ngx_http_llm_budget_api(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);


#endif /* _NGX_HTTP_LLM_BUDGET_API_H_INCLUDED_ */
