
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What "nginx -t" can find out about a metered location.
 */


#include "http/ngx_http_llm_budget_conf.h"
#include "http/ngx_http_llm_budget_store.h"


/* the zone made when a location is metered and none was configured */
#define NGX_HTTP_LLM_BUDGET_ZONE_SIZE   (32 * 1024 * 1024)


/* built into nginx, unless it was configured without */
extern ngx_module_t  ngx_http_proxy_module  __attribute__((weak));


/* a setting of proxy_, found by its directive: the structure is private */

typedef char *(*ngx_http_llm_budget_set_pt)(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);


static char *ngx_http_llm_budget_check_limits(ngx_conf_t *cf,
    ngx_http_llm_budget_loc_conf_t *conf);
static char *ngx_http_llm_budget_check_rungs(ngx_conf_t *cf,
    ngx_http_llm_budget_main_conf_t *lmcf,
    ngx_http_llm_budget_loc_conf_t *conf);
static char *ngx_http_llm_budget_check_serving(ngx_conf_t *cf,
    ngx_http_llm_budget_loc_conf_t *conf, ngx_http_core_loc_conf_t *clcf);
static void ngx_http_llm_budget_warn_serving(ngx_conf_t *cf,
    ngx_http_llm_budget_loc_conf_t *conf, ngx_http_core_loc_conf_t *clcf);
static ngx_uint_t ngx_http_llm_budget_can_fire(
    ngx_http_llm_budget_loc_conf_t *conf, ngx_http_llm_budget_rung_t *rung);
static char *ngx_http_llm_budget_check_proxy(ngx_conf_t *cf,
    ngx_http_llm_budget_loc_conf_t *conf, ngx_http_core_loc_conf_t *clcf);
static void *ngx_http_llm_budget_proxy_setting(ngx_conf_t *cf,
    const char *name, ngx_http_llm_budget_set_pt set);
static ngx_uint_t ngx_http_llm_budget_has_limit(
    ngx_http_llm_budget_loc_conf_t *conf, ngx_str_t *name);


ngx_http_llm_budget_place_t *
ngx_http_llm_budget_place(ngx_conf_t *cf)
{
    ngx_http_llm_budget_place_t  *place;

    place = ngx_palloc(cf->pool, sizeof(ngx_http_llm_budget_place_t));
    if (place == NULL) {
        return NULL;
    }

    place->file = cf->conf_file->file.name.data;
    place->line = cf->conf_file->line;

    return place;
}


void ngx_cdecl
ngx_http_llm_budget_place_error(ngx_uint_t level, ngx_conf_t *cf,
    ngx_http_llm_budget_place_t *place, const char *fmt, ...)
{
    u_char   text[NGX_MAX_CONF_ERRSTR], *p;
    va_list  args;

    va_start(args, fmt);
    p = ngx_vslprintf(text, text + NGX_MAX_CONF_ERRSTR, fmt, args);
    va_end(args);

    if (place == NULL) {
        ngx_log_error(level, cf->log, 0, "%*s", (size_t) (p - text), text);
        return;
    }

    ngx_log_error(level, cf->log, 0, "%*s in %s:%ui",
                  (size_t) (p - text), text, place->file, place->line);
}


char *
ngx_http_llm_budget_check_timeout(ngx_conf_t *cf, void *post, void *data)
{
    ngx_msec_t  *timeout = data;

    if (*timeout < 1000) {
        return "must be at least 1s, and longer than the longest silence of a "
               "call, as 15m";
    }

    return NGX_CONF_OK;
}


char *
ngx_http_llm_budget_check_body(ngx_conf_t *cf, void *post, void *data)
{
    size_t  *size = data;

    if (*size == 0) {
        return "must not be 0, which would refuse every call: give the "
               "largest body, as 64m";
    }

    return NGX_CONF_OK;
}


