
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Configuration: creation, merging, checks, and the simpler setters.
 */


#include "http/ngx_http_llm_budget_conf.h"


/* the estimate's constants, tokens per part (T20) */
#define NGX_HTTP_LLM_BUDGET_IMAGE       2000
#define NGX_HTTP_LLM_BUDGET_AUDIO       10000
#define NGX_HTTP_LLM_BUDGET_FILE        100000

/* output assumed when nothing bounds it */
#define NGX_HTTP_LLM_BUDGET_OUTPUT_BOUND    4096
#define NGX_HTTP_LLM_BUDGET_OUTPUT_DEFAULT  1024


static ngx_uint_t ngx_http_llm_budget_bad_method(ngx_str_t *method);


void *
ngx_http_llm_budget_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_llm_budget_main_conf_t  *lmcf;

    lmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_budget_main_conf_t));
    if (lmcf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&lmcf->providers, cf->pool, 4,
                       sizeof(ngx_http_llm_budget_provider_t *))
        != NGX_OK)
    {
        return NULL;
    }

    if (ngx_array_init(&lmcf->homes, cf->pool, 8,
                       sizeof(ngx_http_llm_budget_home_t))
        != NGX_OK)
    {
        return NULL;
    }

    lmcf->expire = NGX_CONF_UNSET_UINT;

    return lmcf;
}


