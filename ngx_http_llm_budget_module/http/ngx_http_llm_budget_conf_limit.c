
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * llm_budget_limit and llm_budget_degrade.
 */


#include "http/ngx_http_llm_budget_conf.h"
#include "http/ngx_http_llm_budget_hold.h"


static char *ngx_http_llm_budget_limit_parameter(ngx_conf_t *cf,
    ngx_http_llm_budget_limit_t *limit, ngx_str_t *arg);
static char *ngx_http_llm_budget_limit_amount(ngx_conf_t *cf,
    ngx_http_llm_budget_limit_t *limit, llmb_unit_e unit, ngx_str_t *arg,
    ngx_str_t *text);
static ngx_http_complex_value_t *ngx_http_llm_budget_compile(ngx_conf_t *cf,
    ngx_str_t *text);
static char *ngx_http_llm_budget_degrade_parameter(ngx_conf_t *cf,
    ngx_http_llm_budget_rung_t *rung, ngx_str_t *arg);
static char *ngx_http_llm_budget_degrade_drop(ngx_conf_t *cf,
    ngx_http_llm_budget_rung_t *rung, ngx_str_t *text);
static ngx_int_t ngx_http_llm_budget_split(ngx_str_t *arg, ngx_str_t *name,
    ngx_str_t *value);


