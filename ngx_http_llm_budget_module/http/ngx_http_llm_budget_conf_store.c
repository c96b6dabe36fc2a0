
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Where the ledger lives: llm_budget_zone, llm_budget_redis and what belongs
 * to them.
 */


#include "http/ngx_http_llm_budget_conf.h"
#include "http/ngx_http_llm_budget_store.h"


/* the smallest zone that makes sense, and the one that is made if none is */
#define NGX_HTTP_LLM_BUDGET_ZONE_MIN        (256 * 1024)
#define NGX_HTTP_LLM_BUDGET_ZONE_SIZE       (32 * 1024 * 1024)

/* the journal's files together, and the least */
#define NGX_HTTP_LLM_BUDGET_JOURNAL_LEN     (64 * 1024 * 1024)
#define NGX_HTTP_LLM_BUDGET_JOURNAL_MIN     (64 * 1024)

/* percent of each limit that one machine may spend on its own */
#define NGX_HTTP_LLM_BUDGET_SHARE           10


static ngx_int_t ngx_http_llm_budget_default_zone(ngx_conf_t *cf,
    ngx_http_llm_budget_main_conf_t *lmcf);
static ngx_int_t ngx_http_llm_budget_default_journal(ngx_conf_t *cf,
    ngx_http_llm_budget_main_conf_t *lmcf);


char *
ngx_http_llm_budget_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_budget_main_conf_t  *lmcf = conf;

    ssize_t     size;
    ngx_str_t  *value;

    if (lmcf->zone) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (value[1].len == 0) {
        return "has an empty name";
    }

    size = ngx_parse_size(&value[2]);

    if (size == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: invalid zone size \"%V\": give a "
                           "size, as 32m", &value[2]);
        return NGX_CONF_ERROR;
    }

    if (size < NGX_HTTP_LLM_BUDGET_ZONE_MIN) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: zone \"%V\" is too small: it needs at "
                           "least 256k", &value[1]);
        return NGX_CONF_ERROR;
    }

    lmcf->zone = ngx_http_llm_budget_store_zone(cf, &value[1], (size_t) size,
                                                &lmcf->shm_zone);

    return lmcf->zone ? NGX_CONF_OK : NGX_CONF_ERROR;
}


char *
ngx_http_llm_budget_redis(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_budget_main_conf_t  *lmcf = conf;

    if (lmcf->redis) {
        return "is duplicate";
    }

    return ngx_http_llm_budget_store_redis(cf, &lmcf->redis);
}


char *
ngx_http_llm_budget_journal(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_budget_main_conf_t  *lmcf = conf;

    ngx_str_t  *value, text;

    if (lmcf->journal.data) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (value[1].len == 0) {
        return "has an empty path";
    }

    lmcf->journal = value[1];
    lmcf->journal_len = NGX_HTTP_LLM_BUDGET_JOURNAL_LEN;

    if (ngx_conf_full_name(cf->cycle, &lmcf->journal, 0) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (cf->args->nelts == 2) {
        return NGX_CONF_OK;
    }

    if (ngx_strncmp(value[2].data, "size=", 5) != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: invalid parameter \"%V\" of "
                           "llm_budget_journal: it takes size=", &value[2]);
        return NGX_CONF_ERROR;
    }

    text.data = value[2].data + 5;
    text.len = value[2].len - 5;

    lmcf->journal_len = ngx_parse_offset(&text);

    if (lmcf->journal_len < NGX_HTTP_LLM_BUDGET_JOURNAL_MIN) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: invalid size in \"%V\": give at least "
                           "64k", &value[2]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_llm_budget_expire(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_budget_main_conf_t  *lmcf = conf;

    ngx_str_t  *value;

    if (lmcf->expire != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "charge") == 0) {
        lmcf->expire = 1;

    } else if (ngx_strcmp(value[1].data, "release") == 0) {
        lmcf->expire = 0;

    } else {
        return "must be \"charge\" or \"release\"";
    }

    return NGX_CONF_OK;
}


