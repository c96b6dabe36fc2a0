
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * llm_budget_redis: its parameters, what they mean together, TLS, and the
 * addresses of what it names.
 */


#include "http/ngx_http_llm_budget_redis_conf_int.h"


/* CAs between a server and one that is trusted */
#define NGX_HTTP_LLM_BUDGET_REDIS_DEPTH     9


static char *ngx_http_llm_budget_redis_conf_param(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params, ngx_str_t *value);
static char *ngx_http_llm_budget_redis_conf_topology(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params);
static char *ngx_http_llm_budget_redis_conf_login(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params);
static char *ngx_http_llm_budget_redis_conf_tls(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params);
#if (NGX_SSL)
static char *ngx_http_llm_budget_redis_conf_ssl(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params);
#endif
static ngx_int_t ngx_http_llm_budget_redis_conf_addrs(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_conf_t *conf,
    ngx_http_llm_budget_redis_url_t *url);


static const ngx_str_t  ngx_http_llm_budget_redis_names[] = {
    ngx_string("sentinel="),
    ngx_string("user="),
    ngx_string("password="),
    ngx_string("sentinel_user="),
    ngx_string("sentinel_password="),
    ngx_string("db="),
    ngx_string("timeout="),
    ngx_string("connect_timeout="),
    ngx_string("connections="),
    ngx_string("prefix="),
    ngx_string("keep="),
    ngx_string("ca="),
    ngx_string("verify="),
    ngx_string("name="),
    ngx_string("certificate="),
    ngx_string("certificate_key=")
};


char *
ngx_http_llm_budget_redis_conf(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_conf_t *conf)
{
    char                                *rv;
    ngx_str_t                           *value;
    ngx_uint_t                           i;
    ngx_http_llm_budget_redis_params_t   params;

    if (conf->urls.nelts) {
        return "is duplicate";
    }

    ngx_memzero(&params, sizeof(ngx_http_llm_budget_redis_params_t));

    params.conf = conf;
    params.url_db = NGX_CONF_UNSET;

    if (ngx_array_init(&conf->urls, cf->pool, 4,
                       sizeof(ngx_http_llm_budget_redis_url_t))
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    /* what an address means depends on the other parameters: they go first */

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        if (!ngx_http_llm_budget_redis_conf_is_url(&value[i])) {
            rv = ngx_http_llm_budget_redis_conf_param(cf, &params, &value[i]);

            if (rv != NGX_CONF_OK) {
                return rv;
            }
        }
    }

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_http_llm_budget_redis_conf_is_url(&value[i])) {
            rv = ngx_http_llm_budget_redis_conf_url(cf, &params, &value[i]);

            if (rv != NGX_CONF_OK) {
                return rv;
            }
        }
    }

    rv = ngx_http_llm_budget_redis_conf_topology(cf, &params);

    if (rv == NGX_CONF_OK) {
        rv = ngx_http_llm_budget_redis_conf_login(cf, &params);
    }

    if (rv == NGX_CONF_OK) {
        rv = ngx_http_llm_budget_redis_conf_values(cf, &params);
    }

    if (rv == NGX_CONF_OK) {
        rv = ngx_http_llm_budget_redis_conf_tls(cf, &params);
    }

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    /* Sentinels differ in whom they know, and have no databases */

    conf->sentinel = conf->conn;
    conf->sentinel.user = params.sentinel_user;
    conf->sentinel.password = params.sentinel_password;
    conf->sentinel.db = 0;

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_budget_redis_conf_param(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params, ngx_str_t *value)
{
    size_t            len;
    ngx_str_t        *param;
    ngx_uint_t        i;
    const ngx_str_t  *name;

    if (ngx_strcmp(value->data, "cluster") == 0) {

        if (params->cluster) {
            return "has a duplicate parameter \"cluster\"";
        }

        params->cluster = 1;
        return NGX_CONF_OK;
    }

    for (i = 0; i < NGX_HTTP_LLM_BUDGET_REDIS_PARAMS; i++) {
        name = &ngx_http_llm_budget_redis_names[i];
        len = name->len;

        if (value->len < len
            || ngx_strncmp(value->data, name->data, len) != 0)
        {
            continue;
        }

        param = &params->value[i];

        if (param->data != NULL) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "llm_budget: duplicate parameter \"%V\" of "
                               "llm_budget_redis", name);
            return NGX_CONF_ERROR;
        }

        param->data = value->data + len;
        param->len = value->len - len;

        if (param->len == 0 && i != NGX_HTTP_LLM_BUDGET_REDIS_PARAM_PREFIX) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "llm_budget: parameter \"%V\" of "
                               "llm_budget_redis is empty", name);
            return NGX_CONF_ERROR;
        }

        return NGX_CONF_OK;
    }

    /* it may be a mistyped password: not as a whole */

    for (len = 0; len < value->len; len++) {

        if (ngx_strchr("=:@", value->data[len]) != NULL) {
            break;
        }
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "llm_budget: unknown parameter \"%*s\" of "
                       "llm_budget_redis: addresses begin with redis://, "
                       "rediss:// or unix:", len, value->data);
    return NGX_CONF_ERROR;
}


