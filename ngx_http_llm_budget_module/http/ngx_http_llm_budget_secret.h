
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Credentials that stand in files of their own.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_SECRET_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_SECRET_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"


/*
 * Reads what a file has, without the line end: relative names are beside the
 * configuration.  what: "credential" or "password", for messages.  NGX_OK;
 * NGX_ERROR after it was logged: no such file, empty, or too long.
 */
ngx_int_t ngx_http_llm_budget_secret(ngx_conf_t *cf, ngx_str_t *secret,
    ngx_str_t *name, const char *what);


#endif /* _NGX_HTTP_LLM_BUDGET_SECRET_H_INCLUDED_ */
