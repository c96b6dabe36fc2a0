
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * llm_budget_provider blocks and llm_budget_pass.
 */


#include "http/ngx_http_llm_budget_conf.h"
#include "http/ngx_http_llm_budget_secret.h"


static char *ngx_http_llm_budget_provider_line(ngx_conf_t *cf,
    ngx_command_t *dummy, void *conf);
static char *ngx_http_llm_budget_provider_url(ngx_conf_t *cf,
    ngx_http_llm_budget_provider_t *provider, ngx_str_t *url);
static char *ngx_http_llm_budget_provider_secret(ngx_conf_t *cf,
    ngx_str_t *secret, ngx_str_t *value);
static char *ngx_http_llm_budget_provider_carrier(ngx_conf_t *cf,
    ngx_http_llm_budget_provider_t *provider, ngx_str_t *value);
static ngx_uint_t ngx_http_llm_budget_provider_sendable(ngx_str_t *secret);


char *
ngx_http_llm_budget_provider(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_budget_main_conf_t  *lmcf = conf;

    char                             *rv;
    ngx_str_t                        *value;
    ngx_uint_t                        i;
    ngx_conf_t                        save;
    ngx_http_llm_budget_provider_t   *provider, **providers;

    value = cf->args->elts;
    providers = lmcf->providers.elts;

    for (i = 0; i < lmcf->providers.nelts; i++) {
        if (providers[i]->name.len == value[1].len
            && ngx_strcmp(providers[i]->name.data, value[1].data) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "llm_budget: duplicate provider \"%V\"",
                               &value[1]);
            return NGX_CONF_ERROR;
        }
    }

    provider = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_budget_provider_t));
    if (provider == NULL) {
        return NGX_CONF_ERROR;
    }

    provider->name = value[1];

    save = *cf;
    cf->handler = ngx_http_llm_budget_provider_line;
    cf->handler_conf = (void *) provider;

    rv = ngx_conf_parse(cf, NULL);

    *cf = save;

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (provider->upstream.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: provider \"%V\" has no \"pass\": add "
                           "\"pass URL;\" to it", &provider->name);
        return NGX_CONF_ERROR;
    }

    if (!ngx_http_llm_budget_provider_sendable(&provider->api_key)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: the api_key of provider \"%V\" has a "
                           "line break or a control character in it",
                           &provider->name);
        return NGX_CONF_ERROR;
    }

    if (provider->host.len == 0) {
        provider->host = provider->upstream;
    }

    providers = ngx_array_push(&lmcf->providers);
    if (providers == NULL) {
        return NGX_CONF_ERROR;
    }

    *providers = provider;

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_budget_provider_line(ngx_conf_t *cf, ngx_command_t *dummy,
    void *conf)
{
    ngx_str_t                       *value;
    ngx_http_llm_budget_provider_t  *provider;

    value = cf->args->elts;
    provider = cf->handler_conf;

    if (cf->args->nelts != 2) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: \"%V\" in a provider takes one value",
                           &value[0]);
        return NGX_CONF_ERROR;
    }

    if (ngx_strcmp(value[0].data, "pass") == 0) {

        if (provider->upstream.len) {
            return "llm_budget: duplicate \"pass\" in a provider";
        }

        return ngx_http_llm_budget_provider_url(cf, provider, &value[1]);
    }

    if (ngx_strcmp(value[0].data, "host") == 0) {

        if (provider->host.len) {
            return "llm_budget: duplicate \"host\" in a provider";
        }

        provider->host = value[1];
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(value[0].data, "api_key") == 0) {

        if (provider->api_key.len) {
            return "llm_budget: duplicate \"api_key\" in a provider";
        }

        return ngx_http_llm_budget_provider_secret(cf, &provider->api_key,
                                                   &value[1]);
    }

    if (ngx_strcmp(value[0].data, "api_key_header") == 0) {
        return ngx_http_llm_budget_provider_carrier(cf, provider, &value[1]);
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "llm_budget: unknown parameter \"%V\" in a provider: "
                       "it is pass, host, api_key or api_key_header",
                       &value[0]);
    return NGX_CONF_ERROR;
}


