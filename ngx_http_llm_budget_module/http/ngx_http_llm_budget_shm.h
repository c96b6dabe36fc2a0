
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The store in shared memory.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_SHM_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_SHM_H_INCLUDED_


#include "http/ngx_http_llm_budget_store.h"


/* Fills in the store of a zone, whose memory comes when the zone is made. */
ngx_int_t ngx_http_llm_budget_shm_create(ngx_conf_t *cf,
    ngx_http_llm_budget_store_t *store, ngx_str_t *name, size_t size,
    ngx_shm_zone_t **shm_zone);


#endif /* _NGX_HTTP_LLM_BUDGET_SHM_H_INCLUDED_ */
