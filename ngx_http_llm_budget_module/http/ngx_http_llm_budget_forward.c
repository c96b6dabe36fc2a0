
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What the provider gets to see: headers, query and URL.
 */


#include "http/ngx_http_llm_budget_forward.h"
#include "http/ngx_http_llm_budget_identity.h"


static ngx_int_t ngx_http_llm_budget_copy_headers(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static ngx_uint_t ngx_http_llm_budget_withheld(ngx_http_llm_budget_ctx_t *ctx,
    ngx_table_elt_t *h);
static ngx_int_t ngx_http_llm_budget_add_header(ngx_http_request_t *r,
    ngx_str_t *key, ngx_str_t *value);
static ngx_int_t ngx_http_llm_budget_add_credential(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_cut_query_key(ngx_http_request_t *r);
static void ngx_http_llm_budget_remember(ngx_http_request_t *r);
static void ngx_http_llm_budget_mask_key(ngx_str_t *line);


/* never forwarded for a metered call: the module sets or forbids them */

static ngx_str_t  ngx_http_llm_budget_always[] = {
    ngx_string("accept-encoding"),      /* identity is asked for (T07) */
    ngx_string("content-type"),         /* the one that was judged */
    ngx_string("content-length"),
    ngx_string("range"),
    ngx_string("if-range"),
    ngx_null_string
};


/* with a credential of ours: whatever names another payer (T50) */

static ngx_str_t  ngx_http_llm_budget_payers[] = {
    ngx_string("cookie"),
    ngx_string("proxy-authorization"),
    ngx_string("openai-organization"),
    ngx_string("openai-project"),
    ngx_null_string
};


ngx_int_t
ngx_http_llm_budget_forward(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_str_t  name, key;

    /* what was judged is what is sent: the normalized URI (T05) */

    r->valid_unparsed_uri = 0;

    if (!ctx->headers_saved) {
        ngx_http_llm_budget_remember(r);

        ctx->headers = r->headers_in.headers;
        ctx->args = r->args;
        ctx->headers_saved = 1;
    }

    r->args = ctx->args;

    if (ctx->provider && ctx->provider->api_key.len) {
        ctx->credential = 1;
    }

    if (ngx_http_llm_budget_copy_headers(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_llm_budget_query_key(&r->args, &key) == NGX_OK) {

        /* URLs are logged: a key does not travel in one */

        if (ngx_http_llm_budget_cut_query_key(r) != NGX_OK) {
            return NGX_ERROR;
        }

        ngx_str_set(&name, "x-goog-api-key");

        if (!ctx->credential && key.len
            && ngx_http_llm_budget_add_header(r, &name, &key) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (ctx->provider && ctx->provider->api_key.len) {
        return ngx_http_llm_budget_add_credential(r, ctx);
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_budget_forward_bare(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    if (!ctx->headers_saved || !ctx->credential) {
        return NGX_OK;
    }

    return ngx_http_llm_budget_copy_headers(r, ctx);
}


/*
 * A new list: elements of the old one stay where they are, so that pointers
 * of headers_in and the log still read what the client sent.
 */

static ngx_int_t
ngx_http_llm_budget_copy_headers(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_str_t         value;
    ngx_uint_t        i;
    ngx_list_part_t   part;
    ngx_table_elt_t  *h, *copy;

    static ngx_str_t  encoding = ngx_string("Accept-Encoding");
    static ngx_str_t  type = ngx_string("Content-Type");

    /* the first part lies in the list itself, which is made anew */

    part = ctx->headers.part;

    if (ngx_list_init(&r->headers_in.headers, r->pool, 20,
                      sizeof(ngx_table_elt_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    h = part.elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part.nelts) {
            if (part.next == NULL) {
                break;
            }

            part = *part.next;
            h = part.elts;
            i = 0;

            if (part.nelts == 0) {
                break;
            }
        }

        if (ngx_http_llm_budget_withheld(ctx, &h[i])) {
            continue;
        }

        copy = ngx_list_push(&r->headers_in.headers);
        if (copy == NULL) {
            return NGX_ERROR;
        }

        *copy = h[i];
    }

    if (ctx->endpoint->kind == LLMB_ENDPOINT_METERED) {

        ngx_str_set(&value, "identity");

        if (ngx_http_llm_budget_add_header(r, &encoding, &value) != NGX_OK) {
            return NGX_ERROR;
        }

        ngx_str_set(&value, "application/json");

        return ngx_http_llm_budget_add_header(r, &type, &value);
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_llm_budget_withheld(ngx_http_llm_budget_ctx_t *ctx,
    ngx_table_elt_t *h)
{
    ngx_str_t  name, *list;

    name.len = h->key.len;
    name.data = h->lowcase_key;

    if (name.data == NULL) {
        return 0;
    }

    if (ctx->endpoint->kind == LLMB_ENDPOINT_METERED) {
        for (list = ngx_http_llm_budget_always; list->len; list++) {
            if (list->len == name.len
                && ngx_memcmp(list->data, name.data, name.len) == 0)
            {
                return 1;
            }
        }
    }

    if (!ctx->credential) {

        /* bring your own key: the client's travels */

        return 0;
    }

    if (ngx_http_llm_budget_is_carrier(&name)
        || (ctx->provider && ctx->provider->carrier.len == name.len
            && ngx_memcmp(ctx->provider->carrier.data, name.data, name.len)
               == 0))
    {
        return 1;
    }

    for (list = ngx_http_llm_budget_payers; list->len; list++) {
        if (list->len == name.len
            && ngx_memcmp(list->data, name.data, name.len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


static ngx_int_t
ngx_http_llm_budget_add_header(ngx_http_request_t *r, ngx_str_t *key,
    ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_in.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_http_llm_budget_header_init(h);
    h->key = *key;
    h->value = *value;

    h->lowcase_key = ngx_pnalloc(r->pool, key->len);
    if (h->lowcase_key == NULL) {
        return NGX_ERROR;
    }

    h->hash = ngx_hash_strlow(h->lowcase_key, key->data, key->len);

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_add_credential(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    u_char                          *p;
    ngx_str_t                        name, value;
    ngx_http_llm_budget_provider_t  *provider;

    provider = ctx->provider;
    name = provider->carrier;
    value = provider->api_key;

    if (name.len == 0) {

        /* the header of the dialect (wire-formats.md 3.3) */

        if (ctx->dialect == LLMB_DIALECT_MESSAGES) {
            ngx_str_set(&name, "x-api-key");

        } else {
            ngx_str_set(&name, "Authorization");
        }
    }

    if (name.len == sizeof("authorization") - 1
        && ngx_strncasecmp(name.data, (u_char *) "authorization", name.len)
           == 0)
    {
        p = ngx_pnalloc(r->pool, sizeof("Bearer ") - 1 + value.len);
        if (p == NULL) {
            return NGX_ERROR;
        }

        value.data = p;
        p = ngx_cpymem(p, "Bearer ", sizeof("Bearer ") - 1);
        p = ngx_cpymem(p, provider->api_key.data, provider->api_key.len);
        value.len = (size_t) (p - value.data);
    }

    return ngx_http_llm_budget_add_header(r, &name, &value);
}


/* the query without any "key=" */

static ngx_int_t
ngx_http_llm_budget_cut_query_key(ngx_http_request_t *r)
{
    u_char     *p, *q, *last, *end;
    ngx_str_t   value, args;

    if (ngx_http_llm_budget_query_key(&r->args, &value) != NGX_OK) {
        return NGX_OK;
    }

    args.data = ngx_pnalloc(r->pool, r->args.len);
    if (args.data == NULL) {
        return NGX_ERROR;
    }

    q = args.data;
    p = r->args.data;
    last = p + r->args.len;

    while (p < last) {
        end = ngx_strlchr(p, last, '&');

        if (end == NULL) {
            end = last;
        }

        if (end - p < 4 || ngx_memcmp(p, "key=", 4) != 0) {

            if (q != args.data) {
                *q++ = '&';
            }

            q = ngx_cpymem(q, p, end - p);
        }

        p = end + 1;
    }

    args.len = (size_t) (q - args.data);
    r->args = args;

    return NGX_OK;
}


void
ngx_http_llm_budget_restore(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    if (ctx->headers_saved) {
        r->headers_in.headers = ctx->headers;
        ctx->headers_saved = 0;
    }

    ngx_http_llm_budget_mask_key(&r->args);
    ngx_http_llm_budget_mask_key(&ctx->args);
}


/*
 * Variables of the client's headers are read before the headers change: nginx
 * keeps their values, so that no map, header or log ever sees our credential
 * in "$http_authorization".
 */

static void
ngx_http_llm_budget_remember(ngx_http_request_t *r)
{
    ngx_uint_t                  i;
    ngx_http_variable_t        *v;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);
    v = cmcf->variables.elts;

    for (i = 0; i < cmcf->variables.nelts; i++) {

        if (v[i].name.len > 5
            && ngx_strncmp(v[i].name.data, "http_", 5) == 0)
        {
            (void) ngx_http_get_indexed_variable(r, i);
        }
    }
}


ngx_int_t
ngx_http_llm_budget_hide_key(ngx_http_request_t *r)
{
    u_char     *p;
    ngx_str_t   value;

    if (ngx_http_llm_budget_query_key(&r->args, &value) != NGX_OK) {
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, r->args.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(p, r->args.data, r->args.len);
    r->args.data = p;

    ngx_http_llm_budget_mask_key(&r->request_line);
    ngx_http_llm_budget_mask_key(&r->unparsed_uri);

    return NGX_OK;
}


/* keys are never logged: "key=sk-1" becomes "key=****" in place (T50) */

static void
ngx_http_llm_budget_mask_key(ngx_str_t *line)
{
    u_char  *p, *last;

    p = line->data;
    last = p + line->len;

    while (p && last - p > 4) {

        if (ngx_memcmp(p, "key=", 4) == 0
            && (p == line->data || p[-1] == '?' || p[-1] == '&'))
        {
            p += 4;

            while (p < last && *p != '&' && *p != ' ' && *p != '#') {
                *p++ = '*';
            }

            continue;
        }

        p++;
    }
}


ngx_int_t
ngx_http_llm_budget_pass_url(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_str_t *url)
{
    u_char                          *p;
    size_t                           skip;
    uintptr_t                        escape;
    ngx_str_t                        path;
    ngx_http_llm_budget_provider_t  *provider;

    provider = ctx->provider;

    /*
     * A base path stands for what is before the part of the path that the
     * endpoint's dialect knows, and for its "/v1".
     */

    path = ctx->uri;

    if (provider->base.len) {
        skip = ctx->tail;

        if (path.len - skip > 4
            && ngx_memcmp(path.data + skip, "/v1/", 4) == 0)
        {
            skip += 3;
        }

        path.data += skip;
        path.len -= skip;
    }

    escape = 2 * ngx_escape_uri(NULL, path.data, path.len, NGX_ESCAPE_URI);

    url->len = provider->scheme.len + provider->upstream.len
               + provider->base.len + path.len + (size_t) escape
               + (r->args.len ? r->args.len + 1 : 0);

    p = ngx_pnalloc(r->pool, url->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    url->data = p;

    p = ngx_cpymem(p, provider->scheme.data, provider->scheme.len);
    p = ngx_cpymem(p, provider->upstream.data, provider->upstream.len);
    p = ngx_cpymem(p, provider->base.data, provider->base.len);
    p = (u_char *) ngx_escape_uri(p, path.data, path.len, NGX_ESCAPE_URI);

    if (r->args.len) {
        *p++ = '?';
        ngx_memcpy(p, r->args.data, r->args.len);
    }

    return NGX_OK;
}