char *
ngx_http_llm_budget_limit(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_budget_loc_conf_t  *llcf = conf;

    char                         *rv;
    ngx_str_t                    *value;
    ngx_uint_t                    i, n;
    ngx_http_llm_budget_limit_t  *limit, *limits;

    if (llcf->limits == NGX_CONF_UNSET_PTR) {
        llcf->limits = ngx_array_create(cf->pool, 4,
                                        sizeof(ngx_http_llm_budget_limit_t));
        if (llcf->limits == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    value = cf->args->elts;
    limits = llcf->limits->elts;

    for (i = 0; i < llcf->limits->nelts; i++) {
        if (limits[i].name.len == value[1].len
            && ngx_strcmp(limits[i].name.data, value[1].data) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "llm_budget: duplicate limit \"%V\" in one "
                               "location", &value[1]);
            return NGX_CONF_ERROR;
        }
    }

    if (llcf->limits->nelts == NGX_HTTP_LLM_BUDGET_LIMITS) {
        return "has more than 24 limits in one location";
    }

    if (value[1].len == 0 || ngx_strlchr(value[1].data,
                                         value[1].data + value[1].len, '=')
                             != NULL)
    {
        return "needs a name before its parameters";
    }

    if (ngx_strlchr(value[1].data, value[1].data + value[1].len, '/')) {
        return "has a \"/\" in the limit's name";
    }

    limit = ngx_array_push(llcf->limits);
    if (limit == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(limit, sizeof(ngx_http_llm_budget_limit_t));

    limit->name = value[1];
    limit->period = LLMB_PERIOD_LIFETIME;

    for (n = 0; n < LLMB_UNITS; n++) {
        limit->fixed[n] = -1;
    }

    for (i = 2; i < cf->args->nelts; i++) {
        rv = ngx_http_llm_budget_limit_parameter(cf, limit, &value[i]);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    for (i = 0, n = 0; i < LLMB_UNITS; i++) {
        n += (limit->amount[i] != NULL || limit->fixed[i] != -1);
    }

    if (n == 0) {
        return "needs an amount: usd=, tokens=, input_tokens=, "
               "output_tokens=, requests= or concurrency=";
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_budget_limit_parameter(ngx_conf_t *cf,
    ngx_http_llm_budget_limit_t *limit, ngx_str_t *arg)
{
    ngx_str_t    name, text;
    llmb_unit_e  unit;

    if (ngx_http_llm_budget_split(arg, &name, &text) != NGX_OK) {
        goto invalid;
    }

    if (llmb_unit_parse(ngx_http_llm_budget_view(&name), &unit) == LLMB_OK) {
        return ngx_http_llm_budget_limit_amount(cf, limit, unit, arg, &text);
    }

    if (ngx_strncmp(arg->data, "key=", 4) == 0) {
        limit->key = ngx_http_llm_budget_compile(cf, &text);
        return limit->key ? NGX_CONF_OK : NGX_CONF_ERROR;
    }

    if (ngx_strncmp(arg->data, "per=", 4) == 0) {

        if (llmb_period_parse(ngx_http_llm_budget_view(&text), &limit->period)
            == LLMB_OK)
        {
            return NGX_CONF_OK;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: unknown period \"%V\": it is minute, "
                           "hour, day, week, month, year or lifetime", &text);
        return NGX_CONF_ERROR;
    }

    if (ngx_strncmp(arg->data, "code=", 5) == 0 && text.len) {
        limit->code = text;
        return NGX_CONF_OK;
    }

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "llm_budget: invalid parameter \"%V\" of limit \"%V\"",
                       arg, &limit->name);
    return NGX_CONF_ERROR;
}


static char *
ngx_http_llm_budget_limit_amount(ngx_conf_t *cf,
    ngx_http_llm_budget_limit_t *limit, llmb_unit_e unit, ngx_str_t *arg,
    ngx_str_t *text)
{
    if (limit->amount[unit] || limit->fixed[unit] != -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: duplicate amount \"%V\" of limit "
                           "\"%V\"", arg, &limit->name);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_script_variables_count(text)) {
        limit->amount[unit] = ngx_http_llm_budget_compile(cf, text);
        return limit->amount[unit] ? NGX_CONF_OK : NGX_CONF_ERROR;
    }

    if (ngx_http_llm_budget_amount(unit, text, &limit->fixed[unit])
        != NGX_OK)
    {
        limit->fixed[unit] = -1;

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: invalid amount \"%V\" of limit "
                           "\"%V\": it must be a number from 0 to %s", arg,
                           &limit->name,
                           unit == LLMB_UNIT_USD ? "9000000 USD"
                                                 : "9000000000000000");
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_http_complex_value_t *
ngx_http_llm_budget_compile(ngx_conf_t *cf, ngx_str_t *text)
{
    ngx_http_complex_value_t          *cv;
    ngx_http_compile_complex_value_t   ccv;

    cv = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (cv == NULL) {
        return NULL;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = text;
    ccv.complex_value = cv;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NULL;
    }

    return cv;
}


char *
ngx_http_llm_budget_degrade(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_budget_loc_conf_t  *llcf = conf;

    char                        *rv;
    ngx_str_t                   *value;
    ngx_uint_t                   i;
    ngx_http_llm_budget_rung_t  *rung;

    if (llcf->rungs == NGX_CONF_UNSET_PTR) {
        llcf->rungs = ngx_array_create(cf->pool, 4,
                                       sizeof(ngx_http_llm_budget_rung_t));
        if (llcf->rungs == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    if (llcf->rungs->nelts == NGX_HTTP_LLM_BUDGET_RUNGS) {
        return "has more than 16 rungs in one location";
    }

    rung = ngx_array_push(llcf->rungs);
    if (rung == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(rung, sizeof(ngx_http_llm_budget_rung_t));

    if (ngx_array_init(&rung->maps, cf->pool, 4, sizeof(ngx_keyval_t))
        != NGX_OK
        || ngx_array_init(&rung->drops, cf->pool, 4, sizeof(ngx_str_t))
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    rung->at = 100;
    rung->max_output = -1;

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {
        rv = ngx_http_llm_budget_degrade_parameter(cf, rung, &value[i]);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (rung->maps.nelts == 0) {
        return "needs at least one FROM=TO pair of models";
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_budget_degrade_parameter(ngx_conf_t *cf,
    ngx_http_llm_budget_rung_t *rung, ngx_str_t *arg)
{
    ngx_str_t      name, text;
    ngx_int_t      n;
    ngx_keyval_t  *map;

    if (ngx_http_llm_budget_split(arg, &name, &text) != NGX_OK
        || text.len == 0)
    {
        goto invalid;
    }

    if (ngx_strncmp(arg->data, "at=", 3) == 0) {

        if (text.data[text.len - 1] == '%') {
            text.len--;
        }

        n = ngx_atoi(text.data, text.len);

        if (n == NGX_ERROR || n > 100) {
            goto invalid;
        }

        rung->at = (ngx_uint_t) n;
        return NGX_CONF_OK;
    }

    if (ngx_strncmp(arg->data, "of=", 3) == 0) {
        rung->of = text;
        return NGX_CONF_OK;
    }

    if (ngx_strncmp(arg->data, "drop=", 5) == 0) {
        return ngx_http_llm_budget_degrade_drop(cf, rung, &text);
    }

    if (ngx_strncmp(arg->data, "max_output=", 11) == 0) {
        rung->max_output = ngx_atoi(text.data, text.len);

        if (rung->max_output < 1) {
            goto invalid;
        }

        return NGX_CONF_OK;
    }

    if (ngx_strncmp(arg->data, "pass=", 5) == 0) {
        rung->pass = ngx_http_llm_budget_provider_find(cf, &text);
        return rung->pass ? NGX_CONF_OK : NGX_CONF_ERROR;
    }

    map = ngx_array_push(&rung->maps);
    if (map == NULL) {
        return NGX_CONF_ERROR;
    }

    map->key = name;
    map->value = text;

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "llm_budget: invalid parameter \"%V\" of "
                       "llm_budget_degrade", arg);
    return NGX_CONF_ERROR;
}


static char *
ngx_http_llm_budget_degrade_drop(ngx_conf_t *cf,
    ngx_http_llm_budget_rung_t *rung, ngx_str_t *text)
{
    u_char     *p, *last, *comma;
    ngx_str_t  *drop;

    static ngx_str_t  kept[] = {
        ngx_string("model"), ngx_string("messages"), ngx_string("input"),
        ngx_string("prompt"), ngx_string("stream"), ngx_null_string
    };

    p = text->data;
    last = p + text->len;

    while (p < last) {
        comma = ngx_strlchr(p, last, ',');

        if (comma == NULL) {
            comma = last;
        }

        if (comma == p) {
            return "has an empty name in \"drop=\"";
        }

        if (rung->drops.nelts == NGX_HTTP_LLM_BUDGET_DROPS) {
            return "drops more than 16 members";
        }

        drop = ngx_array_push(&rung->drops);
        if (drop == NULL) {
            return NGX_CONF_ERROR;
        }

        drop->data = p;
        drop->len = (size_t) (comma - p);

        for (text = kept; text->len; text++) {
            if (drop->len == text->len
                && ngx_memcmp(drop->data, text->data, text->len) == 0)
            {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "llm_budget: \"%V\" cannot be dropped",
                                   text);
                return NGX_CONF_ERROR;
            }
        }

        p = comma + 1;
    }

    return NGX_CONF_OK;
}


/* "name=value"; model names may hold "=" nowhere, values anywhere */

static ngx_int_t
ngx_http_llm_budget_split(ngx_str_t *arg, ngx_str_t *name, ngx_str_t *value)
{
    u_char  *eq, *last;

    last = arg->data + arg->len;
    eq = ngx_strlchr(arg->data, last, '=');

    if (eq == NULL || eq == arg->data) {
        return NGX_ERROR;
    }

    name->data = arg->data;
    name->len = (size_t) (eq - arg->data);

    value->data = eq + 1;
    value->len = (size_t) (last - eq - 1);

    return NGX_OK;
}
