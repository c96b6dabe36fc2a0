
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The choice of a store, and what every store shares.
 */


#include "http/ngx_http_llm_budget_redis.h"
#include "http/ngx_http_llm_budget_shm.h"
#include "http/ngx_http_llm_budget_store.h"

#include "core/llmb_call.h"


ngx_http_llm_budget_store_t *
ngx_http_llm_budget_store_zone(ngx_conf_t *cf, ngx_str_t *name, size_t size,
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


char *
ngx_http_llm_budget_store_redis(ngx_conf_t *cf,
    ngx_http_llm_budget_store_t **store)
{
    *store = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_budget_store_t));
    if (*store == NULL) {
        return NGX_CONF_ERROR;
    }

    return ngx_http_llm_budget_redis_create(cf, *store);
}


ngx_int_t
ngx_http_llm_budget_store_redis_init(ngx_conf_t *cf,
    ngx_http_llm_budget_store_t *store, ngx_str_t *journal, off_t max_len)
{
    return ngx_http_llm_budget_redis_setup(cf, store, journal, max_len);
}


void
ngx_http_llm_budget_store_tag(u_char *p, ngx_str_t *text, llmb_str_t *tag)
{
    tag->data = p;
    tag->len = llmb_call_tag(p, ngx_http_llm_budget_view(text));
}


int64_t
ngx_http_llm_budget_now(void)
{
    ngx_time_t  *tp;

    tp = ngx_timeofday();

    return (int64_t) tp->sec * 1000 + (int64_t) tp->msec;
}
