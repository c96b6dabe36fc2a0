
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Header and body filters: they read the answer and settle as soon as its
 * usage is final.  Bytes pass in the same call, untouched, but for the usage
 * frame that the module itself asked for.
 */


#include "http/ngx_http_llm_budget_filter.h"
#include "http/ngx_http_llm_budget_inflate.h"
#include "http/ngx_http_llm_budget_reply.h"
#include "http/ngx_http_llm_budget_settle.h"


static ngx_int_t ngx_http_llm_budget_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_llm_budget_own_page(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_answer(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_begin_meter(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_int_t ngx_http_llm_budget_own_body(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_chain_t *in);
static void ngx_http_llm_budget_meter_all(ngx_http_llm_budget_ctx_t *ctx,
    u_char *p, size_t len);


static ngx_http_output_header_filter_pt  ngx_http_llm_budget_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_llm_budget_next_body_filter;


void
ngx_http_llm_budget_filter_init(void)
{
    ngx_http_llm_budget_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_llm_budget_header_filter;

    ngx_http_llm_budget_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_llm_budget_body_filter;
}


static ngx_int_t
ngx_http_llm_budget_header_filter(ngx_http_request_t *r)
{
    ngx_int_t                        rc;
    ngx_http_upstream_t             *u;
    ngx_http_llm_budget_ctx_t       *ctx;
    ngx_http_llm_budget_loc_conf_t  *llcf;

    if (r != r->main) {
        return ngx_http_llm_budget_next_header_filter(r);
    }

    ctx = ngx_http_llm_budget_get_ctx(r);
    u = r->upstream;

    /* an upstream that is still at work has its cleanup, a cache hit none */

    if (u == NULL || (u->cleanup == NULL && !r->cached)) {

        llcf = ngx_http_get_module_loc_conf(r, ngx_http_llm_budget_module);

        if (llcf->enable && r->err_status >= NGX_HTTP_BAD_REQUEST
            && r->headers_out.status == r->err_status
            && (ctx && ctx->uri.len
                ? (llcf == ctx->where && r->uri.len == ctx->uri.len
                   && ngx_memcmp(r->uri.data, ctx->uri.data, r->uri.len) == 0)
                : !r->internal))
        {
            rc = ngx_http_llm_budget_own_page(r, ctx);

            if (rc != NGX_OK) {
                return rc;
            }
        }

        return ngx_http_llm_budget_next_header_filter(r);
    }

    if (ctx && ctx->state == NGX_HTTP_LLM_BUDGET_ADMITTED) {
        rc = ngx_http_llm_budget_answer(r, ctx);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return ngx_http_llm_budget_next_header_filter(r);
}


/* nginx's own error page on a metered location becomes JSON (T61) */

static ngx_int_t
ngx_http_llm_budget_own_page(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    if (ctx == NULL) {
        ctx = ngx_http_llm_budget_create_ctx(r);
        if (ctx == NULL) {
            return NGX_ERROR;
        }
    }

    if (ctx->state == NGX_HTTP_LLM_BUDGET_DENIED) {
        return NGX_OK;
    }

    ngx_http_llm_budget_own_error(r->headers_out.status, &ctx->refusal);

    if (ctx->state < NGX_HTTP_LLM_BUDGET_ADMITTED) {
        ctx->state = NGX_HTTP_LLM_BUDGET_DENIED;
        ctx->verdict = LLMB_VERDICT_DENY;
        ctx->end = "denied";
    }

    if (ngx_http_llm_budget_refusal_headers(r, ctx) != NGX_OK
        || ngx_http_llm_budget_refusal_body(r, ctx, &ctx->error_body)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    r->headers_out.content_length_n = (off_t) ctx->error_body.len;

    if (r->headers_out.content_length) {
        r->headers_out.content_length->hash = 0;
        r->headers_out.content_length = NULL;
    }

    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_answer(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    ctx->answered = 1;

    if (ngx_http_llm_budget_answer_headers(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

#if (NGX_HTTP_CACHE)

    if (r->cached && r->cache && r->cache->background) {

        /* a subrequest that passes no phase of ours asks for a new answer */

        ngx_http_llm_budget_forfeit(ctx, "cache_hit");
        return NGX_OK;
    }

#endif

    if (r->cached || r->header_only
        || r->upstream->headers_in.status_n == NGX_HTTP_NO_CONTENT
        || r->upstream->headers_in.status_n >= NGX_HTTP_SPECIAL_RESPONSE)
    {
        /* a cache hit, an answer without a body, or an error: no tokens */

        ngx_http_llm_budget_release(ctx,
                                    r->cached ? "cache_hit"
                                    : r->upstream->headers_in.status_n
                                      >= NGX_HTTP_SPECIAL_RESPONSE
                                      ? "upstream_error" : "complete");
        return NGX_OK;
    }

    return ngx_http_llm_budget_begin_meter(r, ctx);
}


static ngx_int_t
ngx_http_llm_budget_begin_meter(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_str_t            *type;
    ngx_table_elt_t      *encoding;
    ngx_http_upstream_t  *u;

    if (!ctx->pending) {
        return NGX_OK;
    }

    ctx->reader = ngx_palloc(r->pool, sizeof(llmb_usage_reader_t));
    if (ctx->reader == NULL) {
        return NGX_ERROR;
    }

    llmb_usage_init(ctx->reader, ctx->dialect);

    r->filter_need_in_memory = 1;

    u = r->upstream;
    type = &r->headers_out.content_type;
    encoding = r->headers_out.content_encoding;

    if (encoding && encoding->value.len
        && ngx_strcasecmp(encoding->value.data, (u_char *) "identity") != 0)
    {
        if (ngx_http_llm_budget_inflate_begin(ctx, &encoding->value)
            != NGX_OK)
        {
            ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                          "llm_budget: an answer in \"%V\" cannot be read: "
                          "the hold will be charged", &encoding->value);

            ctx->flags |= NGX_HTTP_LLM_BUDGET_FLAG_COMPRESSED;
        }

        /* frames of a compressed stream are not taken out */

        ctx->injected = 0;
    }

    if (type->len >= sizeof("text/event-stream") - 1
        && ngx_strncasecmp(type->data, (u_char *) "text/event-stream",
                           sizeof("text/event-stream") - 1)
           == 0)
    {
        if (u->store) {
            ctx->injected = 0;
        }

        if (ctx->injected) {

            /* what is cached would be shown to others with our frame */

            u->cacheable = 0;
        }

        if (!u->cacheable && !u->store) {

            /* nginx chooses its mode after this filter (NGINX.md 3.3) */

            u->buffering = 0;
        }

    } else {
        ctx->injected = 0;
    }

    if (ctx->injected) {
        ngx_http_clear_content_length(r);
        ngx_http_clear_accept_ranges(r);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_int_t                   rc;
    ngx_uint_t                  last;
    ngx_chain_t                *cl, *out;
    ngx_http_llm_budget_ctx_t  *ctx;

    if (r != r->main) {
        return ngx_http_llm_budget_next_body_filter(r, in);
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_llm_budget_module);

    if (ctx && ctx->error_body.len) {
        return ngx_http_llm_budget_own_body(r, ctx, in);
    }

    if (ctx == NULL || ctx->reader == NULL) {
        return ngx_http_llm_budget_next_body_filter(r, in);
    }

    last = 0;

    for (cl = in; cl; cl = cl->next) {
        last |= cl->buf->last_buf;
    }

    if (ctx->injected) {

        if (ngx_http_llm_budget_frames(r, ctx, in, &out) != NGX_OK) {
            return NGX_ERROR;
        }

    } else {
        out = in;

        for (cl = in; cl; cl = cl->next) {
            if (ngx_buf_in_memory(cl->buf)) {
                ngx_http_llm_budget_meter_all(ctx, cl->buf->pos,
                                              (size_t) (cl->buf->last
                                                        - cl->buf->pos));
            }
        }
    }

    if (last) {
        ctx->complete = 1;
        ngx_http_llm_budget_close(ctx);

    } else {
        ngx_http_llm_budget_keep(ctx);
    }

    if (in && out == NULL && ctx->busy == NULL) {

        /* all of it is held back or gone */

        return NGX_OK;
    }

    rc = ngx_http_llm_budget_next_body_filter(r, out);

    if (ctx->injected) {
        ngx_http_llm_budget_frames_sent(ctx, out);
    }

    return rc;
}


/* our JSON takes the place of nginx's page */

static ngx_int_t
ngx_http_llm_budget_own_body(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_chain_t *in)
{
    ngx_buf_t    *b;
    ngx_chain_t   out;

    for ( /* void */ ; in; in = in->next) {
        in->buf->pos = in->buf->last;
        in->buf->file_pos = in->buf->file_last;

        if (!in->buf->last_buf) {
            continue;
        }

        b = ngx_calloc_buf(r->pool);
        if (b == NULL) {
            return NGX_ERROR;
        }

        b->pos = ctx->error_body.data;
        b->last = b->pos + ctx->error_body.len;
        b->memory = 1;
        b->last_buf = 1;
        b->last_in_chain = 1;

        out.buf = b;
        out.next = NULL;

        return ngx_http_llm_budget_next_body_filter(r, &out);
    }

    return ngx_http_llm_budget_next_body_filter(r, NULL);
}


static void
ngx_http_llm_budget_meter_all(ngx_http_llm_budget_ctx_t *ctx, u_char *p,
    size_t len)
{
    if (ctx->flags & NGX_HTTP_LLM_BUDGET_FLAG_COMPRESSED) {
        return;
    }

    if (ctx->inflate == NULL) {
        ngx_http_llm_budget_meter(ctx, p, len);
        return;
    }

    if (ngx_http_llm_budget_inflate(ctx, p, len, ngx_http_llm_budget_meter)
        != NGX_OK)
    {
        ngx_log_error(NGX_LOG_WARN, ctx->request->connection->log, 0,
                      "llm_budget: a compressed answer cannot be inflated: "
                      "the hold will be charged");

        ctx->flags |= NGX_HTTP_LLM_BUDGET_FLAG_COMPRESSED;
    }
}


void
ngx_http_llm_budget_meter(ngx_http_llm_budget_ctx_t *ctx, u_char *p,
    size_t len)
{
    size_t  n;

    while (len) {
        n = llmb_usage_feed(ctx->reader, p, len);
        p += n;
        len -= n;
    }

    if (!ctx->content_msec_set && (ctx->reader->seen & LLMB_SEEN_CONTENT)) {
        ctx->content_msec = ngx_current_msec;
        ctx->content_msec_set = 1;
    }

    ngx_http_llm_budget_settle(ctx);
}