char *
ngx_http_llm_budget_store(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_budget_loc_conf_t  *llcf = conf;

    ngx_str_t  *value;

    if (llcf->store_kind != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "zone") == 0) {
        llcf->store_kind = NGX_HTTP_LLM_BUDGET_STORE_ZONE;

    } else if (ngx_strcmp(value[1].data, "redis") == 0) {
        llcf->store_kind = NGX_HTTP_LLM_BUDGET_STORE_REDIS;

    } else {
        return "must be \"zone\" or \"redis\"";
    }

    llcf->store_place = ngx_http_llm_budget_place(cf);

    return llcf->store_place ? NGX_CONF_OK : NGX_CONF_ERROR;
}


char *
ngx_http_llm_budget_outage_conf(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_budget_loc_conf_t  *llcf = conf;

    ngx_int_t   n;
    ngx_str_t  *value;

    if (llcf->outage != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;
    llcf->share = NGX_HTTP_LLM_BUDGET_SHARE;

    if (ngx_strcmp(value[1].data, "deny") == 0) {
        llcf->outage = NGX_HTTP_LLM_BUDGET_OUTAGE_DENY;

    } else if (ngx_strcmp(value[1].data, "allow") == 0) {
        llcf->outage = NGX_HTTP_LLM_BUDGET_OUTAGE_ALLOW;

    } else if (ngx_strcmp(value[1].data, "local") == 0) {
        llcf->outage = NGX_HTTP_LLM_BUDGET_OUTAGE_LOCAL;

    } else {
        return "must be \"deny\", \"allow\" or \"local\"";
    }

    if (cf->args->nelts == 2) {
        return NGX_CONF_OK;
    }

    if (llcf->outage != NGX_HTTP_LLM_BUDGET_OUTAGE_LOCAL
        || ngx_strncmp(value[2].data, "share=", 6) != 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: invalid parameter \"%V\" of "
                           "llm_budget_outage: only \"local\" takes one, "
                           "share=", &value[2]);
        return NGX_CONF_ERROR;
    }

    n = (value[2].data[value[2].len - 1] == '%')
        ? ngx_atoi(value[2].data + 6, value[2].len - 7) : NGX_ERROR;

    if (n < 1 || n > 100) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: invalid share in \"%V\": it is a "
                           "percentage from 1%% to 100%%", &value[2]);
        return NGX_CONF_ERROR;
    }

    llcf->share = (ngx_uint_t) n;

    return NGX_CONF_OK;
}


