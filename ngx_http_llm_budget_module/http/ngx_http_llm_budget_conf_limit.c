
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
static ngx_http_complex_value_t *ngx_http_llm_budget_limit_value(
    ngx_conf_t *cf, ngx_str_t *text);
static ngx_uint_t ngx_http_llm_budget_bad_name(ngx_str_t *name);
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
                               "location: one directive takes several units; "
                               "another period needs another name",
                               &value[1]);
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

    if (ngx_http_llm_budget_bad_name(&value[1])) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: invalid name \"%V\" of a limit: it has "
                           "1 to 64 letters, digits, \"_\", \".\" or \"-\"%s",
                           &value[1],
                           ngx_strchr(value[1].data, '$')
                           ? ", and takes no variables: those are for key="
                           : "");
        return NGX_CONF_ERROR;
    }

    limit = ngx_array_push(llcf->limits);
    if (limit == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(limit, sizeof(ngx_http_llm_budget_limit_t));

    limit->place = ngx_http_llm_budget_place(cf);
    if (limit->place == NULL) {
        return NGX_CONF_ERROR;
    }

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

    if (!limit->period_set
        && (n > 1 || (limit->amount[LLMB_UNIT_CONCURRENCY] == NULL
                      && limit->fixed[LLMB_UNIT_CONCURRENCY] == -1)))
    {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "llm_budget: limit \"%V\" has no \"per=\": it is "
                           "for a lifetime and never resets; write per=month, "
                           "or per=lifetime if that is meant", &limit->name);
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

        if (limit->key) {
            return "has a duplicate \"key=\"";
        }

        if (text.len == 0) {
            return "has an empty \"key=\" and would never apply: leave it out "
                   "for an account for each caller, or write key=all for one "
                   "of all callers";
        }

        limit->key_text = text;
        limit->key = ngx_http_llm_budget_limit_value(cf, &text);
        return limit->key ? NGX_CONF_OK : NGX_CONF_ERROR;
    }

    if (ngx_strncmp(arg->data, "per=", 4) == 0) {

        if (limit->period_set) {
            return "has a duplicate \"per=\"";
        }

        limit->period_set = 1;

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

    if (ngx_strncmp(arg->data, "code=", 5) == 0) {

        if (limit->code.len) {
            return "has a duplicate \"code=\"";
        }

        if (ngx_http_llm_budget_bad_name(&text)) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "llm_budget: invalid parameter \"%V\" of limit "
                               "\"%V\": a code has 1 to 64 letters, digits, "
                               "\"_\", \".\" or \"-\", and no variables",
                               arg, &limit->name);
            return NGX_CONF_ERROR;
        }

        limit->code = text;
        return NGX_CONF_OK;
    }

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "llm_budget: invalid parameter \"%V\" of limit "
                       "\"%V\": it takes usd=, tokens=, input_tokens=, "
                       "output_tokens=, requests=, concurrency=, key=, per= "
                       "and code=", arg, &limit->name);
    return NGX_CONF_ERROR;
}


/* of a limit, or a code: they go into accounts, headers and logs as they are */

static ngx_uint_t
ngx_http_llm_budget_bad_name(ngx_str_t *name)
{
    u_char  ch;
    size_t  i;

    for (i = 0; i < name->len; i++) {
        ch = name->data[i];

        if ((ch < 'a' || ch > 'z') && (ch < 'A' || ch > 'Z')
            && (ch < '0' || ch > '9') && ch != '_' && ch != '.' && ch != '-')
        {
            return 1;
        }
    }

    return name->len == 0 || name->len > NGX_HTTP_LLM_BUDGET_NAME_MAX;
}


static char *
ngx_http_llm_budget_limit_amount(ngx_conf_t *cf,
    ngx_http_llm_budget_limit_t *limit, llmb_unit_e unit, ngx_str_t *arg,
    ngx_str_t *text)
{
    if (limit->amount[unit] || limit->fixed[unit] != -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: duplicate amount \"%V\" of limit "
                           "\"%V\": another amount of a unit needs a limit of "
                           "another name", arg, &limit->name);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_script_variables_count(text)) {
        limit->amount[unit] = ngx_http_llm_budget_limit_value(cf, text);
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
ngx_http_llm_budget_limit_value(ngx_conf_t *cf, ngx_str_t *text)
{
    ngx_http_complex_value_t  *cv;

    cv = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));

    if (cv == NULL || ngx_http_llm_budget_compile(cf, text, cv) != NGX_OK) {
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

    rung->place = ngx_http_llm_budget_place(cf);
    if (rung->place == NULL) {
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
    const char    *cure;
    ngx_keyval_t  *map;

    cure = "it takes FROM=TO, at=, of=, drop=, max_output= and pass=, each "
           "with a value";

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
            cure = "at= is a percentage from 0 to 100, as at=75%";
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
            cure = "max_output= is a number of tokens, at least 1";
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
                       "llm_budget_degrade: %s", arg, cure);
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
        ngx_string("prompt"), ngx_string("stream"),
        ngx_string("max_tokens"), ngx_string("max_completion_tokens"),
        ngx_string("max_output_tokens"), ngx_null_string
    };

    p = text->data;
    last = p + text->len;

    while (p < last) {
        comma = ngx_strlchr(p, last, ',');

        if (comma == NULL) {
            comma = last;
        }

        if (comma == p) {
            return "has an empty name in \"drop=\": write drop=MEMBER,MEMBER";
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
                                   "llm_budget: \"%V\" cannot be dropped, as "
                                   "it decides what a call costs: leave it "
                                   "out of \"drop=\"", text);
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
