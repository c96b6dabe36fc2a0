
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The request body: scanned by a request body filter as the bytes arrive,
 * kept pristine, and spliced anew for each attempt.
 */


#include "http/ngx_http_llm_budget_body.h"
#include "http/ngx_http_llm_budget_edits.h"


/* slices of a body that lies in a file */
#define NGX_HTTP_LLM_BUDGET_SLICE   65536


static ngx_int_t ngx_http_llm_budget_request_body_filter(
    ngx_http_request_t *r, ngx_chain_t *in);
static ngx_int_t ngx_http_llm_budget_scan_chain(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_read_buf(ngx_http_request_t *r,
    ngx_buf_t *b, u_char *p, off_t offset, size_t size);
static void ngx_http_llm_budget_body_refuse(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_body_chain(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, llmb_edits_t *edits);
static ngx_int_t ngx_http_llm_budget_body_length(ngx_http_request_t *r,
    off_t length);


static ngx_http_request_body_filter_pt
    ngx_http_llm_budget_next_request_body_filter;


void
ngx_http_llm_budget_body_init(void)
{
    ngx_http_llm_budget_next_request_body_filter =
                                             ngx_http_top_request_body_filter;
    ngx_http_top_request_body_filter = ngx_http_llm_budget_request_body_filter;
}


static ngx_int_t
ngx_http_llm_budget_request_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    size_t                      size;
    ngx_chain_t                *cl;
    ngx_http_llm_budget_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_llm_budget_module);

    if (ctx && ctx->state == NGX_HTTP_LLM_BUDGET_BODY) {

        for (cl = in; cl; cl = cl->next) {

            if (!ngx_buf_in_memory(cl->buf)) {
                continue;
            }

            size = (size_t) (cl->buf->last - cl->buf->pos);
            ctx->scanned += (off_t) size;

            if (ctx->scanned > (off_t) ctx->llcf->max_body) {
                return NGX_HTTP_REQUEST_ENTITY_TOO_LARGE;
            }

            (void) llmb_request_feed(ctx->req, cl->buf->pos, size);
        }
    }

    return ngx_http_llm_budget_next_request_body_filter(r, in);
}