static char *
ngx_http_llm_budget_provider_url(ngx_conf_t *cf,
    ngx_http_llm_budget_provider_t *provider, ngx_str_t *url)
{
    size_t   len;
    u_char  *p, *last, *slash;

    p = url->data;
    last = p + url->len;

    if (ngx_strncasecmp(p, (u_char *) "http://", 7) == 0) {
        len = 7;

    } else if (ngx_strncasecmp(p, (u_char *) "https://", 8) == 0) {
        len = 8;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: provider URL \"%V\" must begin with "
                           "http:// or https://", url);
        return NGX_CONF_ERROR;
    }

    provider->scheme.data = p;
    provider->scheme.len = len;

    p += len;
    slash = ngx_strlchr(p, last, '/');

    if (slash == NULL) {
        slash = last;
    }

    provider->upstream.data = p;
    provider->upstream.len = (size_t) (slash - p);

    provider->base.data = slash;
    provider->base.len = (size_t) (last - slash);

    /* "/v1/" and "/v1" are the same base, "/" is none */

    while (provider->base.len
           && provider->base.data[provider->base.len - 1] == '/')
    {
        provider->base.len--;
    }

    if (provider->upstream.len == 0
        || ngx_strlchr(p, last, '?') != NULL
        || ngx_strlchr(p, last, '#') != NULL)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: provider URL \"%V\" must be a scheme, "
                           "a host or upstream block, and a base path", url);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_budget_provider_secret(ngx_conf_t *cf, ngx_str_t *secret,
    ngx_str_t *value)
{
    char       *env;
    ngx_str_t   name;

    if (ngx_strncmp(value->data, "file:", 5) == 0) {
        name.data = value->data + 5;
        name.len = value->len - 5;

        if (ngx_http_llm_budget_secret(cf, secret, &name, "credential")
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }

        while (secret->len && secret->data[secret->len - 1] <= ' ') {
            secret->len--;
        }

        if (secret->len == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "llm_budget: there is no credential in \"%V\"",
                               &name);
            return NGX_CONF_ERROR;
        }

        return NGX_CONF_OK;
    }

    if (ngx_strncmp(value->data, "env:", 4) == 0) {
        env = getenv((char *) value->data + 4);

        if (env == NULL || env[0] == '\0') {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "llm_budget: the environment has no \"%s\" for "
                               "api_key: set it for nginx, or use file:PATH",
                               value->data + 4);
            return NGX_CONF_ERROR;
        }

        secret->len = ngx_strlen(env);
        secret->data = ngx_pnalloc(cf->pool, secret->len);
        if (secret->data == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_memcpy(secret->data, env, secret->len);

        return NGX_CONF_OK;
    }

    if (value->len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: api_key is empty: give file:PATH, "
                           "env:NAME or the credential, or leave api_key out "
                           "if clients send their own");
        return NGX_CONF_ERROR;
    }

    *secret = *value;

    return NGX_CONF_OK;
}


/* the name of a header; kept in lower case */

static char *
ngx_http_llm_budget_provider_carrier(ngx_conf_t *cf,
    ngx_http_llm_budget_provider_t *provider, ngx_str_t *value)
{
    u_char      ch;
    ngx_uint_t  i;

    if (provider->carrier.len) {
        return "llm_budget: duplicate \"api_key_header\" in a provider";
    }

    for (i = 0; i < value->len; i++) {
        ch = ngx_tolower(value->data[i]);

        if ((ch < 'a' || ch > 'z') && (ch < '0' || ch > '9') && ch != '-') {
            break;
        }
    }

    if (value->len == 0 || i < value->len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: invalid header name \"%V\" in "
                           "api_key_header: it has letters, digits and \"-\"",
                           value);
        return NGX_CONF_ERROR;
    }

    ngx_strlow(value->data, value->data, value->len);
    provider->carrier = *value;

    return NGX_CONF_OK;
}


/* it becomes a header as it is, and must not become two */

static ngx_uint_t
ngx_http_llm_budget_provider_sendable(ngx_str_t *secret)
{
    size_t  i;

    for (i = 0; i < secret->len; i++) {
        if (secret->data[i] < 0x20 || secret->data[i] == 0x7f) {
            return 0;
        }
    }

    return 1;
}


char *
ngx_http_llm_budget_pass(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_budget_loc_conf_t  *llcf = conf;

    ngx_str_t  *value;

    if (llcf->provider != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    llcf->provider_place = ngx_http_llm_budget_place(cf);
    if (llcf->provider_place == NULL) {
        return NGX_CONF_ERROR;
    }

    llcf->provider = ngx_http_llm_budget_provider_find(cf, &value[1]);

    return llcf->provider ? NGX_CONF_OK : NGX_CONF_ERROR;
}


ngx_http_llm_budget_provider_t *
ngx_http_llm_budget_provider_find(ngx_conf_t *cf, ngx_str_t *text)
{
    ngx_uint_t                        i;
    ngx_http_llm_budget_provider_t   *provider, **providers;
    ngx_http_llm_budget_main_conf_t  *lmcf;

    lmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_llm_budget_module);

    providers = lmcf->providers.elts;

    for (i = 0; i < lmcf->providers.nelts; i++) {
        if (providers[i]->name.len == text->len
            && ngx_memcmp(providers[i]->name.data, text->data, text->len) == 0)
        {
            return providers[i];
        }
    }

    if (ngx_strstr(text->data, "://") == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: unknown provider \"%V\": define it "
                           "above with \"llm_budget_provider %V { ... }\", or "
                           "give a URL", text, text);
        return NULL;
    }

    provider = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_budget_provider_t));
    if (provider == NULL) {
        return NULL;
    }

    if (ngx_http_llm_budget_provider_url(cf, provider, text) != NGX_CONF_OK) {
        return NULL;
    }

    provider->name = provider->upstream;
    provider->host = provider->upstream;

    return provider;
}
