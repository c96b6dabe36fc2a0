
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What "nginx -t" can find out about a metered location.
 */


#include "http/ngx_http_llm_budget_conf.h"
#include "http/ngx_http_llm_budget_store.h"


/* the zone made when a location is metered and none was configured */
#define NGX_HTTP_LLM_BUDGET_ZONE_SIZE   (32 * 1024 * 1024)


static char *ngx_http_llm_budget_check_rungs(ngx_conf_t *cf,
    ngx_http_llm_budget_main_conf_t *lmcf,
    ngx_http_llm_budget_loc_conf_t *conf);
static ngx_uint_t ngx_http_llm_budget_has_limit(
    ngx_http_llm_budget_loc_conf_t *conf, ngx_str_t *name);
static ngx_uint_t ngx_http_llm_budget_count_legs(
    ngx_http_llm_budget_loc_conf_t *conf);


/* what "nginx -t" can find out about a metered location */

char *
ngx_http_llm_budget_check_loc(ngx_conf_t *cf,
    ngx_http_llm_budget_main_conf_t *lmcf, ngx_http_llm_budget_loc_conf_t *conf)
{
    ngx_str_t  name;

    lmcf->used = 1;

    if (lmcf->prices.n == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: \"llm_budget on\" needs prices: add "
                           "\"llm_budget_prices FILE\" on the http level");
        return NGX_CONF_ERROR;
    }

    if (conf->unknown_model.len
        && llmb_price_find(&lmcf->prices,
                           ngx_http_llm_budget_view(&conf->unknown_model),
                           NULL)
           == NULL)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: llm_budget_unknown_model: model "
                           "\"%V\" is not in the prices",
                           &conf->unknown_model);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_llm_budget_count_legs(conf) > LLMB_LEDGER_LEGS) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: a location has more than %d amounts "
                           "in its limits", LLMB_LEDGER_LEGS);
        return NGX_CONF_ERROR;
    }

    if (conf->hold_timeout < 1000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: llm_budget_hold_timeout is less than "
                           "a second");
        return NGX_CONF_ERROR;
    }

    if (conf->provider && conf->provider->api_key.len && conf->keys == NULL) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "llm_budget: provider \"%V\" has a credential, but "
                           "without \"llm_budget_key\" any key is let in: map "
                           "$llm_budget_key_sha256 to the keys you know",
                           &conf->provider->name);
    }

    if (lmcf->store == NULL) {
        ngx_str_set(&name, "llm_budget");

        lmcf->store = ngx_http_llm_budget_shm_create(cf, &name,
                                                NGX_HTTP_LLM_BUDGET_ZONE_SIZE,
                                                &lmcf->shm_zone);
        if (lmcf->store == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    ngx_http_llm_budget_shm_policy(lmcf->store, lmcf->expire);

    return ngx_http_llm_budget_check_rungs(cf, lmcf, conf);
}


static char *
ngx_http_llm_budget_check_rungs(ngx_conf_t *cf,
    ngx_http_llm_budget_main_conf_t *lmcf, ngx_http_llm_budget_loc_conf_t *conf)
{
    ngx_uint_t                   i, k;
    ngx_keyval_t                *map;
    ngx_http_llm_budget_rung_t  *rung;

    if (conf->rungs == NULL) {
        return NGX_CONF_OK;
    }

    rung = conf->rungs->elts;

    for (i = 0; i < conf->rungs->nelts; i++) {

        if (rung[i].of.len
            && !ngx_http_llm_budget_has_limit(conf, &rung[i].of))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "llm_budget: llm_budget_degrade of=%V: this "
                               "location has no limit of that name",
                               &rung[i].of);
            return NGX_CONF_ERROR;
        }

        map = rung[i].maps.elts;

        for (k = 0; k < rung[i].maps.nelts; k++) {

            if (llmb_price_find(&lmcf->prices,
                                ngx_http_llm_budget_view(&map[k].value), NULL)
                == NULL)
            {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "llm_budget: llm_budget_degrade to "
                                   "\"%V\": this model is not in the prices",
                                   &map[k].value);
                return NGX_CONF_ERROR;
            }
        }
    }

    return NGX_CONF_OK;
}


static ngx_uint_t
ngx_http_llm_budget_has_limit(ngx_http_llm_budget_loc_conf_t *conf,
    ngx_str_t *name)
{
    ngx_uint_t                    i;
    ngx_http_llm_budget_limit_t  *limit;

    if (conf->limits == NULL) {
        return 0;
    }

    limit = conf->limits->elts;

    for (i = 0; i < conf->limits->nelts; i++) {
        if (limit[i].name.len == name->len
            && ngx_memcmp(limit[i].name.data, name->data, name->len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


static ngx_uint_t
ngx_http_llm_budget_count_legs(ngx_http_llm_budget_loc_conf_t *conf)
{
    ngx_uint_t                    i, n, unit;
    ngx_http_llm_budget_limit_t  *limit;

    if (conf->limits == NULL) {
        return 0;
    }

    limit = conf->limits->elts;

    for (i = 0, n = 0; i < conf->limits->nelts; i++) {
        for (unit = 0; unit < LLMB_UNITS; unit++) {
            n += (limit[i].amount[unit] || limit[i].fixed[unit] >= 0);
        }
    }

    return n;
}
