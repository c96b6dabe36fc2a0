
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * A budget is in one place: the checks of stores and tags against limits.
 */


#include "http/ngx_http_llm_budget_conf.h"


static char *ngx_http_llm_budget_check_tag(ngx_conf_t *cf,
    ngx_http_llm_budget_loc_conf_t *conf);
static char *ngx_http_llm_budget_check_homes(ngx_conf_t *cf,
    ngx_http_llm_budget_main_conf_t *lmcf,
    ngx_http_llm_budget_loc_conf_t *conf);
static ngx_uint_t ngx_http_llm_budget_tag_variable(ngx_str_t *rest,
    ngx_str_t *name);
static ngx_uint_t ngx_http_llm_budget_has_variable(ngx_str_t *text,
    ngx_str_t *name);


char *
ngx_http_llm_budget_check_places(ngx_conf_t *cf,
    ngx_http_llm_budget_main_conf_t *lmcf,
    ngx_http_llm_budget_loc_conf_t *conf)
{
    if (conf->store == lmcf->redis
        && ngx_http_llm_budget_check_tag(cf, conf) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    return ngx_http_llm_budget_check_homes(cf, lmcf, conf);
}


/*
 * An account lives under one tag.  Where the tag differs between requests, so
 * must the keys of all limits, or one budget would become one for each tag
 * (T26).
 */

static char *
ngx_http_llm_budget_check_tag(ngx_conf_t *cf,
    ngx_http_llm_budget_loc_conf_t *conf)
{
    ngx_str_t                     rest, name;
    ngx_uint_t                    i;
    ngx_http_llm_budget_limit_t  *limit;

    static ngx_str_t  caller = ngx_string("$llm_budget_key_id");

    if (conf->tag == NULL || conf->limits == NULL) {
        return NGX_CONF_OK;
    }

    rest = conf->tag_text;
    limit = conf->limits->elts;

    while (ngx_http_llm_budget_tag_variable(&rest, &name)) {

        for (i = 0; i < conf->limits->nelts; i++) {

            if (ngx_http_llm_budget_has_variable(limit[i].key
                                                 ? &limit[i].key_text : &caller,
                                                 &name))
            {
                continue;
            }

            ngx_http_llm_budget_place_error(NGX_LOG_EMERG, cf, limit[i].place,
                            "llm_budget: limit \"%V\" would be counted anew "
                            "for each value of llm_budget_redis_tag \"%V\": "
                            "its key= must contain \"$%V\", or the tag must "
                            "not", &limit[i].name, &conf->tag_text, &name);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


/* a limit is what its name is, so all of it is in one store, under one tag */

static char *
ngx_http_llm_budget_check_homes(ngx_conf_t *cf,
    ngx_http_llm_budget_main_conf_t *lmcf,
    ngx_http_llm_budget_loc_conf_t *conf)
{
    ngx_uint_t                    i, k;
    ngx_http_llm_budget_home_t   *home;
    ngx_http_llm_budget_limit_t  *limit;

    if (conf->limits == NULL) {
        return NGX_CONF_OK;
    }

    limit = conf->limits->elts;

    for (i = 0; i < conf->limits->nelts; i++) {
        home = lmcf->homes.elts;

        for (k = 0; k < lmcf->homes.nelts; k++) {
            if (home[k].name.len == limit[i].name.len
                && ngx_memcmp(home[k].name.data, limit[i].name.data,
                              limit[i].name.len)
                   == 0)
            {
                break;
            }
        }

        if (k == lmcf->homes.nelts) {
            home = ngx_array_push(&lmcf->homes);
            if (home == NULL) {
                return NGX_CONF_ERROR;
            }

            home->name = limit[i].name;
            home->store = conf->store;
            home->tag = conf->tag_text;

            continue;
        }

        if (home[k].store != conf->store) {
            ngx_http_llm_budget_place_error(NGX_LOG_WARN, cf, limit[i].place,
                            "llm_budget: limit \"%V\" is counted in the zone "
                            "here and in Redis there: as two budgets; give "
                            "them two names, or one llm_budget_store",
                            &limit[i].name);
            continue;
        }

        if (conf->store == lmcf->redis
            && (home[k].tag.len != conf->tag_text.len
                || (conf->tag_text.len
                    && ngx_memcmp(home[k].tag.data, conf->tag_text.data,
                                  conf->tag_text.len)
                       != 0)))
        {
            ngx_http_llm_budget_place_error(NGX_LOG_EMERG, cf, limit[i].place,
                            "llm_budget: limit \"%V\" is counted under "
                            "llm_budget_redis_tag \"%V\" and under \"%V\": it "
                            "would be two budgets; give them two names, or "
                            "one tag", &limit[i].name, &home[k].tag,
                            &conf->tag_text);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


/* the next variable of a text, which becomes what follows it */

static ngx_uint_t
ngx_http_llm_budget_tag_variable(ngx_str_t *rest, ngx_str_t *name)
{
    u_char  *p, *last;

    last = rest->data + rest->len;
    p = ngx_strlchr(rest->data, last, '$');

    if (p == NULL) {
        return 0;
    }

    p++;

    if (p < last && *p == '{') {
        p++;
    }

    name->data = p;

    while (p < last && (*p == '_' || (*p >= '0' && *p <= '9')
                        || ((*p | 0x20) >= 'a' && (*p | 0x20) <= 'z')))
    {
        p++;
    }

    name->len = (size_t) (p - name->data);

    rest->len = (size_t) (last - p);
    rest->data = p;

    return 1;
}


static ngx_uint_t
ngx_http_llm_budget_has_variable(ngx_str_t *text, ngx_str_t *name)
{
    ngx_str_t  rest, other;

    rest = *text;

    while (ngx_http_llm_budget_tag_variable(&rest, &other)) {

        if (other.len == name->len
            && ngx_strncasecmp(other.data, name->data, name->len) == 0)
        {
            return 1;
        }
    }

    return 0;
}
