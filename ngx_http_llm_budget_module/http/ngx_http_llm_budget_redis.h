
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The store in Redis: each operation of the ledger is one script and one
 * round trip; what cannot be told to it is journalled and told later.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_REDIS_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_REDIS_H_INCLUDED_


#include "http/ngx_http_llm_budget_store.h"


/* Fills in the store of an llm_budget_redis directive, in cf->args. */
char *ngx_http_llm_budget_redis_create(ngx_conf_t *cf,
    ngx_http_llm_budget_store_t *store);

/* All was read: TLS, names, the journal in that folder. */
ngx_int_t ngx_http_llm_budget_redis_setup(ngx_conf_t *cf,
    ngx_http_llm_budget_store_t *store, ngx_str_t *journal, off_t max_len);


#endif /* _NGX_HTTP_LLM_BUDGET_REDIS_H_INCLUDED_ */
