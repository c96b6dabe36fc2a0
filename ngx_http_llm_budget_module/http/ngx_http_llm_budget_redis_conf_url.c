
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The addresses and the credentials of llm_budget_redis.  An address may have
 * a password in it: messages show its host alone.
 */


#include "http/ngx_http_llm_budget_redis_conf_int.h"
#include "http/ngx_http_llm_budget_secret.h"


#define NGX_HTTP_LLM_BUDGET_REDIS_DB_MAX    65535


static char *ngx_http_llm_budget_redis_conf_unix(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params, ngx_str_t *path);
static char *ngx_http_llm_budget_redis_conf_tcp(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params, ngx_str_t *text);
static char *ngx_http_llm_budget_redis_conf_host(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_url_t *url, ngx_str_t *text);
static void ngx_http_llm_budget_redis_conf_shown(ngx_str_t *text);
static char *ngx_http_llm_budget_redis_conf_db(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params, ngx_str_t *host,
    ngx_str_t *text);
static char *ngx_http_llm_budget_redis_conf_userinfo(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params, ngx_str_t *host,
    ngx_str_t *text);
static ngx_int_t ngx_http_llm_budget_redis_conf_decode(ngx_conf_t *cf,
    ngx_str_t *result, u_char *p, u_char *last);


ngx_uint_t
ngx_http_llm_budget_redis_conf_is_url(ngx_str_t *value)
{
    return ngx_strncmp(value->data, "redis://", 8) == 0
           || ngx_strncmp(value->data, "rediss://", 9) == 0
           || ngx_strncmp(value->data, "unix:", 5) == 0;
}


char *
ngx_http_llm_budget_redis_conf_url(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params, ngx_str_t *value)
{
    ngx_str_t   text;
    ngx_uint_t  tls;

    if (value->data[0] == 'u') {
        text.data = value->data + 5;
        text.len = value->len - 5;

        return ngx_http_llm_budget_redis_conf_unix(cf, params, &text);
    }

    tls = value->data[5] == 's';

    text.data = value->data + 8 + tls;
    text.len = value->len - 8 - tls;

    if (params->conf->urls.nelts && params->tls != tls) {
        return "has addresses with and without TLS: they are all "
               "redis:// or all rediss://";
    }

    params->tls = tls;

    return ngx_http_llm_budget_redis_conf_tcp(cf, params, &text);
}


static char *
ngx_http_llm_budget_redis_conf_unix(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params, ngx_str_t *path)
{
    ngx_http_llm_budget_redis_url_t  *url;

    if (path->len == 0 || path->data[0] != '/') {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: \"unix:%V\" has no absolute path of "
                           "a socket", path);
        return NGX_CONF_ERROR;
    }

    url = ngx_array_push(&params->conf->urls);
    if (url == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(url, sizeof(ngx_http_llm_budget_redis_url_t));

    url->host = *path;

    return NGX_CONF_OK;
}


/* [user[:password]@]host[:port][/db] */

static char *
ngx_http_llm_budget_redis_conf_tcp(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params, ngx_str_t *text)
{
    char                             *rv;
    u_char                           *p, *at, *last, *slash;
    ngx_str_t                         host, db, userinfo;
    ngx_http_llm_budget_redis_url_t  *url;

    last = text->data + text->len;
    at = NULL;

    for (p = text->data; p < last; p++) {

        if (*p == '@') {
            at = p;
        }
    }

    host.data = at ? at + 1 : text->data;

    slash = ngx_strlchr(host.data, last, '/');

    host.len = (size_t) ((slash ? slash : last) - host.data);

    url = ngx_array_push(&params->conf->urls);
    if (url == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(url, sizeof(ngx_http_llm_budget_redis_url_t));

    url->port = params->value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_SENTINEL].len
                ? NGX_HTTP_LLM_BUDGET_SENTINEL_PORT
                : NGX_HTTP_LLM_BUDGET_REDIS_PORT;

    rv = ngx_http_llm_budget_redis_conf_host(cf, url, &host);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (slash != NULL && slash + 1 < last) {
        db.data = slash + 1;
        db.len = (size_t) (last - db.data);

        rv = ngx_http_llm_budget_redis_conf_db(cf, params, &host, &db);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (at == NULL) {
        return NGX_CONF_OK;
    }

    userinfo.data = text->data;
    userinfo.len = (size_t) (at - text->data);

    return ngx_http_llm_budget_redis_conf_userinfo(cf, params, &host,
                                                   &userinfo);
}


/* brackets of an IPv6 address are not kept */

static char *
ngx_http_llm_budget_redis_conf_host(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_url_t *url, ngx_str_t *text)
{
    u_char     *p, *end, *last;
    ngx_int_t   port;

    p = text->data;
    last = p + text->len;

    if (text->len && p[0] == '[') {
        p++;
        end = ngx_strlchr(p, last, ']');

        if (end == NULL || ngx_strlchr(p, end, ':') == NULL) {
            goto invalid;
        }

        url->host.data = p;
        url->host.len = (size_t) (end - p);

        p = end + 1;

    } else {
        url->host.data = p;

        while (p < last && *p != ':') {

            if (*p <= ' ' || ngx_strchr("[]?#%\\", *p) != NULL) {
                goto invalid;
            }

            p++;
        }

        url->host.len = (size_t) (p - url->host.data);
    }

    if (url->host.len == 0 || url->host.len > 253) {
        goto invalid;
    }

    if (p == last) {
        return NGX_CONF_OK;
    }

    if (*p != ':') {
        goto invalid;
    }

    p++;
    port = ngx_atoi(p, (size_t) (last - p));

    if (port < 1 || port > 65535) {
        ngx_http_llm_budget_redis_conf_shown(text);
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: invalid port in the address \"%V\" of "
                           "llm_budget_redis", text);
        return NGX_CONF_ERROR;
    }

    url->port = (in_port_t) port;

    return NGX_CONF_OK;

invalid:

    ngx_http_llm_budget_redis_conf_shown(text);
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "llm_budget: invalid host in the address \"%V\" of "
                       "llm_budget_redis", text);

    return NGX_CONF_ERROR;
}