char *
ngx_http_llm_budget_redis_tag(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_budget_loc_conf_t  *llcf = conf;

    ngx_str_t  *value;

    if (llcf->tag != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    llcf->tag = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (llcf->tag == NULL) {
        return NGX_CONF_ERROR;
    }

    llcf->tag_text = value[1];

    if (ngx_http_llm_budget_compile(cf, &value[1], llcf->tag) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    llcf->tag_place = ngx_http_llm_budget_place(cf);

    return llcf->tag_place ? NGX_CONF_OK : NGX_CONF_ERROR;
}


void
ngx_http_llm_budget_merge_store(ngx_http_llm_budget_loc_conf_t *prev,
    ngx_http_llm_budget_loc_conf_t *conf)
{
    if (conf->outage == NGX_CONF_UNSET_UINT) {
        conf->share = prev->share;
    }

    if (conf->tag == NGX_CONF_UNSET_PTR) {
        conf->tag_text = prev->tag_text;
    }

    ngx_conf_merge_uint_value(conf->store_kind, prev->store_kind,
                              NGX_HTTP_LLM_BUDGET_STORE_DEFAULT);
    ngx_conf_merge_uint_value(conf->outage, prev->outage,
                              NGX_HTTP_LLM_BUDGET_OUTAGE_DENY);
    ngx_conf_merge_ptr_value(conf->tag, prev->tag, NULL);
    ngx_conf_merge_ptr_value(conf->store_place, prev->store_place, NULL);
    ngx_conf_merge_ptr_value(conf->tag_place, prev->tag_place, NULL);
}


ngx_http_llm_budget_store_t *
ngx_http_llm_budget_store_of(ngx_http_llm_budget_main_conf_t *lmcf,
    ngx_http_llm_budget_loc_conf_t *llcf)
{
    if (llcf->store_kind == NGX_HTTP_LLM_BUDGET_STORE_ZONE) {
        return lmcf->zone;
    }

    if (llcf->store_kind == NGX_HTTP_LLM_BUDGET_STORE_REDIS) {
        return lmcf->redis;
    }

    return lmcf->redis ? lmcf->redis : lmcf->zone;
}


char *
ngx_http_llm_budget_check_store(ngx_conf_t *cf,
    ngx_http_llm_budget_main_conf_t *lmcf,
    ngx_http_llm_budget_loc_conf_t *conf)
{
    if (conf->store_kind == NGX_HTTP_LLM_BUDGET_STORE_REDIS
        && lmcf->redis == NULL)
    {
        ngx_http_llm_budget_place_error(NGX_LOG_EMERG, cf, conf->store_place,
                            "llm_budget: \"llm_budget_store redis\" needs "
                            "\"llm_budget_redis URL\" on the http level");
        return NGX_CONF_ERROR;
    }

    if (lmcf->zone == NULL
        && (lmcf->redis == NULL
            || conf->store_kind == NGX_HTTP_LLM_BUDGET_STORE_ZONE
            || conf->outage == NGX_HTTP_LLM_BUDGET_OUTAGE_LOCAL)
        && ngx_http_llm_budget_default_zone(cf, lmcf) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    conf->store = ngx_http_llm_budget_store_of(lmcf, conf);

    if (lmcf->zone) {
        lmcf->zone->policy(lmcf->zone->data, lmcf->expire);
    }

    if (lmcf->redis) {
        lmcf->redis->policy(lmcf->redis->data, lmcf->expire);
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_llm_budget_default_zone(ngx_conf_t *cf,
    ngx_http_llm_budget_main_conf_t *lmcf)
{
    ngx_str_t  name;

    ngx_str_set(&name, "llm_budget");

    lmcf->zone = ngx_http_llm_budget_store_zone(cf, &name,
                                                NGX_HTTP_LLM_BUDGET_ZONE_SIZE,
                                                &lmcf->shm_zone);

    return lmcf->zone ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_llm_budget_init_store(ngx_conf_t *cf,
    ngx_http_llm_budget_main_conf_t *lmcf)
{
    if (lmcf->redis == NULL) {
        return NGX_OK;
    }

    if (lmcf->journal.data == NULL
        && ngx_http_llm_budget_default_journal(cf, lmcf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_llm_budget_store_redis_init(cf, lmcf->redis,
                                                &lmcf->journal,
                                                lmcf->journal_len);
}


/* beside the folder in which nginx keeps the bodies of clients */

static ngx_int_t
ngx_http_llm_budget_default_journal(ngx_conf_t *cf,
    ngx_http_llm_budget_main_conf_t *lmcf)
{
    u_char     *p, *last;
    ngx_str_t   body;

    ngx_str_set(&body, NGX_HTTP_CLIENT_TEMP_PATH);

    for (last = body.data + body.len; last > body.data; last--) {
        if (last[-1] == '/') {
            break;
        }
    }

    body.len = (size_t) (last - body.data);

    p = ngx_pnalloc(cf->pool, body.len + sizeof("llm_budget"));
    if (p == NULL) {
        return NGX_ERROR;
    }

    lmcf->journal.data = p;
    lmcf->journal.len = body.len + sizeof("llm_budget") - 1;
    lmcf->journal_len = NGX_HTTP_LLM_BUDGET_JOURNAL_LEN;

    p = ngx_cpymem(p, body.data, body.len);
    ngx_memcpy(p, "llm_budget", sizeof("llm_budget"));

    return ngx_conf_full_name(cf->cycle, &lmcf->journal, 0);
}
