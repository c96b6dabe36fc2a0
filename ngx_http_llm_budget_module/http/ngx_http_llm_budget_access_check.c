
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What is checked before a body is read: the endpoint and the headers.
 */


#include "http/ngx_http_llm_budget_access_check.h"


/* bytes of a path that a refusal repeats */
#define NGX_HTTP_LLM_BUDGET_PATH_SHOWN  256


static ngx_int_t ngx_http_llm_budget_deny_endpoint(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_check_type(ngx_str_t *type);


ngx_int_t
ngx_http_llm_budget_find_endpoint(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    unsigned                n;
    const llmb_endpoint_t  *own;

    ctx->uri = r->uri;
    ctx->dialect = llmb_dialect_guess(ngx_http_llm_budget_view(&r->uri));

    if (llmb_endpoint_check_path(ngx_http_llm_budget_view(&r->uri))
        != LLMB_OK)
    {
        return ngx_http_llm_budget_deny_endpoint(r, ctx);
    }

    if (r->headers_in.upgrade
        && ngx_strcasecmp(r->headers_in.upgrade->value.data, (u_char *) "h2c")
           != 0)
    {
        /*
         * The answer of an upgrade passes no filter (T49).  "h2c" is what
         * some clients offer with every call; nginx does not forward it.
         */

        return ngx_http_llm_budget_deny(r, ctx, NGX_HTTP_BAD_REQUEST,
                                        "upgrade_not_allowed",
                                        "Protocol upgrades are not served "
                                        "here.");
    }

#if (NGX_HTTP_SSL && defined SSL_READ_EARLY_DATA_SUCCESS)
    if (r->connection->ssl && r->connection->ssl->in_early) {
        return ngx_http_llm_budget_deny(r, ctx, 425, "early_data_refused",
                                        "Early data can be replayed; send the "
                                        "request again.");
    }
#endif

    own = NULL;
    n = 0;

    if (ctx->llcf->endpoints) {
        own = ctx->llcf->endpoints->elts;
        n = (unsigned) ctx->llcf->endpoints->nelts;
    }

    ctx->endpoint = llmb_endpoint_find(own, n,
                                  ngx_http_llm_budget_view(&r->method_name),
                                  ngx_http_llm_budget_view(&r->uri),
                                  &ctx->tail);

    if (ctx->endpoint == NULL
        || ctx->endpoint->kind == LLMB_ENDPOINT_REFUSED)
    {
        return ngx_http_llm_budget_deny_endpoint(r, ctx);
    }

    ctx->dialect = ctx->endpoint->dialect;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_deny_endpoint(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    u_char     *p;
    size_t      len;
    ngx_str_t   path;

    path.data = r->uri.data;
    path.len = ngx_min(r->uri.len, NGX_HTTP_LLM_BUDGET_PATH_SHOWN);

    len = r->method_name.len + path.len + sizeof("  is not served here.");

    p = ngx_pnalloc(r->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_http_llm_budget_deny(r, ctx, NGX_HTTP_NOT_FOUND,
                                    "endpoint_not_allowed", "");

    ctx->refusal.message.data = p;
    ctx->refusal.message.len = (size_t)
                               (ngx_snprintf(p, len, "%V %V is not served "
                                             "here.", &r->method_name, &path)
                                - p);

    return NGX_ABORT;
}


/* the endpoint decides that a body is JSON; the header must agree (T33) */

ngx_int_t
ngx_http_llm_budget_check_headers(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_uint_t        i, types;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *type;

    types = 0;
    type = NULL;

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].key.len == 12
            && ngx_strncasecmp(h[i].key.data, (u_char *) "content-type", 12)
               == 0)
        {
            types++;
            type = &h[i];
        }

        if (h[i].key.len == 16
            && ngx_strncasecmp(h[i].key.data, (u_char *) "content-encoding",
                               16)
               == 0
            && ngx_strcasecmp(h[i].value.data, (u_char *) "identity") != 0)
        {
            return ngx_http_llm_budget_deny(r, ctx,
                                            NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                                            "content_encoding_not_allowed",
                                            "Encoded request bodies are not "
                                            "accepted.");
        }
    }

    if (types > 1) {
        return ngx_http_llm_budget_deny(r, ctx, NGX_HTTP_BAD_REQUEST,
                                        "content_type_invalid",
                                        "The request has several Content-Type "
                                        "headers.");
    }

    if (type == NULL
        || ngx_http_llm_budget_check_type(&type->value) != NGX_OK)
    {
        return ngx_http_llm_budget_deny(r, ctx,
                                        NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                                        "content_type_invalid",
                                        "Content-Type must be "
                                        "application/json in UTF-8.");
    }

    if (r->headers_in.content_length_n > (off_t) ctx->llcf->max_body) {
        return ngx_http_llm_budget_deny(r, ctx,
                                        NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                        "request_too_large",
                                        "The request body is too large.");
    }

    return NGX_OK;
}


/* "application/json", with parameters; a charset must be UTF-8 */

static ngx_int_t
ngx_http_llm_budget_check_type(ngx_str_t *type)
{
    size_t   n;
    u_char  *p, *last, *end;

    n = sizeof("application/json") - 1;
    p = type->data;
    last = p + type->len;

    if (type->len < n
        || ngx_strncasecmp(p, (u_char *) "application/json", n) != 0)
    {
        return NGX_ERROR;
    }

    p += n;

    for ( ;; ) {

        while (p < last && (*p == ' ' || *p == '\t')) {
            p++;
        }

        if (p == last) {
            return NGX_OK;
        }

        if (*p++ != ';') {
            return NGX_ERROR;
        }

        while (p < last && (*p == ' ' || *p == '\t')) {
            p++;
        }

        end = ngx_strlchr(p, last, ';');

        if (end == NULL) {
            end = last;
        }

        if (end - p > 8
            && ngx_strncasecmp(p, (u_char *) "charset=", 8) == 0)
        {
            p += 8;

            if (*p == '"') {
                p++;
            }

            if (end - p < 5
                || ngx_strncasecmp(p, (u_char *) "utf-8", 5) != 0
                || (end - p > 5 && p[5] != '"' && p[5] != ' '))
            {
                return NGX_ERROR;
            }
        }

        p = end;
    }
}


ngx_int_t
ngx_http_llm_budget_deny(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_uint_t status, const char *code,
    const char *message)
{
    ngx_http_llm_budget_refusal_t  *refusal;

    refusal = &ctx->refusal;

    refusal->status = status;
    refusal->code.data = (u_char *) (uintptr_t) code;
    refusal->code.len = ngx_strlen(code);
    refusal->message.data = (u_char *) (uintptr_t) message;
    refusal->message.len = ngx_strlen(message);

    return NGX_ABORT;
}