ngx_int_t
ngx_http_llm_budget_body_end(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    off_t         size;
    ngx_chain_t  *cl;

    size = 0;

    if (r->request_body) {
        for (cl = r->request_body->bufs; cl; cl = cl->next) {
            size += ngx_buf_size(cl->buf);
        }
    }

    if (ctx->scanned != size) {

        if (ctx->scanned != 0) {
            ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                          "llm_budget: %O bytes of a body of %O were scanned",
                          ctx->scanned, size);
            return NGX_ERROR;
        }

        if (size <= (off_t) ctx->llcf->max_body
            && ngx_http_llm_budget_scan_chain(r, ctx) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (size > (off_t) ctx->llcf->max_body) {
        ctx->refusal.status = NGX_HTTP_REQUEST_ENTITY_TOO_LARGE;
        ngx_str_set(&ctx->refusal.code, "request_too_large");
        ngx_str_set(&ctx->refusal.message, "The request body is too large.");

        return NGX_DECLINED;
    }

    if (llmb_request_end(ctx->req) != LLMB_OK) {
        ngx_http_llm_budget_body_refuse(r, ctx);
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_scan_chain(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    off_t         offset, size;
    size_t        n;
    u_char       *slice;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    slice = NULL;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        b = cl->buf;

        if (ngx_buf_in_memory(b)) {
            (void) llmb_request_feed(ctx->req, b->pos,
                                     (size_t) (b->last - b->pos));
            continue;
        }

        if (slice == NULL) {
            slice = ngx_palloc(r->pool, NGX_HTTP_LLM_BUDGET_SLICE);
            if (slice == NULL) {
                return NGX_ERROR;
            }
        }

        size = b->file_last - b->file_pos;

        for (offset = 0; offset < size; offset += (off_t) n) {
            n = (size_t) ngx_min(size - offset, NGX_HTTP_LLM_BUDGET_SLICE);

            if (ngx_http_llm_budget_read_buf(r, b, slice, offset, n)
                != NGX_OK)
            {
                return NGX_ERROR;
            }

            (void) llmb_request_feed(ctx->req, slice, n);
        }
    }

    if (slice) {
        ngx_pfree(r->pool, slice);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_read_buf(ngx_http_request_t *r, ngx_buf_t *b, u_char *p,
    off_t offset, size_t size)
{
    ssize_t  n;

    n = ngx_read_file(b->file, p, size, b->file_pos + offset);

    if (n == NGX_ERROR || (size_t) n != size) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "llm_budget: the request body in \"%V\" could not be "
                      "read back", &b->file->name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_llm_budget_body_refuse(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    u_char                         *p;
    size_t                          len;
    const char                     *text;
    llmb_request_t                 *req;
    ngx_http_llm_budget_refusal_t  *refusal;

    req = ctx->req;
    refusal = &ctx->refusal;
    text = llmb_request_error_text(req->error);

    refusal->status = NGX_HTTP_BAD_REQUEST;
    ngx_str_set(&refusal->code, "request_invalid");
    ngx_str_set(&refusal->message, "The request body cannot be read.");

    refusal->param.data = req->error_name;
    refusal->param.len = req->error_name_len;

    len = sizeof("The request body is refused:  \"\" at byte .")
          + ngx_strlen(text) + req->error_name_len + NGX_OFF_T_LEN;

    p = ngx_pnalloc(r->pool, len);
    if (p == NULL) {
        return;
    }

    refusal->message.data = p;

    p = ngx_sprintf(p, "The request body is refused: %s", text);

    if (req->error_name_len) {
        p = ngx_sprintf(p, " \"%V\"", &refusal->param);
    }

    if (req->error_offset) {
        p = ngx_sprintf(p, " at byte %uL", req->error_offset);
    }

    *p++ = '.';

    refusal->message.len = (size_t) (p - refusal->message.data);
}


ngx_int_t
ngx_http_llm_budget_body_gather(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    off_t         size;
    size_t        n;
    u_char       *p;
    ngx_chain_t  *cl, *bufs;

    if (ctx->gathered) {
        return NGX_OK;
    }

    bufs = r->request_body ? r->request_body->bufs : NULL;
    size = 0;

    for (cl = bufs; cl; cl = cl->next) {
        size += ngx_buf_size(cl->buf);
    }

    if (bufs && bufs->next == NULL && ngx_buf_in_memory(bufs->buf)) {
        ctx->body.data = bufs->buf->pos;
        ctx->body.len = (size_t) size;
        ctx->gathered = 1;

        return NGX_OK;
    }

    p = ngx_palloc(r->pool, (size_t) size + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ctx->body.data = p;
    ctx->body.len = (size_t) size;

    for (cl = bufs; cl; cl = cl->next) {
        n = (size_t) ngx_buf_size(cl->buf);

        if (n == 0) {

            /* the end of a chunked body is a buffer of nothing */

            continue;
        }

        if (ngx_buf_in_memory(cl->buf)) {
            ngx_memcpy(p, cl->buf->pos, n);

        } else if (ngx_http_llm_budget_read_buf(r, cl->buf, p, 0, n)
                   != NGX_OK)
        {
            return NGX_ERROR;
        }

        p += n;
    }

    ctx->gathered = 1;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_budget_body_splice(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    llmb_edits_t  edits;

    llmb_edits_init(&edits);

    if (ngx_http_llm_budget_edits(r, ctx, &edits) != NGX_OK) {
        return NGX_ERROR;
    }

    if (edits.n == 0 && !ctx->spliced) {

        /* as it came; FastCGI and its kin look at the header first */

        return ngx_http_llm_budget_body_length(r, ctx->scanned
                                               ? ctx->scanned
                                               : r->headers_in
                                                 .content_length_n);
    }

    if (ngx_http_llm_budget_body_gather(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_llm_budget_body_chain(r, ctx, &edits);
}


/*
 * The chain that goes out: views with start == pos, since a retry rewinds
 * each buffer to its start, and no file, since it would be rewound to offset
 * zero (NGINX.md 2.2).
 */

static ngx_int_t
ngx_http_llm_budget_body_chain(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, llmb_edits_t *edits)
{
    uint64_t                  total;
    unsigned                  i, n;
    ngx_buf_t                *b;
    llmb_str_t                segs[2 * LLMB_EDIT_MAX + 1];
    ngx_chain_t              *cl, **ll;
    ngx_http_request_body_t  *rb;

    if (llmb_edits_apply(edits, ngx_http_llm_budget_view(&ctx->body), segs,
                         2 * LLMB_EDIT_MAX + 1, &n, &total)
        != LLMB_OK)
    {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "llm_budget: the edits of a body do not fit it");
        return NGX_ERROR;
    }

    rb = r->request_body;
    ll = &rb->bufs;

    for (i = 0; i < n; i++) {

        cl = ngx_alloc_chain_link(r->pool);
        if (cl == NULL) {
            return NGX_ERROR;
        }

        b = ngx_calloc_buf(r->pool);
        if (b == NULL) {
            return NGX_ERROR;
        }

        b->start = segs[i].data;
        b->pos = b->start;
        b->end = b->start + segs[i].len;
        b->last = b->end;
        b->memory = 1;

        cl->buf = b;
        *ll = cl;
        ll = &cl->next;
    }

    *ll = NULL;

    /* upstream would recycle rb->buf, which the views may lie in */

    rb->buf = NULL;
    rb->temp_file = NULL;

    ctx->spliced = 1;

    return ngx_http_llm_budget_body_length(r, (off_t) total);
}


static ngx_int_t
ngx_http_llm_budget_body_length(ngx_http_request_t *r, off_t length)
{
    u_char           *p;
    ngx_table_elt_t  *h;

    r->headers_in.content_length_n = length;

    h = ngx_pcalloc(r->pool, sizeof(ngx_table_elt_t));
    if (h == NULL) {
        return NGX_ERROR;
    }

    p = ngx_pnalloc(r->pool, NGX_OFF_T_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    ngx_str_set(&h->key, "Content-Length");
    h->lowcase_key = (u_char *) "content-length";
    h->value.data = p;
    h->value.len = (size_t) (ngx_sprintf(p, "%O", length) - p);

    r->headers_in.content_length = h;

    return NGX_OK;
}
