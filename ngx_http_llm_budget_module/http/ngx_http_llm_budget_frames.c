
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Taking usage-only frames out of an event stream (T09), after the model of
 * the sub filter: what goes on are views of the buffers that came in, and a
 * buffer counts as sent when the last view of it is, so that upstream feels
 * a slow client.
 */


#include "http/ngx_http_llm_budget_filter.h"
#include "http/ngx_http_llm_budget_settle.h"


/* an incomplete event is held back up to this size, then let go */
#define NGX_HTTP_LLM_BUDGET_HELD    4096


typedef struct {
    ngx_http_request_t         *request;
    ngx_http_llm_budget_ctx_t  *ctx;
    ngx_chain_t               **last;
    ngx_buf_t                  *view;       /* that may be made longer */
    ngx_buf_t                  *owner;      /* the buffer's last view */
    ngx_buf_t                  *tail;       /* the last buffer let go */
} ngx_http_llm_budget_frames_t;


static ngx_int_t ngx_http_llm_budget_frames_buf(
    ngx_http_llm_budget_frames_t *f, ngx_buf_t *b);
static ngx_int_t ngx_http_llm_budget_frames_piece(
    ngx_http_llm_budget_frames_t *f, u_char *p, size_t len);
static ngx_int_t ngx_http_llm_budget_frames_hold(
    ngx_http_llm_budget_frames_t *f, u_char *p, size_t len);
static ngx_int_t ngx_http_llm_budget_frames_release(
    ngx_http_llm_budget_frames_t *f);
static ngx_int_t ngx_http_llm_budget_frames_view(
    ngx_http_llm_budget_frames_t *f, u_char *p, size_t len);
static ngx_int_t ngx_http_llm_budget_frames_end(
    ngx_http_llm_budget_frames_t *f, ngx_buf_t *b);
static ngx_buf_t *ngx_http_llm_budget_frames_add(
    ngx_http_llm_budget_frames_t *f, ngx_chain_t **free);


static u_char  ngx_http_llm_budget_view_tag;
static u_char  ngx_http_llm_budget_held_tag;


