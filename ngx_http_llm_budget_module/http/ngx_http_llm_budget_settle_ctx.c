
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The context of a request: made once, found again after redirects, and the
 * last net below its hold.
 */


#include "http/ngx_http_llm_budget_identity.h"
#include "http/ngx_http_llm_budget_settle.h"


static void ngx_http_llm_budget_cleanup(void *data);


/* the contexts of this worker whose holds are pending */

static ngx_queue_t  ngx_http_llm_budget_live;


ngx_http_llm_budget_ctx_t *
ngx_http_llm_budget_get_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t         *cln;
    ngx_http_llm_budget_ctx_t  *ctx;

    r = r->main;

    ctx = ngx_http_get_module_ctx(r, ngx_http_llm_budget_module);

    if (ctx || !(r->internal || r->filter_finalize)) {
        return ctx;
    }

    /* an internal redirect clears contexts; the cleanup still has ours */

    for (cln = r->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler == ngx_http_llm_budget_cleanup) {
            ngx_http_set_ctx(r, cln->data, ngx_http_llm_budget_module);
            return cln->data;
        }
    }

    return NULL;
}


ngx_http_llm_budget_ctx_t *
ngx_http_llm_budget_create_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t         *cln;
    ngx_http_llm_budget_ctx_t  *ctx;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_llm_budget_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_http_llm_budget_ctx_t));

    if (ngx_http_llm_budget_new_id(ctx->id) != NGX_OK) {
        return NULL;
    }

    ctx->request = r;
    ctx->llcf = ngx_http_get_module_loc_conf(r, ngx_http_llm_budget_module);
    ctx->lmcf = ngx_http_get_module_main_conf(r, ngx_http_llm_budget_module);
    ctx->dialect = llmb_dialect_guess(ngx_http_llm_budget_view(&r->uri));
    ctx->clamp = -1;
    ctx->start_msec = ngx_current_msec;
    ctx->end = "";

    cln->handler = ngx_http_llm_budget_cleanup;

    ngx_http_set_ctx(r, ctx, ngx_http_llm_budget_module);

    return ctx;
}


/* by now the log phase has closed the hold; this is the net below it */

static void
ngx_http_llm_budget_cleanup(void *data)
{
    ngx_http_llm_budget_ctx_t  *ctx = data;

    if (ctx->pending) {
        ngx_log_error(NGX_LOG_ALERT, ctx->request->connection->log, 0,
                      "llm_budget: a hold was left pending by the log phase");

        ngx_http_llm_budget_close(ctx);
        return;
    }

    ngx_http_llm_budget_abandon(ctx);
}


void
ngx_http_llm_budget_pend(ngx_http_llm_budget_ctx_t *ctx)
{
    if (ngx_http_llm_budget_live.next == NULL) {
        ngx_queue_init(&ngx_http_llm_budget_live);
    }

    ngx_queue_insert_tail(&ngx_http_llm_budget_live, &ctx->live);
    ctx->pending = 1;
}


void
ngx_http_llm_budget_close_all(void)
{
    ngx_queue_t                *q;
    ngx_http_llm_budget_ctx_t  *ctx;

    if (ngx_http_llm_budget_live.next == NULL) {
        return;
    }

    while (!ngx_queue_empty(&ngx_http_llm_budget_live)) {
        q = ngx_queue_head(&ngx_http_llm_budget_live);
        ctx = ngx_queue_data(q, ngx_http_llm_budget_ctx_t, live);

        ngx_http_llm_budget_close(ctx);
    }
}
