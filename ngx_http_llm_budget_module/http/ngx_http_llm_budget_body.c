
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The request body: scanned by a request body filter as the bytes arrive,
 * kept pristine, and spliced anew for each attempt.
 */


#include "http/ngx_http_llm_budget_body.h"


/* slices of a body that lies in a file */
#define NGX_HTTP_LLM_BUDGET_SLICE   65536

/* text of the edits of one attempt, the model's name aside */
#define NGX_HTTP_LLM_BUDGET_EDIT_TEXT   256


static ngx_int_t ngx_http_llm_budget_request_body_filter(
    ngx_http_request_t *r, ngx_chain_t *in);
static ngx_int_t ngx_http_llm_budget_scan_chain(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_read_buf(ngx_http_request_t *r,
    ngx_buf_t *b, u_char *p, off_t offset, size_t size);
static void ngx_http_llm_budget_body_refuse(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_edits(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, llmb_edits_t *edits);
static llmb_rc_e ngx_http_llm_budget_edit_drops(
    ngx_http_llm_budget_ctx_t *ctx, llmb_edits_t *edits, u_char *drop);
static ngx_int_t ngx_http_llm_budget_edit_model(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, llmb_edits_t *edits);
static llmb_rc_e ngx_http_llm_budget_edit_ceiling(
    ngx_http_llm_budget_ctx_t *ctx, llmb_edits_t *edits, const u_char *drop,
    u_char **text);
static llmb_rc_e ngx_http_llm_budget_edit_usage(
    ngx_http_llm_budget_ctx_t *ctx, llmb_edits_t *edits, const u_char *drop);
static ngx_uint_t ngx_http_llm_budget_dropped(const llmb_request_t *req,
    const u_char *drop, const char *name);
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

    p = ngx_sprintf(p, " at byte %uL.", req->error_offset);

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


static ngx_int_t
ngx_http_llm_budget_edits(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, llmb_edits_t *edits)
{
    u_char     *text, drop[LLMB_REQUEST_MEMBERS];
    llmb_rc_e   rc;

    ngx_memzero(drop, sizeof(drop));

    rc = ngx_http_llm_budget_edit_drops(ctx, edits, drop);

    if (rc != LLMB_OK) {
        goto failed;
    }

    if (ngx_http_llm_budget_edit_model(r, ctx, edits) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ctx->clamp >= 0 && ctx->dialect != LLMB_DIALECT_EMBEDDINGS) {

        text = ngx_pnalloc(r->pool, NGX_HTTP_LLM_BUDGET_EDIT_TEXT);
        if (text == NULL) {
            return NGX_ERROR;
        }

        rc = ngx_http_llm_budget_edit_ceiling(ctx, edits, drop, &text);

        if (rc != LLMB_OK) {
            goto failed;
        }
    }

    ctx->injected = 0;

    if (ctx->req->stream && ctx->llcf->inject_usage
        && (ctx->dialect == LLMB_DIALECT_CHAT
            || ctx->dialect == LLMB_DIALECT_COMPLETIONS))
    {
        rc = ngx_http_llm_budget_edit_usage(ctx, edits, drop);

        if (rc != LLMB_OK) {
            goto failed;
        }
    }

    return NGX_OK;

failed:

    ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                  "llm_budget: the edits of a body clash: %d", (int) rc);

    return NGX_ERROR;
}


static llmb_rc_e
ngx_http_llm_budget_edit_drops(ngx_http_llm_budget_ctx_t *ctx,
    llmb_edits_t *edits, u_char *drop)
{
    uint32_t                     hash;
    llmb_rc_e                    rc;
    ngx_str_t                   *name;
    ngx_uint_t                   i, k, m;
    llmb_range_t                 cut;
    llmb_request_t              *req;
    ngx_http_llm_budget_rung_t  *rung;

    static const llmb_str_t  empty = { 0, NULL };

    if (ctx->rungs == 0 || ctx->llcf->rungs == NULL) {
        return LLMB_OK;
    }

    req = ctx->req;
    rung = ctx->llcf->rungs->elts;

    for (i = 0; i < ctx->llcf->rungs->nelts; i++) {

        if (!(ctx->rungs & ((uint32_t) 1 << i))) {
            continue;
        }

        name = rung[i].drops.elts;

        for (k = 0; k < rung[i].drops.nelts; k++) {
            hash = llmb_request_hash(name[k].data, name[k].len);

            for (m = 0; m < req->n_members; m++) {
                if (req->members[m].name_hash == hash
                    && req->members[m].name_len == name[k].len)
                {
                    drop[m] = 1;
                }
            }
        }
    }

    for (m = 0; m < req->n_members; m++) {

        if (!drop[m]) {
            continue;
        }

        llmb_request_member_cut(req, drop, (unsigned) m, &cut);

        rc = llmb_edits_add(edits, cut.start, cut.end, &empty);

        if (rc != LLMB_OK) {
            return rc;
        }
    }

    return LLMB_OK;
}


static ngx_int_t
ngx_http_llm_budget_edit_model(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, llmb_edits_t *edits)
{
    u_char          *p;
    uintptr_t        escape;
    llmb_str_t       text;
    llmb_request_t  *req;

    req = ctx->req;

    if (req->model_range.end == 0
        || (ctx->model.len == req->model_len
            && ngx_memcmp(ctx->model.data, req->model, req->model_len) == 0))
    {
        return NGX_OK;
    }

    escape = ngx_escape_json(NULL, ctx->model.data, ctx->model.len);

    text.len = ctx->model.len + (size_t) escape + 2;
    text.data = ngx_pnalloc(r->pool, text.len);
    if (text.data == NULL) {
        return NGX_ERROR;
    }

    p = text.data;
    *p++ = '"';
    p = (u_char *) ngx_escape_json(p, ctx->model.data, ctx->model.len);
    *p = '"';

    return llmb_edits_add(edits, req->model_range.start, req->model_range.end,
                          &text)
           == LLMB_OK ? NGX_OK : NGX_ERROR;
}


/* every ceiling the request gave is set, so that none can stand above */

static llmb_rc_e
ngx_http_llm_budget_edit_ceiling(ngx_http_llm_budget_ctx_t *ctx,
    llmb_edits_t *edits, const u_char *drop, u_char **text)
{
    u_char                    *p;
    llmb_rc_e                  rc;
    llmb_str_t                 value;
    const char                *name;
    ngx_uint_t                 i, set;
    llmb_request_t            *req;
    const llmb_request_int_t  *member[3];

    static const char *const  names[] = {
        "max_tokens", "max_completion_tokens", "max_output_tokens"
    };

    req = ctx->req;
    set = 0;

    member[0] = &req->max_tokens;
    member[1] = &req->max_completion_tokens;
    member[2] = &req->max_output_tokens;

    (void) llmb_request_ceiling(req, &name);

    value.data = *text;
    p = ngx_sprintf(*text, "%L", ctx->clamp);
    value.len = (size_t) (p - *text);
    *text = p;

    for (i = 0; i < 3; i++) {

        if (member[i]->range.end == 0
            || (!member[i]->is_set && ngx_strcmp(names[i], name) != 0)
            || ngx_http_llm_budget_dropped(req, drop, names[i]))
        {
            continue;
        }

        rc = llmb_edits_add(edits, member[i]->range.start,
                            member[i]->range.end, &value);

        if (rc != LLMB_OK) {
            return rc;
        }

        set |= (ngx_strcmp(names[i], name) == 0);
    }

    if (set) {
        return LLMB_OK;
    }

    value.data = *text;
    p = ngx_sprintf(*text, "\"%s\":%L,", name, ctx->clamp);
    value.len = (size_t) (p - *text);
    *text = p;

    return llmb_edits_add(edits, req->object_start + 1, req->object_start + 1,
                          &value);
}


/* a stream reports usage only when asked, and it is always asked (T08) */

static llmb_rc_e
ngx_http_llm_budget_edit_usage(ngx_http_llm_budget_ctx_t *ctx,
    llmb_edits_t *edits, const u_char *drop)
{
    uint64_t         start, end;
    llmb_request_t  *req;

    static const llmb_str_t  member =
        llmb_string("\"stream_options\":{\"include_usage\":true},");
    static const llmb_str_t  object = llmb_string("{\"include_usage\":true}");
    static const llmb_str_t  first = llmb_string("\"include_usage\":true");
    static const llmb_str_t  further = llmb_string("\"include_usage\":true,");
    static const llmb_str_t  yes = llmb_string("true");

    req = ctx->req;

    if (req->stream_options.end == 0
        || ngx_http_llm_budget_dropped(req, drop, "stream_options"))
    {
        ctx->injected = 1;

        return llmb_edits_add(edits, req->object_start + 1,
                              req->object_start + 1, &member);
    }

    start = req->stream_options.start;
    end = req->stream_options.end;

    if (!req->stream_options_object) {
        ctx->injected = 1;
        return llmb_edits_add(edits, start, end, &object);
    }

    if (req->include_usage.end == 0) {
        ctx->injected = 1;
        return llmb_edits_add(edits, start + 1, start + 1,
                              req->stream_options_empty ? &first : &further);
    }

    if (req->include_usage_true) {
        return LLMB_OK;
    }

    ctx->injected = 1;

    return llmb_edits_add(edits, req->include_usage.start,
                          req->include_usage.end, &yes);
}


static ngx_uint_t
ngx_http_llm_budget_dropped(const llmb_request_t *req, const u_char *drop,
    const char *name)
{
    int         i;
    llmb_str_t  text;

    text.data = (u_char *) (uintptr_t) name;
    text.len = ngx_strlen(name);

    i = llmb_request_member_find(req, &text);

    return i >= 0 && drop[i];
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