char *
ngx_http_llm_budget_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_llm_budget_main_conf_t  *lmcf = conf;

    ngx_uint_t                     i;
    llmb_str_t                    *alias;
    ngx_http_llm_budget_place_t  **place;

    ngx_conf_init_uint_value(lmcf->expire, 1);

    /* looked up before the aliases are there: none is the target of another */

    alias = lmcf->aliases.elts;
    place = lmcf->alias_places.elts;

    for (i = 0; i < lmcf->aliases.nelts; i += 2) {

        if (llmb_price_find(&lmcf->prices, &alias[i + 1], NULL) == NULL) {
            ngx_http_llm_budget_place_error(NGX_LOG_EMERG, cf, place[i / 2],
                            "llm_budget: llm_budget_price_alias \"%V\": model "
                            "\"%V\" is not in the prices: add it to the price "
                            "file, or name a model that is there",
                            ngx_http_llm_budget_unview(&alias[i]),
                            ngx_http_llm_budget_unview(&alias[i + 1]));
            return NGX_CONF_ERROR;
        }

        if (llmb_price_find(&lmcf->prices, &alias[i], NULL) != NULL) {
            ngx_http_llm_budget_place_error(NGX_LOG_WARN, cf, place[i / 2],
                            "llm_budget: llm_budget_price_alias \"%V\" has no "
                            "effect: the prices have a model of that name; "
                            "remove one of them",
                            ngx_http_llm_budget_unview(&alias[i]));
        }
    }

    lmcf->prices.aliases = lmcf->aliases.elts;
    lmcf->prices.n_aliases = (unsigned) (lmcf->aliases.nelts / 2);

    if (ngx_http_llm_budget_init_store(cf, lmcf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


void *
ngx_http_llm_budget_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_llm_budget_loc_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_budget_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    conf->enable = NGX_CONF_UNSET;
    conf->keys = NGX_CONF_UNSET_PTR;
    conf->limits = NGX_CONF_UNSET_PTR;
    conf->rungs = NGX_CONF_UNSET_PTR;
    conf->endpoints = NGX_CONF_UNSET_PTR;
    conf->provider = NGX_CONF_UNSET_PTR;
    conf->store_kind = NGX_CONF_UNSET_UINT;
    conf->outage = NGX_CONF_UNSET_UINT;
    conf->tag = NGX_CONF_UNSET_PTR;
    conf->reserve = NGX_CONF_UNSET_UINT;
    conf->reserve_output = NGX_CONF_UNSET;
    conf->bytes_per_token = NGX_CONF_UNSET;
    conf->clamp = NGX_CONF_UNSET;
    conf->deny_status = NGX_CONF_UNSET_UINT;
    conf->inject_usage = NGX_CONF_UNSET;
    conf->show_amounts = NGX_CONF_UNSET;
    conf->hold_timeout = NGX_CONF_UNSET_MSEC;
    conf->max_body = NGX_CONF_UNSET_SIZE;
    conf->enable_place = NGX_CONF_UNSET_PTR;
    conf->provider_place = NGX_CONF_UNSET_PTR;
    conf->unknown_place = NGX_CONF_UNSET_PTR;
    conf->store_place = NGX_CONF_UNSET_PTR;
    conf->tag_place = NGX_CONF_UNSET_PTR;

    return conf;
}


char *
ngx_http_llm_budget_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_llm_budget_loc_conf_t *prev = parent;
    ngx_http_llm_budget_loc_conf_t *conf = child;

    llmb_estimate_conf_t             *est;
    ngx_http_llm_budget_main_conf_t  *lmcf;

    if (conf->api) {

        if (ngx_http_llm_budget_check_api(cf, conf) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }

        /* reading the ledger is not metered, whatever the server says */

        conf->enable = 0;
    }

    ngx_conf_merge_value(conf->enable, prev->enable, 0);
    ngx_conf_merge_ptr_value(conf->keys, prev->keys, NULL);
    ngx_conf_merge_ptr_value(conf->limits, prev->limits, NULL);
    ngx_conf_merge_ptr_value(conf->rungs, prev->rungs, NULL);
    ngx_conf_merge_ptr_value(conf->endpoints, prev->endpoints, NULL);
    ngx_conf_merge_ptr_value(conf->provider, prev->provider, NULL);

    ngx_http_llm_budget_merge_store(prev, conf);

    /* llm_budget_reserve inherits as a whole */

    if (conf->reserve == NGX_CONF_UNSET_UINT) {
        conf->reserve_output = prev->reserve_output;
        conf->bytes_per_token = prev->bytes_per_token;
    }

    ngx_conf_merge_uint_value(conf->reserve, prev->reserve,
                              NGX_HTTP_LLM_BUDGET_RESERVE_BOUND);

    ngx_conf_init_value(conf->reserve_output,
                        conf->reserve == NGX_HTTP_LLM_BUDGET_RESERVE_BOUND
                        ? NGX_HTTP_LLM_BUDGET_OUTPUT_BOUND
                        : NGX_HTTP_LLM_BUDGET_OUTPUT_DEFAULT);

    ngx_conf_init_value(conf->bytes_per_token,
                        conf->reserve == NGX_HTTP_LLM_BUDGET_RESERVE_BOUND
                        ? 1 : 4);

    ngx_conf_merge_value(conf->clamp, prev->clamp, 16);
    ngx_conf_merge_uint_value(conf->deny_status, prev->deny_status,
                              NGX_HTTP_TOO_MANY_REQUESTS);
    ngx_conf_merge_value(conf->inject_usage, prev->inject_usage, 1);
    ngx_conf_merge_value(conf->show_amounts, prev->show_amounts, 1);
    ngx_conf_merge_msec_value(conf->hold_timeout, prev->hold_timeout, 3600000);
    ngx_conf_merge_size_value(conf->max_body, prev->max_body,
                              64 * 1024 * 1024);
    ngx_conf_merge_str_value(conf->unknown_model, prev->unknown_model, "");

    ngx_conf_merge_ptr_value(conf->enable_place, prev->enable_place, NULL);
    ngx_conf_merge_ptr_value(conf->provider_place, prev->provider_place, NULL);
    ngx_conf_merge_ptr_value(conf->unknown_place, prev->unknown_place, NULL);

    est = &conf->estimate;

    est->bytes_per_token = conf->bytes_per_token;
    est->image_tokens = NGX_HTTP_LLM_BUDGET_IMAGE;
    est->audio_tokens = NGX_HTTP_LLM_BUDGET_AUDIO;
    est->file_tokens = NGX_HTTP_LLM_BUDGET_FILE;
    est->default_output = conf->reserve_output;
    est->assume_default = (conf->reserve
                           != NGX_HTTP_LLM_BUDGET_RESERVE_BOUND);

    if (!conf->enable) {
        return NGX_CONF_OK;
    }

    lmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_llm_budget_module);

    return ngx_http_llm_budget_check_loc(cf, lmcf, conf);
}