ngx_int_t
ngx_http_llm_budget_frames(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_chain_t *in, ngx_chain_t **out)
{
    ngx_http_llm_budget_frames_t  f;

    *out = NULL;

    f.request = r;
    f.ctx = ctx;
    f.last = out;
    f.tail = NULL;

    for ( /* void */ ; in; in = in->next) {
        f.view = NULL;
        f.owner = NULL;

        if (ngx_http_llm_budget_frames_buf(&f, in->buf) != NGX_OK
            || ngx_http_llm_budget_frames_end(&f, in->buf) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (ctx->reader->seen & LLMB_SEEN_CONTENT && !ctx->content_msec_set) {
        ctx->content_msec = ngx_current_msec;
        ctx->content_msec_set = 1;
    }

    ngx_http_llm_budget_settle(ctx);

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_frames_buf(ngx_http_llm_budget_frames_t *f, ngx_buf_t *b)
{
    size_t                      n;
    u_char                     *p;
    ngx_http_llm_budget_ctx_t  *ctx;

    ctx = f->ctx;

    if (ngx_buf_in_memory(b)) {
        for (p = b->pos; p < b->last; p += n) {

            if ((ctx->reader->seen & LLMB_SEEN_STREAM)
                && ctx->reader->sse.skip_lf && *p == LF)
            {
                /* the rest of the last event's line end goes its way */

                n = llmb_usage_feed(ctx->reader, p, 1);

                if (!ctx->dropped
                    && ngx_http_llm_budget_frames_view(f, p, n) != NGX_OK)
                {
                    return NGX_ERROR;
                }

                continue;
            }

            n = llmb_usage_feed(ctx->reader, p, (size_t) (b->last - p));

            if (ngx_http_llm_budget_frames_piece(f, p, n) != NGX_OK) {
                return NGX_ERROR;
            }
        }
    }

    if (b->last_buf) {

        /* an event without its blank line may be a usage frame, too */

        ctx->ended = 1;
        llmb_usage_end(ctx->reader);

        if (ctx->held && ctx->reader->event == LLMB_EVENT_USAGE_ONLY) {
            ctx->held->last = ctx->held->pos;
        }
    }

    if ((b->last_buf || ngx_buf_special(b)) && ctx->held) {

        /* the stream is over, perhaps cut short: nothing is kept back */

        return ngx_http_llm_budget_frames_release(f);
    }

    return NGX_OK;
}


/* a piece of one event, up to its end if reader->event says so */

static ngx_int_t
ngx_http_llm_budget_frames_piece(ngx_http_llm_budget_frames_t *f, u_char *p,
    size_t len)
{
    ngx_http_llm_budget_ctx_t  *ctx;

    ctx = f->ctx;

    if (ctx->reader->event == LLMB_EVENT_USAGE_ONLY && !ctx->passing) {

        if (ctx->held) {
            ctx->held->last = ctx->held->pos;
        }

        ctx->dropped = 1;

        return NGX_OK;
    }

    ctx->dropped = 0;

    if (ctx->reader->event == LLMB_EVENT_NONE
        && !ctx->passing && !ctx->reader->event_plain)
    {
        return ngx_http_llm_budget_frames_hold(f, p, len);
    }

    /* the event is over or certain not to be a usage frame: let it go */

    ctx->passing = (ctx->reader->event == LLMB_EVENT_NONE);

    if (ngx_http_llm_budget_frames_release(f) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_llm_budget_frames_view(f, p, len);
}


static ngx_int_t
ngx_http_llm_budget_frames_hold(ngx_http_llm_budget_frames_t *f, u_char *p,
    size_t len)
{
    ngx_buf_t                  *held;
    ngx_chain_t                *cl;
    ngx_http_llm_budget_ctx_t  *ctx;

    ctx = f->ctx;
    held = ctx->held;

    if (held == NULL && ctx->held_free) {
        cl = ctx->held_free;
        ctx->held_free = cl->next;

        held = cl->buf;
        held->pos = held->start;
        held->last = held->start;

        ngx_free_chain(f->request->pool, cl);
    }

    if (held == NULL) {
        held = ngx_create_temp_buf(f->request->pool,
                                   NGX_HTTP_LLM_BUDGET_HELD);
        if (held == NULL) {
            return NGX_ERROR;
        }

        held->tag = (ngx_buf_tag_t) &ngx_http_llm_budget_held_tag;
    }

    ctx->held = held;

    if (len > (size_t) (held->end - held->last)) {

        /* far larger than any usage frame */

        ctx->passing = 1;

        if (ngx_http_llm_budget_frames_release(f) != NGX_OK) {
            return NGX_ERROR;
        }

        return ngx_http_llm_budget_frames_view(f, p, len);
    }

    held->last = ngx_cpymem(held->last, p, len);

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_frames_release(ngx_http_llm_budget_frames_t *f)
{
    ngx_chain_t                *cl;
    ngx_http_llm_budget_ctx_t  *ctx;

    ctx = f->ctx;

    if (ctx->held == NULL || ctx->held->last == ctx->held->pos) {
        return NGX_OK;
    }

    cl = ngx_alloc_chain_link(f->request->pool);
    if (cl == NULL) {
        return NGX_ERROR;
    }

    cl->buf = ctx->held;
    cl->buf->flush = 1;
    cl->next = NULL;

    ctx->held = NULL;

    *f->last = cl;
    f->last = &cl->next;
    f->tail = cl->buf;

    /* a view that comes next begins a buffer of its own */

    f->view = NULL;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_frames_view(ngx_http_llm_budget_frames_t *f, u_char *p,
    size_t len)
{
    ngx_buf_t  *b;

    if (len == 0) {
        return NGX_OK;
    }

    if (f->view && f->view->last == p) {
        f->view->last += len;
        f->view->end = f->view->last;

        return NGX_OK;
    }

    b = ngx_http_llm_budget_frames_add(f, &f->ctx->free);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->start = p;
    b->pos = p;
    b->last = p + len;
    b->end = b->last;
    b->memory = 1;
    b->tag = (ngx_buf_tag_t) &ngx_http_llm_budget_view_tag;

    f->view = b;
    f->owner = b;

    return NGX_OK;
}


/*
 * The flags of a buffer go to a view of it, or to an empty buffer behind
 * what was let go; a buffer without a view is all held, gone, or empty.
 */

static ngx_int_t
ngx_http_llm_budget_frames_end(ngx_http_llm_budget_frames_t *f, ngx_buf_t *b)
{
    ngx_buf_t  *view;

    if (f->owner) {
        f->owner->shadow = b;

    } else {
        b->pos = b->last;
    }

    view = f->view;

    if (view == NULL && !b->last_buf && !b->last_in_chain && !b->sync) {

        /* a flush is for what was let go just now, if anything was */

        if (b->flush && f->tail) {
            f->tail->flush = 1;
        }

        return NGX_OK;
    }

    if (view == NULL) {
        view = ngx_http_llm_budget_frames_add(f, NULL);
        if (view == NULL) {
            return NGX_ERROR;
        }

        view->sync = 1;
    }

    view->flush = b->flush;
    view->last_buf = b->last_buf;
    view->last_in_chain = b->last_in_chain;

    return NGX_OK;
}


/* a cleared buffer at the end of the chain, used before if there is one */

static ngx_buf_t *
ngx_http_llm_budget_frames_add(ngx_http_llm_budget_frames_t *f,
    ngx_chain_t **free)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    if (free && *free) {
        cl = *free;
        *free = cl->next;
        ngx_memzero(cl->buf, sizeof(ngx_buf_t));

    } else {
        cl = ngx_alloc_chain_link(f->request->pool);
        if (cl == NULL) {
            return NULL;
        }

        b = ngx_calloc_buf(f->request->pool);
        if (b == NULL) {
            return NULL;
        }

        cl->buf = b;
    }

    cl->next = NULL;

    *f->last = cl;
    f->last = &cl->next;
    f->tail = cl->buf;

    return cl->buf;
}


void
ngx_http_llm_budget_frames_sent(ngx_http_llm_budget_ctx_t *ctx,
    ngx_chain_t *out)
{
    ngx_buf_t     *b;
    ngx_chain_t   *cl, **ll;

    for (ll = &ctx->busy; *ll; ll = &(*ll)->next) { /* void */ }

    *ll = out;

    while (ctx->busy) {
        cl = ctx->busy;
        b = cl->buf;

        if (ngx_buf_size(b) != 0) {
            break;
        }

        ctx->busy = cl->next;

        if (b->shadow) {
            b->shadow->pos = b->shadow->last;
        }

        if (b->tag == (ngx_buf_tag_t) &ngx_http_llm_budget_view_tag) {
            cl->next = ctx->free;
            ctx->free = cl;

        } else if (b->tag == (ngx_buf_tag_t) &ngx_http_llm_budget_held_tag) {
            cl->next = ctx->held_free;
            ctx->held_free = cl;

        } else {
            ngx_free_chain(ctx->request->pool, cl);
        }
    }
}
