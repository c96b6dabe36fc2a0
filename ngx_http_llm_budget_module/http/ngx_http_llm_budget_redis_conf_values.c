
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Numbers, times, and the prefix of llm_budget_redis; what a store is known by.
 */


#include "http/ngx_http_llm_budget_redis_conf_int.h"

#include <ngx_sha1.h>


/* the largest of a prefix and of a timeout */
#define NGX_HTTP_LLM_BUDGET_REDIS_PREFIX    32
#define NGX_HTTP_LLM_BUDGET_REDIS_TIMEOUT   60000


static char *ngx_http_llm_budget_redis_conf_number(ngx_conf_t *cf,
    ngx_str_t *value, const char *name, ngx_int_t min, ngx_int_t max,
    ngx_int_t *result);
static char *ngx_http_llm_budget_redis_conf_time(ngx_conf_t *cf,
    ngx_str_t *value, const char *name, ngx_msec_t max, ngx_msec_t *result);
static char *ngx_http_llm_budget_redis_conf_prefix(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params);


char *
ngx_http_llm_budget_redis_conf_values(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params)
{
    char                              *rv;
    ngx_int_t                          n;
    ngx_str_t                         *value;
    ngx_http_llm_budget_redis_conf_t  *conf;

    conf = params->conf;
    value = params->value;

    n = 0;

    rv = ngx_http_llm_budget_redis_conf_number(cf,
                                 &value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_DB],
                                 "db", 0, 65535, &n);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (params->url_db != NGX_CONF_UNSET) {

        if (value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_DB].len) {
            return "has a database both in an address and as db=";
        }

        if (conf->mode == NGX_HTTP_LLM_BUDGET_REDIS_SENTINEL) {
            return "has a database in the address of a sentinel: "
                   "use db=";
        }

        n = params->url_db;
    }

    if (n && conf->mode == NGX_HTTP_LLM_BUDGET_REDIS_CLUSTER) {
        return "cannot have a database other than 0 in a cluster";
    }

    conf->conn.db = n;

    n = 1;

    rv = ngx_http_llm_budget_redis_conf_number(cf,
                          &value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_CONNECTIONS],
                          "connections", 1, NGX_HTTP_LLM_BUDGET_REDIS_CONNS,
                          &n);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    conf->connections = (ngx_uint_t) n;

    conf->keep = 60 * 60 * 1000;
    conf->conn.timeout = 100;
    conf->conn.connect_timeout = 500;

    rv = ngx_http_llm_budget_redis_conf_time(cf,
                              &value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_TIMEOUT],
                              "timeout", NGX_HTTP_LLM_BUDGET_REDIS_TIMEOUT,
                              &conf->conn.timeout);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    rv = ngx_http_llm_budget_redis_conf_time(cf,
                      &value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_CONNECT_TIMEOUT],
                      "connect_timeout", NGX_HTTP_LLM_BUDGET_REDIS_TIMEOUT,
                      &conf->conn.connect_timeout);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    rv = ngx_http_llm_budget_redis_conf_time(cf,
                                 &value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_KEEP],
                                 "keep", NGX_MAX_INT32_VALUE, &conf->keep);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    return ngx_http_llm_budget_redis_conf_prefix(cf, params);
}


static char *
ngx_http_llm_budget_redis_conf_number(ngx_conf_t *cf, ngx_str_t *value,
    const char *name, ngx_int_t min, ngx_int_t max, ngx_int_t *result)
{
    ngx_int_t  n;

    if (value->len == 0) {
        return NGX_CONF_OK;
    }

    n = ngx_atoi(value->data, value->len);

    if (n < min || n > max) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: invalid %s \"%V\" of "
                           "llm_budget_redis: it is a number from %i to %i",
                           name, value, min, max);
        return NGX_CONF_ERROR;
    }

    *result = n;

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_budget_redis_conf_time(ngx_conf_t *cf, ngx_str_t *value,
    const char *name, ngx_msec_t max, ngx_msec_t *result)
{
    ngx_int_t  n;

    if (value->len == 0) {
        return NGX_CONF_OK;
    }

    n = ngx_parse_time(value, 0);

    if (n == NGX_ERROR || n == 0 || (ngx_msec_t) n > max) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: invalid %s \"%V\" of "
                           "llm_budget_redis: it is a time from 1ms to %Ms",
                           name, value, max / 1000);
        return NGX_CONF_ERROR;
    }

    *result = (ngx_msec_t) n;

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_budget_redis_conf_prefix(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params)
{
    u_char      ch;
    ngx_str_t  *prefix;
    ngx_uint_t  i;

    prefix = &params->conf->prefix;
    *prefix = params->value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_PREFIX];

    if (prefix->data == NULL) {
        ngx_str_set(prefix, "llmb");
        return NGX_CONF_OK;
    }

    for (i = 0; i < prefix->len; i++) {
        ch = prefix->data[i];

        if ((ch < 'a' || ch > 'z') && (ch < 'A' || ch > 'Z')
            && (ch < '0' || ch > '9')
            && ch != '_' && ch != '.' && ch != ':' && ch != '-')
        {
            break;
        }
    }

    if (i < prefix->len || i > NGX_HTTP_LLM_BUDGET_REDIS_PREFIX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: invalid prefix \"%V\" of "
                           "llm_budget_redis: it has %d letters, digits, "
                           "\"_\", \".\", \":\" and \"-\" at most",
                           prefix, NGX_HTTP_LLM_BUDGET_REDIS_PREFIX);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


void
ngx_http_llm_budget_redis_conf_id(ngx_http_llm_budget_redis_conf_t *conf)
{
    u_char                            text[2 * NGX_INT_T_LEN + 4], digest[20];
    u_char                            sum[20], host[256], *last;
    size_t                            len;
    ngx_sha1_t                        sha1;
    ngx_uint_t                        i, k;
    ngx_http_llm_budget_redis_url_t  *url;

    /* the sum of what is known of each does not depend on their order */

    ngx_memzero(sum, sizeof(sum));

    url = conf->urls.elts;

    for (i = 0; i < conf->urls.nelts; i++) {
        len = ngx_min(url[i].host.len, sizeof(host));

        if (url[i].port) {
            ngx_strlow(host, url[i].host.data, len);

        } else {
            ngx_memcpy(host, url[i].host.data, len);
        }

        last = ngx_sprintf(text, ":%ui", (ngx_uint_t) url[i].port);

        ngx_sha1_init(&sha1);
        ngx_sha1_update(&sha1, host, len);
        ngx_sha1_update(&sha1, text, last - text);
        ngx_sha1_final(digest, &sha1);

        for (k = 0; k < sizeof(sum); k++) {
            sum[k] = (u_char) (sum[k] + digest[k]);
        }
    }

    last = ngx_sprintf(text, "%d %i ", (int) conf->mode, conf->conn.db);

    ngx_sha1_init(&sha1);
    ngx_sha1_update(&sha1, sum, sizeof(sum));
    ngx_sha1_update(&sha1, text, last - text);
    ngx_sha1_update(&sha1, conf->prefix.data, conf->prefix.len);
    ngx_sha1_update(&sha1, " ", 1);
    ngx_sha1_update(&sha1, conf->master.data, conf->master.len);
    ngx_sha1_final(digest, &sha1);

    (void) ngx_hex_dump(conf->id, digest, sizeof(conf->id) / 2);
}
