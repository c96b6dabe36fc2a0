
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The choice of a store, and what every store shares.
 */


#include "http/ngx_http_llm_budget_shm.h"
#include "http/ngx_http_llm_budget_store.h"


ngx_http_llm_budget_store_t *
ngx_http_llm_budget_store_create(ngx_conf_t *cf, ngx_str_t *name, size_t size,
    ngx_shm_zone_t **shm_zone)
{
    ngx_http_llm_budget_store_t  *store;

    store = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_budget_store_t));
    if (store == NULL) {
        return NULL;
    }

    if (ngx_http_llm_budget_shm_create(cf, store, name, size, shm_zone)
        != NGX_OK)
    {
        return NULL;
    }

    return store;
}


void
ngx_http_llm_budget_store_policy(ngx_http_llm_budget_store_t *store,
    ngx_uint_t charge)
{
    store->policy(store->data, charge);
}


int64_t
ngx_http_llm_budget_now(void)
{
    ngx_time_t  *tp;

    tp = ngx_timeofday();

    return (int64_t) tp->sec * 1000 + (int64_t) tp->msec;
}