char *
ngx_http_llm_budget_check_api(ngx_conf_t *cf,
    ngx_http_llm_budget_loc_conf_t *conf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (conf->enable == 1) {
        ngx_http_llm_budget_place_error(NGX_LOG_EMERG, cf, conf->enable_place,
                            "llm_budget: location \"%V\" has \"llm_budget on\" "
                            "beside \"llm_budget_api\": remove one of them",
                            &clcf->name);
        return NGX_CONF_ERROR;
    }

    if (clcf->handler != conf->api) {
        ngx_http_llm_budget_place_error(NGX_LOG_EMERG, cf, conf->api_place,
                            "llm_budget: \"llm_budget_api\" shares location "
                            "\"%V\" with another content handler, as of "
                            "proxy_pass: give it a location of its own",
                            &clcf->name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_llm_budget_check_loc(ngx_conf_t *cf,
    ngx_http_llm_budget_main_conf_t *lmcf, ngx_http_llm_budget_loc_conf_t *conf)
{
    ngx_http_core_loc_conf_t  *clcf;

    lmcf->used = 1;

    if (lmcf->prices.n == 0) {
        ngx_http_llm_budget_place_error(NGX_LOG_EMERG, cf, conf->enable_place,
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
        ngx_http_llm_budget_place_error(NGX_LOG_EMERG, cf, conf->unknown_place,
                            "llm_budget: llm_budget_unknown_model: model "
                            "\"%V\" is not in the prices: add it to the price "
                            "file, or name a model that is there",
                            &conf->unknown_model);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_llm_budget_check_store(cf, lmcf, conf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    if (ngx_http_llm_budget_check_limits(cf, conf) != NGX_CONF_OK
        || ngx_http_llm_budget_check_rungs(cf, lmcf, conf) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    /*
     * What a server, or a location that only has others in it, does not say
     * itself, its locations may.
     */

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler == NULL && clcf->locations) {
        return NGX_CONF_OK;
    }

    if (ngx_http_llm_budget_check_places(cf, lmcf, conf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    return ngx_http_llm_budget_check_serving(cf, conf, clcf);
}


static char *
ngx_http_llm_budget_check_limits(ngx_conf_t *cf,
    ngx_http_llm_budget_loc_conf_t *conf)
{
    ngx_uint_t                    i, n, unit;
    ngx_http_llm_budget_limit_t  *limit;

    if (conf->limits == NULL) {
        return NGX_CONF_OK;
    }

    limit = conf->limits->elts;

    for (i = 0, n = 0; i < conf->limits->nelts; i++) {

        for (unit = 0; unit < LLMB_UNITS; unit++) {
            n += (limit[i].amount[unit] || limit[i].fixed[unit] >= 0);
        }

        if (n > LLMB_LEDGER_LEGS) {
            ngx_http_llm_budget_place_error(NGX_LOG_EMERG, cf, limit[i].place,
                            "llm_budget: with limit \"%V\" a location has "
                            "more than %d amounts in its limits: remove some",
                            &limit[i].name, LLMB_LEDGER_LEGS);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
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

        map = rung[i].maps.elts;

        for (k = 0; k < rung[i].maps.nelts; k++) {

            if (llmb_price_find(&lmcf->prices,
                                ngx_http_llm_budget_view(&map[k].value), NULL)
                == NULL)
            {
                ngx_http_llm_budget_place_error(NGX_LOG_EMERG, cf,
                            rung[i].place, "llm_budget: llm_budget_degrade to "
                            "\"%V\": this model is not in the prices: add it "
                            "to the price file, or name a model that is there",
                            &map[k].value);
                return NGX_CONF_ERROR;
            }
        }
    }

    return NGX_CONF_OK;
}


/* what depends on all that a location has, its own and inherited */

static char *
ngx_http_llm_budget_check_serving(ngx_conf_t *cf,
    ngx_http_llm_budget_loc_conf_t *conf, ngx_http_core_loc_conf_t *clcf)
{
    ngx_uint_t                   i;
    ngx_http_llm_budget_rung_t  *rung;

    if (conf->rungs) {
        rung = conf->rungs->elts;

        for (i = 0; i < conf->rungs->nelts; i++) {

            if (rung[i].of.len
                && !ngx_http_llm_budget_has_limit(conf, &rung[i].of))
            {
                ngx_http_llm_budget_place_error(NGX_LOG_EMERG, cf,
                            rung[i].place, "llm_budget: llm_budget_degrade "
                            "of=%V: location \"%V\" has no limit of that name: "
                            "name one that it has, or leave of= out",
                            &rung[i].of, &clcf->name);
                return NGX_CONF_ERROR;
            }
        }
    }

    /* "if" and limit_except have the warnings of the location they are in */

    if (!clcf->noname) {
        ngx_http_llm_budget_warn_serving(cf, conf, clcf);
    }

    return ngx_http_llm_budget_check_proxy(cf, conf, clcf);
}


static void
ngx_http_llm_budget_warn_serving(ngx_conf_t *cf,
    ngx_http_llm_budget_loc_conf_t *conf, ngx_http_core_loc_conf_t *clcf)
{
    ngx_uint_t                   i;
    ngx_http_llm_budget_rung_t  *rung;

    if (conf->provider && conf->provider->api_key.len && conf->keys == NULL) {
        ngx_http_llm_budget_place_error(NGX_LOG_WARN, cf, conf->provider_place,
                            "llm_budget: provider \"%V\" has a credential, but "
                            "without \"llm_budget_key\" any key is let in: map "
                            "$llm_budget_key_sha256 to the keys you know",
                            &conf->provider->name);
    }

    if (conf->rungs == NULL) {
        return;
    }

    rung = conf->rungs->elts;

    for (i = 0; i < conf->rungs->nelts; i++) {

        if (!ngx_http_llm_budget_can_fire(conf, &rung[i])) {
            ngx_http_llm_budget_place_error(NGX_LOG_WARN, cf, rung[i].place,
                            "llm_budget: llm_budget_degrade has no effect in "
                            "location \"%V\", which has no limit of dollars or "
                            "tokens: add one, or name another with of=",
                            &clcf->name);
        }
    }
}


/* without of= a rung does not look at counts of requests */

static ngx_uint_t
ngx_http_llm_budget_can_fire(ngx_http_llm_budget_loc_conf_t *conf,
    ngx_http_llm_budget_rung_t *rung)
{
    ngx_uint_t                    i, unit;
    ngx_http_llm_budget_limit_t  *limit;

    if (rung->of.len) {
        return 1;
    }

    if (conf->limits == NULL) {
        return 0;
    }

    limit = conf->limits->elts;

    for (i = 0; i < conf->limits->nelts; i++) {
        for (unit = 0; unit < LLMB_UNITS; unit++) {

            if (unit != LLMB_UNIT_REQUESTS && unit != LLMB_UNIT_CONCURRENCY
                && (limit[i].amount[unit] || limit[i].fixed[unit] >= 0))
            {
                return 1;
            }
        }
    }

    return 0;
}


/*
 * What was judged must be what proxy_pass sends (T36), once (T37).  Other
 * directives than proxy_pass set a content handler, too; but with these
 * settings of proxy_ in a metered location they are not told apart.
 */

static char *
ngx_http_llm_budget_check_proxy(ngx_conf_t *cf,
    ngx_http_llm_budget_loc_conf_t *conf, ngx_http_core_loc_conf_t *clcf)
{
    ngx_str_t                  *body;
    ngx_flag_t                 *pass_body, *pass_headers;
    ngx_uint_t                 *next;
    const char                 *what, *cure;
    ngx_http_complex_value_t  **method;

    if (clcf->handler == NULL) {
        return NGX_CONF_OK;
    }

    pass_body = ngx_http_llm_budget_proxy_setting(cf, "proxy_pass_request_body",
                                                  ngx_conf_set_flag_slot);
    pass_headers = ngx_http_llm_budget_proxy_setting(cf,
                                                  "proxy_pass_request_headers",
                                                  ngx_conf_set_flag_slot);
    method = ngx_http_llm_budget_proxy_setting(cf, "proxy_method",
                                               ngx_http_set_complex_value_slot);
    body = ngx_http_llm_budget_proxy_setting(cf, "proxy_set_body",
                                             ngx_conf_set_str_slot);
    next = ngx_http_llm_budget_proxy_setting(cf, "proxy_next_upstream",
                                             ngx_conf_set_bitmask_slot);

    what = NULL;
    cure = NULL;

    if (pass_body && *pass_body == 0) {
        what = "proxy_pass_request_body off";
        cure = "write \"proxy_pass_request_body on;\" in it";
    }

    if (pass_headers && *pass_headers == 0) {
        what = "proxy_pass_request_headers off";
        cure = "write \"proxy_pass_request_headers on;\" in it";
    }

    if (method && *method) {
        what = "proxy_method";
        cure = "keep that to locations that are not metered";
    }

    if (body && body->data) {
        what = "proxy_set_body";
        cure = "keep that to locations that are not metered";
    }

    if (what) {
        ngx_http_llm_budget_place_error(NGX_LOG_EMERG, cf, conf->enable_place,
                            "llm_budget: metered location \"%V\" has \"%s\": "
                            "what is sent would not be what was judged; %s",
                            &clcf->name, what, cure);
        return NGX_CONF_ERROR;
    }

    if (next && (*next & NGX_HTTP_UPSTREAM_FT_NON_IDEMPOTENT)
        && !clcf->noname)
    {
        ngx_http_llm_budget_place_error(NGX_LOG_WARN, cf, conf->enable_place,
                            "llm_budget: metered location \"%V\" has "
                            "\"proxy_next_upstream\" with non_idempotent: a "
                            "provider may bill a call twice; leave it out, "
                            "unless that is meant", &clcf->name);
    }

    return NGX_CONF_OK;
}


/* proxy is merged before us, as every module of nginx's own */

static void *
ngx_http_llm_budget_proxy_setting(ngx_conf_t *cf, const char *name,
    ngx_http_llm_budget_set_pt set)
{
    u_char         *plcf;
    ngx_command_t  *cmd;

    if (&ngx_http_proxy_module == NULL) {
        return NULL;
    }

    plcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_proxy_module);

    for (cmd = ngx_http_proxy_module.commands; cmd->name.len; cmd++) {
        if (cmd->set == set && ngx_strcmp(cmd->name.data, name) == 0) {
            return plcf + cmd->offset;
        }
    }

    return NULL;
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
