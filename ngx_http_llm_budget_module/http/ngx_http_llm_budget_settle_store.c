
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What the end of a hold is to its store.
 */


#include "http/ngx_http_llm_budget_settle.h"
#include "http/ngx_http_llm_budget_store.h"


static void ngx_http_llm_budget_closing(ngx_http_llm_budget_ctx_t *ctx,
    ngx_http_llm_budget_closing_t *closing);
static void ngx_http_llm_budget_closed(ngx_http_llm_budget_ctx_t *ctx,
    llmb_ledger_rc_e rc);


void
ngx_http_llm_budget_store_close(ngx_http_llm_budget_ctx_t *ctx,
    const int64_t *actual)
{
    ngx_int_t                       rc;
    llmb_ledger_rc_e                result;
    ngx_http_llm_budget_store_t    *zone;
    ngx_http_llm_budget_closing_t   closing;

    ctx->pending = 0;
    ngx_queue_remove(&ctx->live);

    if (ctx->open->n == 0) {
        return;
    }

    ngx_http_llm_budget_closing(ctx, &closing);
    closing.actual = actual;

    if (ctx->outage == NGX_HTTP_LLM_BUDGET_OUTAGE_LOCAL) {
        zone = ctx->lmcf->zone;

        if (actual) {
            (void) zone->post(zone->data, &closing, &result);

        } else {
            (void) zone->void_hold(zone->data, &closing, &result);
        }
    }

    if (actual) {
        rc = ctx->store->post(ctx->store->data, &closing, &result);

    } else if (ctx->outage == NGX_HTTP_LLM_BUDGET_OUTAGE_NONE || ctx->unsure) {
        rc = ctx->store->void_hold(ctx->store->data, &closing, &result);

    } else {
        return;
    }

    /* this is its one end: a void could come before the post that is late */

    ctx->unsure = 0;

    if (rc == NGX_OK) {
        ngx_http_llm_budget_closed(ctx, result);

    } else if (rc == NGX_ERROR) {
        ctx->flags |= NGX_HTTP_LLM_BUDGET_FLAG_CHARGE_LOST;
    }
}


static void
ngx_http_llm_budget_closing(ngx_http_llm_budget_ctx_t *ctx,
    ngx_http_llm_budget_closing_t *closing)
{
    ngx_memzero(closing, sizeof(ngx_http_llm_budget_closing_t));

    closing->id = ctx->id;
    closing->tag.data = ctx->tag;
    closing->tag.len = ctx->tag_len;
    closing->leg = ctx->charge->leg;
    closing->n = ctx->charge->n;
    closing->unknown = (ctx->outage != NGX_HTTP_LLM_BUDGET_OUTAGE_NONE);
}


void
ngx_http_llm_budget_abandon(ngx_http_llm_budget_ctx_t *ctx)
{
    llmb_ledger_rc_e               result;
    ngx_http_llm_budget_closing_t  closing;

    if (ctx->call && ctx->call->op) {
        ctx->end = "aborted";
        ctx->store->cancel(ctx->store->data, ctx->call);
    }

    if (!ctx->unsure || ctx->pending) {
        return;
    }

    ctx->unsure = 0;

    ngx_http_llm_budget_closing(ctx, &closing);
    (void) ctx->store->void_hold(ctx->store->data, &closing, &result);
}


/* the line says what the ledger did, also where expiry was faster */

static void
ngx_http_llm_budget_closed(ngx_http_llm_budget_ctx_t *ctx,
    llmb_ledger_rc_e rc)
{
    if (rc == LLMB_LEDGER_OK) {
        return;
    }

    if (rc == LLMB_LEDGER_BAD) {
        ngx_log_error(NGX_LOG_ALERT, ctx->request->connection->log, 0,
                      "llm_budget: the ledger refused to close a hold");
    }

    ctx->flags |= NGX_HTTP_LLM_BUDGET_FLAG_EXPIRED;
    ctx->source = NGX_HTTP_LLM_BUDGET_SOURCE_HOLD;
    ctx->cost.total = 0;

    if (ctx->lmcf->expire
        && ctx->llcf->reserve != NGX_HTTP_LLM_BUDGET_RESERVE_OFF)
    {
        ctx->cost.total = ctx->estimate.nusd;
    }

    ngx_log_error(NGX_LOG_WARN, ctx->request->connection->log, 0,
                  "llm_budget: the hold expired before its request ended: "
                  "llm_budget_hold_timeout is too short");
}


void
ngx_http_llm_budget_keep(ngx_http_llm_budget_ctx_t *ctx)
{
    int64_t                       now_ms, timeout;
    llmb_str_t                    tag;
    ngx_http_llm_budget_store_t  *store;

    if (!ctx->pending || ctx->open->n == 0) {
        return;
    }

    store = ctx->store;
    now_ms = store->now(store->data);
    timeout = (int64_t) ctx->llcf->hold_timeout;

    /* three times before it is due: a store may be away for one of them */

    if (ctx->deadline_ms - now_ms > timeout / 4 * 3) {
        return;
    }

    ctx->deadline_ms = now_ms + timeout;

    tag.data = ctx->tag;
    tag.len = ctx->tag_len;

    if (ctx->outage == NGX_HTTP_LLM_BUDGET_OUTAGE_LOCAL) {
        ctx->lmcf->zone->extend(ctx->lmcf->zone->data, ctx->id, &tag, timeout);
    }

    if (ctx->outage == NGX_HTTP_LLM_BUDGET_OUTAGE_NONE || ctx->unsure) {
        store->extend(store->data, ctx->id, &tag, timeout);
    }
}
