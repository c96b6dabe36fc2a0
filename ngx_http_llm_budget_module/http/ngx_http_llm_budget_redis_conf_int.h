
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What the sources of ngx_http_llm_budget_redis_conf.h share.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_REDIS_CONF_INT_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_REDIS_CONF_INT_H_INCLUDED_


#include "http/ngx_http_llm_budget_redis_conf.h"


#define NGX_HTTP_LLM_BUDGET_REDIS_PORT      6379
#define NGX_HTTP_LLM_BUDGET_SENTINEL_PORT   26379


/* in the order of their names */

enum {
    NGX_HTTP_LLM_BUDGET_REDIS_PARAM_SENTINEL = 0,
    NGX_HTTP_LLM_BUDGET_REDIS_PARAM_USER,
    NGX_HTTP_LLM_BUDGET_REDIS_PARAM_PASSWORD,
    NGX_HTTP_LLM_BUDGET_REDIS_PARAM_SENTINEL_USER,
    NGX_HTTP_LLM_BUDGET_REDIS_PARAM_SENTINEL_PASSWORD,
    NGX_HTTP_LLM_BUDGET_REDIS_PARAM_DB,
    NGX_HTTP_LLM_BUDGET_REDIS_PARAM_TIMEOUT,
    NGX_HTTP_LLM_BUDGET_REDIS_PARAM_CONNECT_TIMEOUT,
    NGX_HTTP_LLM_BUDGET_REDIS_PARAM_CONNECTIONS,
    NGX_HTTP_LLM_BUDGET_REDIS_PARAM_PREFIX,
    NGX_HTTP_LLM_BUDGET_REDIS_PARAM_KEEP,

    /* from here on of TLS */
    NGX_HTTP_LLM_BUDGET_REDIS_PARAM_CA,
    NGX_HTTP_LLM_BUDGET_REDIS_PARAM_VERIFY,
    NGX_HTTP_LLM_BUDGET_REDIS_PARAM_NAME,
    NGX_HTTP_LLM_BUDGET_REDIS_PARAM_CERTIFICATE,
    NGX_HTTP_LLM_BUDGET_REDIS_PARAM_CERTIFICATE_KEY,
    NGX_HTTP_LLM_BUDGET_REDIS_PARAMS
};


typedef struct {
    ngx_http_llm_budget_redis_conf_t  *conf;

    ngx_str_t                          value[NGX_HTTP_LLM_BUDGET_REDIS_PARAMS];
    ngx_uint_t                         cluster;

    /* of the addresses */
    ngx_str_t                          url_user;
    ngx_str_t                          url_password;
    ngx_int_t                          url_db;
    ngx_uint_t                         login;
    ngx_uint_t                         tls;

    ngx_str_t                          sentinel_user;
    ngx_str_t                          sentinel_password;
} ngx_http_llm_budget_redis_params_t;


/* ..._redis_conf_values.c, after the topology is known */
char *ngx_http_llm_budget_redis_conf_values(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params);

/* the id: a hash of the addresses in any order, and of what is asked of them */
void ngx_http_llm_budget_redis_conf_id(ngx_http_llm_budget_redis_conf_t *conf);

/* ..._redis_conf_url.c */
ngx_uint_t ngx_http_llm_budget_redis_conf_is_url(ngx_str_t *value);
char *ngx_http_llm_budget_redis_conf_url(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params, ngx_str_t *value);
char *ngx_http_llm_budget_redis_conf_secret(ngx_conf_t *cf, ngx_str_t *secret,
    ngx_str_t *value);


#endif /* _NGX_HTTP_LLM_BUDGET_REDIS_CONF_INT_H_INCLUDED_ */