static char *
ngx_http_llm_budget_redis_conf_topology(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params)
{
    ngx_str_t                         *value;
    ngx_uint_t                         i, sentinel;
    ngx_http_llm_budget_redis_url_t   *url;
    ngx_http_llm_budget_redis_conf_t  *conf;

    conf = params->conf;
    url = conf->urls.elts;
    value = params->value;

    sentinel = value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_SENTINEL].len != 0;

    if (conf->urls.nelts == 0) {
        return "has no address: give redis://HOST, rediss://HOST "
               "or unix:PATH";
    }

    if (params->cluster && sentinel) {
        return "cannot have both \"cluster\" and \"sentinel=\"";
    }

    if (conf->urls.nelts > NGX_HTTP_LLM_BUDGET_REDIS_URLS) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: llm_budget_redis takes %d addresses "
                           "at most", NGX_HTTP_LLM_BUDGET_REDIS_URLS);
        return NGX_CONF_ERROR;
    }

    if (!params->cluster && !sentinel) {

        if (conf->urls.nelts > 1) {
            return "has several addresses: they are of a "
                   "\"cluster\", or of sentinels: \"sentinel=NAME\"";
        }

        if (value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_SENTINEL_USER].len
            || value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_SENTINEL_PASSWORD].len)
        {
            return "has sentinel_user= or sentinel_password= without "
                   "\"sentinel=NAME\"";
        }
    }

    for (i = 0; i < conf->urls.nelts; i++) {

        if (url[i].port == 0 && (params->cluster || sentinel)) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "llm_budget: \"unix:%V\" is for one server, "
                               "not for a cluster or sentinels",
                               &url[i].host);
            return NGX_CONF_ERROR;
        }
    }

    if (sentinel) {
        conf->mode = NGX_HTTP_LLM_BUDGET_REDIS_SENTINEL;
        conf->master = value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_SENTINEL];

    } else if (params->cluster) {
        conf->mode = NGX_HTTP_LLM_BUDGET_REDIS_CLUSTER;

        if (value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_SENTINEL_USER].len
            || value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_SENTINEL_PASSWORD].len)
        {
            return "has sentinel_user= or sentinel_password= for a cluster";
        }
    }

    return NGX_CONF_OK;
}


/* those in addresses are of who is there: the Sentinels, if there are any */

static char *
ngx_http_llm_budget_redis_conf_login(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params)
{
    char                                   *rv;
    ngx_str_t                              *value, *user, *password;
    ngx_http_llm_budget_redis_conn_conf_t  *conn;

    value = params->value;
    conn = &params->conf->conn;

    conn->user = value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_USER];
    params->sentinel_user
        = value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_SENTINEL_USER];

    rv = ngx_http_llm_budget_redis_conf_secret(cf, &conn->password,
                       &value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_PASSWORD]);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    rv = ngx_http_llm_budget_redis_conf_secret(cf, &params->sentinel_password,
                   &value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_SENTINEL_PASSWORD]);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (params->conf->mode == NGX_HTTP_LLM_BUDGET_REDIS_SENTINEL) {
        user = &params->sentinel_user;
        password = &params->sentinel_password;

    } else {
        user = &conn->user;
        password = &conn->password;
    }

    if (params->login) {

        if (user->len || password->len) {
            return "has a user or a password both in an address "
                   "and as a parameter";
        }

        *user = params->url_user;
        *password = params->url_password;
    }

    if ((conn->user.len && conn->password.len == 0)
        || (params->sentinel_user.len && params->sentinel_password.len == 0))
    {
        return "has a user without a password";
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_budget_redis_conf_tls(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params)
{
    ngx_str_t                              *value, *verify;
    ngx_uint_t                              i;
    ngx_http_llm_budget_redis_conn_conf_t  *conn;

    value = params->value;
    conn = &params->conf->conn;

    conn->tls = params->tls;
    conn->verify = 1;

    for (i = NGX_HTTP_LLM_BUDGET_REDIS_PARAM_CA;
         i < NGX_HTTP_LLM_BUDGET_REDIS_PARAMS && !conn->tls;
         i++)
    {
        if (value[i].len) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "llm_budget: \"%V\" of llm_budget_redis is for "
                               "rediss:// only",
                               &ngx_http_llm_budget_redis_names[i]);
            return NGX_CONF_ERROR;
        }
    }

    if (!conn->tls) {
        return NGX_CONF_OK;
    }

    verify = &value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_VERIFY];

    if (verify->len) {

        if (ngx_strcmp(verify->data, "off") == 0) {
            conn->verify = 0;

        } else if (ngx_strcmp(verify->data, "on") != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "llm_budget: invalid verify \"%V\" of "
                               "llm_budget_redis: it is on or off", verify);
            return NGX_CONF_ERROR;
        }
    }

    if (!conn->verify && value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_CA].len) {
        return "has ca= for nothing: verify is off";
    }

    if ((value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_CERTIFICATE].len == 0)
        != (value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_CERTIFICATE_KEY].len == 0))
    {
        return "has one of certificate= and certificate_key= only";
    }

    conn->tls_name = value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_NAME];