/* without "@" what stands after a colon may be a password: digits are not */

static void
ngx_http_llm_budget_redis_conf_shown(ngx_str_t *text)
{
    u_char  *p, *last;

    last = text->data + text->len;
    p = ngx_strlchr(text->data, last, ':');

    if (p != NULL && text->data[0] != '['
        && ngx_atoi(p + 1, (size_t) (last - p - 1)) == NGX_ERROR)
    {
        text->len = (size_t) (p - text->data);
    }
}


static char *
ngx_http_llm_budget_redis_conf_db(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params, ngx_str_t *host,
    ngx_str_t *text)
{
    ngx_int_t  n;

    n = ngx_atoi(text->data, text->len);

    if (n < 0 || n > NGX_HTTP_LLM_BUDGET_REDIS_DB_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: invalid database \"%V\" in the address "
                           "\"%V\" of llm_budget_redis: it is a number", text,
                           host);
        return NGX_CONF_ERROR;
    }

    if (params->url_db != NGX_CONF_UNSET && params->url_db != n) {
        return "has addresses with different databases";
    }

    params->url_db = n;

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_budget_redis_conf_userinfo(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params, ngx_str_t *host,
    ngx_str_t *text)
{
    u_char     *colon, *last;
    ngx_str_t   user, password;

    last = text->data + text->len;
    colon = ngx_strlchr(text->data, last, ':');

    if (colon == NULL || colon + 1 == last) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: the address \"%V\" of "
                           "llm_budget_redis has no password before \"@\": "
                           "it is user:password@, or :password@", host);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_llm_budget_redis_conf_decode(cf, &user, text->data, colon)
        != NGX_OK
        || ngx_http_llm_budget_redis_conf_decode(cf, &password, colon + 1,
                                                 last)
           != NGX_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: user or password before \"@%V\" of "
                           "llm_budget_redis is not as in a URL: write \"%%\" "
                           "as %%25, \"@\" as %%40, \"/\" as %%2F", host);
        return NGX_CONF_ERROR;
    }

    if (params->login
        && (user.len != params->url_user.len
            || password.len != params->url_password.len
            || ngx_memcmp(user.data, params->url_user.data, user.len) != 0
            || ngx_memcmp(password.data, params->url_password.data,
                          password.len)
               != 0))
    {
        return "has addresses with different users or passwords";
    }

    params->login = 1;
    params->url_user = user;
    params->url_password = password;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_llm_budget_redis_conf_decode(ngx_conf_t *cf, ngx_str_t *result,
    u_char *p, u_char *last)
{
    u_char     *dst;
    ngx_int_t   n;

    result->data = ngx_pnalloc(cf->pool, (size_t) (last - p) + 1);
    if (result->data == NULL) {
        return NGX_ERROR;
    }

    dst = result->data;

    while (p < last) {

        if (*p == '@' || *p == '/') {
            return NGX_ERROR;
        }

        if (*p != '%') {
            *dst++ = *p++;
            continue;
        }

        if (last - p < 3) {
            return NGX_ERROR;
        }

        n = ngx_hextoi(p + 1, 2);
        if (n == NGX_ERROR) {
            return NGX_ERROR;
        }

        *dst++ = (u_char) n;
        p += 3;
    }

    result->len = (size_t) (dst - result->data);

    return NGX_OK;
}


/* the text itself, or what is in file:PATH */

char *
ngx_http_llm_budget_redis_conf_secret(ngx_conf_t *cf, ngx_str_t *secret,
    ngx_str_t *value)
{
    ngx_str_t  name;

    if (value->len < 5 || ngx_strncmp(value->data, "file:", 5) != 0) {
        *secret = *value;
        return NGX_CONF_OK;
    }

    name.data = value->data + 5;
    name.len = value->len - 5;

    return (ngx_http_llm_budget_secret(cf, secret, &name, "password")
            == NGX_OK)
           ? NGX_CONF_OK : NGX_CONF_ERROR;
}