char *
ngx_http_llm_budget_enable(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_budget_loc_conf_t  *llcf = conf;

    llcf->enable_place = ngx_http_llm_budget_place(cf);
    if (llcf->enable_place == NULL) {
        return NGX_CONF_ERROR;
    }

    return ngx_conf_set_flag_slot(cf, cmd, conf);
}


char *
ngx_http_llm_budget_key(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_budget_loc_conf_t  *llcf = conf;

    ngx_str_t                 *value;
    ngx_uint_t                 i;
    ngx_http_complex_value_t  *cv;

    if (llcf->keys != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    llcf->keys = ngx_array_create(cf->pool, cf->args->nelts - 1,
                                  sizeof(ngx_http_complex_value_t));
    if (llcf->keys == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 1; i < cf->args->nelts; i++) {

        cv = ngx_array_push(llcf->keys);
        if (cv == NULL) {
            return NGX_CONF_ERROR;
        }

        if (ngx_http_llm_budget_compile(cf, &value[i], cv) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_llm_budget_compile(ngx_conf_t *cf, ngx_str_t *text,
    ngx_http_complex_value_t *cv)
{
    ngx_http_compile_complex_value_t  ccv;

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = text;
    ccv.complex_value = cv;

    return ngx_http_compile_complex_value(&ccv);
}


char *
ngx_http_llm_budget_endpoint(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_budget_loc_conf_t  *llcf = conf;

    ngx_str_t        *value;
    llmb_endpoint_t  *endpoint;

    value = cf->args->elts;

    if (llcf->endpoints == NGX_CONF_UNSET_PTR) {
        llcf->endpoints = ngx_array_create(cf->pool, 4,
                                           sizeof(llmb_endpoint_t));
        if (llcf->endpoints == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    endpoint = ngx_array_push(llcf->endpoints);
    if (endpoint == NULL) {
        return NGX_CONF_ERROR;
    }

    endpoint->method = *ngx_http_llm_budget_view(&value[1]);
    endpoint->path = *ngx_http_llm_budget_view(&value[2]);
    endpoint->dialect = llmb_dialect_guess(&endpoint->path);

    if (ngx_http_llm_budget_bad_method(&value[1])) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: invalid endpoint method \"%V\": it is "
                           "in capital letters", &value[1]);
        return NGX_CONF_ERROR;
    }

    if (llmb_endpoint_check_path(&endpoint->path) != LLMB_OK
        || ngx_strlchr(value[2].data, value[2].data + value[2].len, '?'))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: invalid endpoint path \"%V\": it "
                           "begins with \"/\", and has no empty segment, "
                           "\".\", \"..\", \"%%\", \";\", \"\\\", \"?\" or "
                           "control character", &value[2]);
        return NGX_CONF_ERROR;
    }

    if (ngx_strcmp(value[3].data, "free") == 0) {
        endpoint->kind = LLMB_ENDPOINT_FREE;

    } else if (ngx_strcmp(value[3].data, "refused") == 0) {
        endpoint->kind = LLMB_ENDPOINT_REFUSED;

    } else if (ngx_strcmp(value[3].data, "metered") == 0) {
        endpoint->kind = LLMB_ENDPOINT_METERED;

        if (cf->args->nelts != 5) {
            return "needs a dialect after \"metered\": chat, completions, "
                   "responses, embeddings or messages";
        }

        if (ngx_strcmp(value[1].data, "POST") != 0) {
            return "can meter only POST requests";
        }

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: an endpoint is \"metered\", \"free\" "
                           "or \"refused\", not \"%V\"", &value[3]);
        return NGX_CONF_ERROR;
    }

    if (cf->args->nelts == 5
        && llmb_dialect_parse(ngx_http_llm_budget_view(&value[4]),
                              &endpoint->dialect)
           != LLMB_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: unknown dialect \"%V\": it is chat, "
                           "completions, responses, embeddings or messages",
                           &value[4]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_uint_t
ngx_http_llm_budget_bad_method(ngx_str_t *method)
{
    ngx_uint_t  i;

    for (i = 0; i < method->len; i++) {
        if (method->data[i] < 'A' || method->data[i] > 'Z') {
            return 1;
        }
    }

    return method->len == 0;
}


char *
ngx_http_llm_budget_reserve(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_budget_loc_conf_t  *llcf = conf;

    ngx_int_t    n, *slot;
    ngx_str_t   *value, text;
    ngx_uint_t   i;

    if (llcf->reserve != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "bound") == 0) {
        llcf->reserve = NGX_HTTP_LLM_BUDGET_RESERVE_BOUND;

    } else if (ngx_strcmp(value[1].data, "default") == 0) {
        llcf->reserve = NGX_HTTP_LLM_BUDGET_RESERVE_DEFAULT;

    } else if (ngx_strcmp(value[1].data, "off") == 0) {
        llcf->reserve = NGX_HTTP_LLM_BUDGET_RESERVE_OFF;

    } else {
        return "must be \"bound\", \"default\" or \"off\"";
    }

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "output=", 7) == 0) {
            slot = &llcf->reserve_output;
            text.data = value[i].data + 7;

        } else if (ngx_strncmp(value[i].data, "bytes_per_token=", 16) == 0) {
            slot = &llcf->bytes_per_token;
            text.data = value[i].data + 16;

        } else {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "llm_budget: invalid parameter \"%V\" of "
                               "llm_budget_reserve: it takes output= and "
                               "bytes_per_token=", &value[i]);
            return NGX_CONF_ERROR;
        }

        text.len = (size_t) (value[i].data + value[i].len - text.data);
        n = ngx_atoi(text.data, text.len);

        if (n == NGX_ERROR || n < 1 || n > 100000000) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "llm_budget: invalid value in \"%V\": it is a "
                               "number from 1 to 100000000", &value[i]);
            return NGX_CONF_ERROR;
        }

        *slot = n;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_llm_budget_clamp(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_budget_loc_conf_t  *llcf = conf;

    ngx_str_t  *value;

    if (llcf->clamp != NGX_CONF_UNSET) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        llcf->clamp = 0;
        return NGX_CONF_OK;
    }

    llcf->clamp = ngx_atoi(value[1].data, value[1].len);

    if (llcf->clamp == NGX_ERROR || llcf->clamp < 1) {
        return "must be a number of tokens, at least 1, or \"off\"";
    }

    return NGX_CONF_OK;
}


char *
ngx_http_llm_budget_unknown_model(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_llm_budget_loc_conf_t  *llcf = conf;

    ngx_str_t  *value;

    if (llcf->unknown_model.data) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "deny") == 0) {
        llcf->unknown_model.data = (u_char *) "";
        return NGX_CONF_OK;
    }

    if (ngx_strncmp(value[1].data, "price_as=", 9) != 0 || value[1].len == 9) {
        return "must be \"deny\" or \"price_as=MODEL\"";
    }

    llcf->unknown_place = ngx_http_llm_budget_place(cf);
    if (llcf->unknown_place == NULL) {
        return NGX_CONF_ERROR;
    }

    llcf->unknown_model.data = value[1].data + 9;
    llcf->unknown_model.len = value[1].len - 9;

    return NGX_CONF_OK;
}