#if (NGX_SSL)
    return ngx_http_llm_budget_redis_conf_ssl(cf, params);
#else
    return "cannot have rediss://: nginx was built without "
           "OpenSSL";
#endif
}


#if (NGX_SSL)

static char *
ngx_http_llm_budget_redis_conf_ssl(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_params_t *params)
{
    ngx_ssl_t           *ssl;
    ngx_str_t           *value;
    ngx_pool_cleanup_t  *cln;

    value = params->value;

    ssl = ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t));
    if (ssl == NULL) {
        return NGX_CONF_ERROR;
    }

    ssl->log = cf->log;

    if (ngx_ssl_create(ssl, NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3, NULL) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        ngx_ssl_cleanup_ctx(ssl);
        return NGX_CONF_ERROR;
    }

    cln->handler = ngx_ssl_cleanup_ctx;
    cln->data = ssl;

    if (value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_CERTIFICATE].len
        && ngx_ssl_certificate(cf, ssl,
                      &value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_CERTIFICATE],
                      &value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_CERTIFICATE_KEY],
                      NULL)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    params->conf->conn.ssl = ssl;

    if (!params->conf->conn.verify) {
        return NGX_CONF_OK;
    }

    if (value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_CA].len) {

        if (ngx_ssl_trusted_certificate(cf, ssl,
                                   &value[NGX_HTTP_LLM_BUDGET_REDIS_PARAM_CA],
                                   NGX_HTTP_LLM_BUDGET_REDIS_DEPTH)
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }

        return NGX_CONF_OK;
    }

    /* those that the system trusts */

    if (SSL_CTX_set_default_verify_paths(ssl->ctx) != 1) {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
                      "llm_budget: the CAs of the system cannot be used: give "
                      "ca= to llm_budget_redis");
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}

#endif


ngx_int_t
ngx_http_llm_budget_redis_conf_init(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_conf_t *conf)
{
    ngx_uint_t                        i;
    ngx_http_core_loc_conf_t         *clcf;
    ngx_http_llm_budget_redis_url_t  *url;

    if (conf->urls.nelts == 0) {
        return NGX_OK;
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    /* http without a resolver may have got one without name servers */

    if (clcf->resolver != NULL && clcf->resolver->connections.nelts) {
        conf->resolver = clcf->resolver;
        conf->resolver_timeout = clcf->resolver_timeout;

        if (conf->resolver_timeout == NGX_CONF_UNSET_MSEC) {
            conf->resolver_timeout = 30000;
        }
    }

    url = conf->urls.elts;

    for (i = 0; i < conf->urls.nelts; i++) {

        if (ngx_http_llm_budget_redis_conf_addrs(cf, conf, &url[i])
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    ngx_http_llm_budget_redis_conf_id(conf);

    return NGX_OK;
}


/* asks the system once: what nginx can find later it finds anew */

static ngx_int_t
ngx_http_llm_budget_redis_conf_addrs(ngx_conf_t *cf,
    ngx_http_llm_budget_redis_conf_t *conf,
    ngx_http_llm_budget_redis_url_t *url)
{
    ngx_url_t  u;

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url.data = ngx_pnalloc(cf->pool, url->host.len + sizeof("unix:[]"));
    if (u.url.data == NULL) {
        return NGX_ERROR;
    }

    if (url->port == 0) {
        u.url.len = (size_t) (ngx_sprintf(u.url.data, "unix:%V", &url->host)
                              - u.url.data);

    } else if (ngx_strlchr(url->host.data, url->host.data + url->host.len, ':')
               != NULL)
    {
        u.url.len = (size_t) (ngx_sprintf(u.url.data, "[%V]", &url->host)
                              - u.url.data);

    } else {
        u.url = url->host;
    }

    u.default_port = url->port;

    if (ngx_parse_url(cf->pool, &u) == NGX_OK) {
        url->addrs = u.addrs;
        url->naddrs = u.naddrs;

        return NGX_OK;
    }

    if (conf->resolver != NULL && u.err != NULL
        && ngx_strcmp(u.err, "host not found") == 0)
    {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "llm_budget: %s in the address \"%V\" of llm_budget_redis",
                  u.err ? u.err : "no memory", &url->host);

    return NGX_ERROR;
}
