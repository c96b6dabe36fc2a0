
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The directive llm_budget_redis.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_REDIS_CONF_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_REDIS_CONF_H_INCLUDED_


#include "http/ngx_http_llm_budget_redis_nodes.h"


/*
 * Reads cf->args into a zeroed conf, and makes what TLS needs.  A conf without
 * urls was not configured.
 */
char *ngx_http_llm_budget_redis_conf(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_conf_t *conf);

/*
 * After all of http was read (init_main_conf, with cf->ctx of http): takes the
 * resolver of http, if it has name servers, finds addresses, and makes the id.
 * NGX_OK, also when it was not configured; NGX_ERROR: logged.
 */
ngx_int_t ngx_http_llm_budget_redis_conf_init(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_conf_t *conf);


#endif /* _NGX_HTTP_LLM_BUDGET_REDIS_CONF_H_INCLUDED_ */
