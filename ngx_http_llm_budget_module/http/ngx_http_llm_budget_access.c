
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Admission: where a request is judged, by a state machine keyed on its
 * context, since nginx runs phases again after a body and after redirects.
 */


#include "http/ngx_http_llm_budget_access.h"
#include "http/ngx_http_llm_budget_body.h"
#include "http/ngx_http_llm_budget_forward.h"
#include "http/ngx_http_llm_budget_hold.h"
#include "http/ngx_http_llm_budget_identity.h"
#include "http/ngx_http_llm_budget_reply.h"
#include "http/ngx_http_llm_budget_settle.h"


/* bytes of a path that a refusal repeats */
#define NGX_HTTP_LLM_BUDGET_PATH_SHOWN  256


static ngx_int_t ngx_http_llm_budget_admit(ngx_http_request_t *r,
    ngx_http_llm_budget_loc_conf_t *llcf);
static ngx_int_t ngx_http_llm_budget_start(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_read(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static void ngx_http_llm_budget_body_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_llm_budget_judge(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_again(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_http_llm_budget_loc_conf_t *llcf);
static ngx_int_t ngx_http_llm_budget_find_endpoint(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_deny_endpoint(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_check_headers(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_check_type(ngx_str_t *type);
static ngx_int_t ngx_http_llm_budget_deny(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_uint_t status, const char *code,
    const char *message);


ngx_int_t
ngx_http_llm_budget_access_handler(ngx_http_request_t *r)
{
    ngx_http_core_loc_conf_t        *clcf;
    ngx_http_llm_budget_loc_conf_t  *llcf;

    llcf = ngx_http_get_module_loc_conf(r, ngx_http_llm_budget_module);

    if (!llcf->enable || r != r->main || r->post_action) {
        return NGX_DECLINED;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (clcf->satisfy == NGX_HTTP_SATISFY_ANY) {

        /* whether access is granted is known only after this phase */

        return NGX_DECLINED;
    }

    return ngx_http_llm_budget_admit(r, llcf);
}


ngx_int_t
ngx_http_llm_budget_guard_handler(ngx_http_request_t *r)
{
    ngx_http_llm_budget_ctx_t       *ctx;
    ngx_http_llm_budget_loc_conf_t  *llcf;

    llcf = ngx_http_get_module_loc_conf(r, ngx_http_llm_budget_module);

    if (!llcf->enable) {
        ctx = ngx_http_llm_budget_get_ctx(r);

        if (ctx && ngx_http_llm_budget_forward_bare(r, ctx) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        return NGX_DECLINED;
    }

    if (r != r->main) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "llm_budget: subrequest \"%V\" of \"%V\" into a metered "
                      "location is refused", &r->uri, &r->main->uri);
        return NGX_HTTP_FORBIDDEN;
    }

    if (r->post_action) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "llm_budget: post_action into a metered location is "
                      "refused");
        return NGX_HTTP_FORBIDDEN;
    }

    return ngx_http_llm_budget_admit(r, llcf);
}


/* never NGX_OK: under "satisfy any" that would grant access */

static ngx_int_t
ngx_http_llm_budget_admit(ngx_http_request_t *r,
    ngx_http_llm_budget_loc_conf_t *llcf)
{
    ngx_int_t                   rc;
    ngx_http_core_loc_conf_t   *clcf;
    ngx_http_llm_budget_ctx_t  *ctx;

    ctx = ngx_http_llm_budget_get_ctx(r);

    if (ctx == NULL) {
        ctx = ngx_http_llm_budget_create_ctx(r);
        if (ctx == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ctx->llcf = llcf;
        ctx->where = llcf;
    }

    rc = NGX_DECLINED;

    switch (ctx->state) {

    case NGX_HTTP_LLM_BUDGET_START:
        rc = ngx_http_llm_budget_start(r, ctx);
        break;

    case NGX_HTTP_LLM_BUDGET_JUDGE:
        rc = ngx_http_llm_budget_judge(r, ctx);
        break;

    case NGX_HTTP_LLM_BUDGET_ADMITTED:
    case NGX_HTTP_LLM_BUDGET_FREE:
    case NGX_HTTP_LLM_BUDGET_BODY:
        rc = ngx_http_llm_budget_again(r, ctx, llcf);
        break;

    case NGX_HTTP_LLM_BUDGET_DENIED:

        /* an error_page may render the refusal, and nothing else */

        clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

        if (clcf->handler) {
            return NGX_HTTP_FORBIDDEN;
        }

        break;
    }

    if (rc == NGX_ABORT) {
        return ngx_http_llm_budget_refuse(r, ctx);
    }

    return (rc == NGX_ERROR) ? NGX_HTTP_INTERNAL_SERVER_ERROR : rc;
}


/*
 * Before the body: endpoint and identity.  A bad key never gets a 100
 * Continue and never fills a file (T63).
 */

static ngx_int_t
ngx_http_llm_budget_start(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_int_t  rc;

    if (ngx_http_llm_budget_hide_key(r) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_http_llm_budget_find_endpoint(r, ctx);

    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_llm_budget_identify(r, ctx);

    if (rc != NGX_OK) {
        return (rc == NGX_DECLINED) ? NGX_ABORT : NGX_ERROR;
    }

    ctx->provider = ctx->llcf->provider;

    if (ctx->endpoint->kind == LLMB_ENDPOINT_FREE) {
        ctx->state = NGX_HTTP_LLM_BUDGET_FREE;

        rc = ngx_http_llm_budget_forward(r, ctx);
        return (rc == NGX_OK) ? NGX_DECLINED : rc;
    }

    rc = ngx_http_llm_budget_check_headers(r, ctx);

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_llm_budget_read(r, ctx);
}


/* the recipe of the core mirror module (NGINX.md 1.1) */

static ngx_int_t
ngx_http_llm_budget_read(ngx_http_request_t *r, ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_int_t  rc;

    ctx->req = ngx_palloc(r->pool, sizeof(llmb_request_t));
    if (ctx->req == NULL) {
        return NGX_ERROR;
    }

    llmb_request_init(ctx->req, ctx->dialect);

    ctx->state = NGX_HTTP_LLM_BUDGET_BODY;

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_llm_budget_body_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    ngx_http_finalize_request(r, NGX_DONE);

    return NGX_DONE;
}


static void
ngx_http_llm_budget_body_handler(ngx_http_request_t *r)
{
    ngx_http_llm_budget_ctx_t  *ctx;

    ctx = ngx_http_llm_budget_get_ctx(r);

    ctx->state = NGX_HTTP_LLM_BUDGET_JUDGE;

    r->preserve_body = 1;

    r->write_event_handler = ngx_http_core_run_phases;
    ngx_http_core_run_phases(r);
}


static ngx_int_t
ngx_http_llm_budget_judge(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ngx_http_llm_budget_body_end(r, ctx);

    if (rc != NGX_OK) {
        return (rc == NGX_DECLINED) ? NGX_ABORT : NGX_ERROR;
    }

    rc = ngx_http_llm_budget_hold(r, ctx);

    if (rc != NGX_OK) {
        return (rc == NGX_DECLINED) ? NGX_ABORT : NGX_ERROR;
    }

    ctx->state = NGX_HTTP_LLM_BUDGET_ADMITTED;

    if (ngx_http_llm_budget_body_splice(r, ctx) != NGX_OK
        || ngx_http_llm_budget_forward(r, ctx) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_DECLINED;
}


/*
 * The phases run again for a request that was judged before: the guard after
 * the access handler, or another location after error_page or a rewrite.
 * What was judged is what may be sent: another URI is let through only where
 * nothing but nginx itself answers.
 */

static ngx_int_t
ngx_http_llm_budget_again(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_http_llm_budget_loc_conf_t *llcf)
{
    ngx_int_t                  rc;
    ngx_http_core_loc_conf_t  *clcf;

    if (llcf == ctx->where && r->uri.data == ctx->uri.data) {
        return NGX_DECLINED;
    }

    if (r->uri.len != ctx->uri.len
        || ngx_memcmp(r->uri.data, ctx->uri.data, r->uri.len) != 0
        || ctx->state == NGX_HTTP_LLM_BUDGET_BODY)
    {
        clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

        if (clcf->handler == NULL) {
            return NGX_DECLINED;
        }

        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "llm_budget: \"%V\" was judged, redirect to \"%V\" in a "
                      "metered location is refused", &ctx->uri, &r->uri);

        return NGX_HTTP_FORBIDDEN;
    }

    if (ctx->state == NGX_HTTP_LLM_BUDGET_ADMITTED && !ctx->pending) {

        /* the hold is closed: nothing may be sent on it any more */

        return NGX_HTTP_FORBIDDEN;
    }

    ctx->where = llcf;
    ctx->provider = llcf->provider;

    if (ctx->state == NGX_HTTP_LLM_BUDGET_ADMITTED) {

        rc = ngx_http_llm_budget_reprice(r, ctx);

        if (rc == NGX_DECLINED) {
            return ngx_http_llm_budget_deny(r, ctx, NGX_HTTP_BAD_GATEWAY,
                                            "fallback_exceeds_hold",
                                            "The fallback provider costs more "
                                            "than was held.");
        }

        if (rc != NGX_OK
            || ngx_http_llm_budget_body_splice(r, ctx) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return ngx_http_llm_budget_forward(r, ctx) == NGX_OK ? NGX_DECLINED
                                                         : NGX_ERROR;
}


static ngx_int_t
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

static ngx_int_t
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


static ngx_int_t
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
