
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The context of a request and the end of its hold: what an answer cost, by
 * how it ended.
 */


#include "http/ngx_http_llm_budget_identity.h"
#include "http/ngx_http_llm_budget_inflate.h"
#include "http/ngx_http_llm_budget_settle.h"
#include "http/ngx_http_llm_budget_store.h"


static void ngx_http_llm_budget_cleanup(void *data);
static void ngx_http_llm_budget_close_answered(
    ngx_http_llm_budget_ctx_t *ctx);
static void ngx_http_llm_budget_post(ngx_http_llm_budget_ctx_t *ctx,
    ngx_http_llm_budget_source_e source);
static void ngx_http_llm_budget_post_guess(ngx_http_llm_budget_ctx_t *ctx,
    ngx_uint_t known);
static void ngx_http_llm_budget_post_hold(ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_cost(ngx_http_llm_budget_ctx_t *ctx);
static void ngx_http_llm_budget_void(ngx_http_llm_budget_ctx_t *ctx);
static void ngx_http_llm_budget_closed(ngx_http_llm_budget_ctx_t *ctx,
    llmb_ledger_rc_e rc);
static ngx_uint_t ngx_http_llm_budget_client_gone(ngx_http_request_t *r);


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
    }
}


void
ngx_http_llm_budget_settle(ngx_http_llm_budget_ctx_t *ctx)
{
    llmb_rc_e  rc;

    if (!ctx->pending || !(ctx->reader->seen & LLMB_SEEN_FINAL)) {
        return;
    }

    rc = llmb_usage_result(ctx->reader, ctx->req->cache_1h, ctx->usage);

    if (rc == LLMB_OK) {
        ctx->end = "complete";
        ngx_http_llm_budget_post(ctx, NGX_HTTP_LLM_BUDGET_SOURCE_PROVIDER);
    }

    /* rc == LLMB_DECLINED: the end of the answer decides */
}


void
ngx_http_llm_budget_close(ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_http_request_t   *r;
    ngx_http_upstream_t  *u;

    ngx_http_llm_budget_inflate_end(ctx);

    if (!ctx->pending) {
        return;
    }

    r = ctx->request;
    u = r->upstream;

    if (ctx->answered) {
        ngx_http_llm_budget_close_answered(ctx);
        return;
    }

    if (u && u->request_body_sent && u->headers_in.status_n < 300) {

        /* sent but never answered: the provider may bill the prompt (T37) */

        ctx->end = ngx_http_llm_budget_client_gone(r) ? "aborted"
                                                      : "upstream_lost";
        ngx_http_llm_budget_post_guess(ctx, 0);
        return;
    }

    ctx->end = (u && u->headers_in.status_n >= 300) ? "upstream_error"
                                                    : "not_sent";
    ngx_http_llm_budget_void(ctx);
}


static void
ngx_http_llm_budget_close_answered(ngx_http_llm_budget_ctx_t *ctx)
{
    llmb_rc_e             rc;
    llmb_usage_reader_t  *reader;

    reader = ctx->reader;

    if (reader == NULL) {
        ngx_http_llm_budget_void(ctx);
        return;
    }

    if (!ctx->ended) {
        ctx->ended = 1;
        llmb_usage_end(reader);
    }

    rc = llmb_usage_result(reader, ctx->req->cache_1h, ctx->usage);

    if (rc == LLMB_OK && (ctx->complete || (reader->seen & LLMB_SEEN_FINAL))) {
        ctx->end = (reader->seen & LLMB_SEEN_ERROR) ? "error_event"
                                                    : "complete";
        ngx_http_llm_budget_post(ctx, NGX_HTTP_LLM_BUDGET_SOURCE_PROVIDER);
        return;
    }

    if ((reader->seen & LLMB_SEEN_ERROR) && rc != LLMB_OK) {
        ctx->end = "error_event";

        if (reader->seen & LLMB_SEEN_CONTENT) {
            ngx_http_llm_budget_post_guess(ctx, 0);

        } else {
            /* an error inside a 200, before anything was generated (T44) */

            ngx_http_llm_budget_void(ctx);
        }

        return;
    }

    if (ctx->complete) {

        /* the whole answer, and no usage in it: unknown is never zero */

        ctx->end = "complete";
        ngx_http_llm_budget_post_hold(ctx);
        return;
    }

    ctx->end = ngx_http_llm_budget_client_gone(ctx->request) ? "aborted"
                                                             : "upstream_cut";

    if (ctx->flags & NGX_HTTP_LLM_BUDGET_FLAG_COMPRESSED) {

        /* what passed could not be read */

        ngx_http_llm_budget_post_hold(ctx);
        return;
    }

    ngx_http_llm_budget_post_guess(ctx, rc == LLMB_OK);
}


static void
ngx_http_llm_budget_post(ngx_http_llm_budget_ctx_t *ctx,
    ngx_http_llm_budget_source_e source)
{
    int64_t                       actual[LLMB_UNITS], *input, *output;
    unsigned                      i;
    llmb_usage_t                 *usage;
    llmb_ledger_rc_e              rc;
    ngx_http_llm_budget_store_t  *store;

    usage = ctx->usage;

    if (source != NGX_HTTP_LLM_BUDGET_SOURCE_HOLD
        && ngx_http_llm_budget_cost(ctx) != NGX_OK)
    {
        ctx->flags |= NGX_HTTP_LLM_BUDGET_FLAG_COST_OVERFLOW;
        ngx_http_llm_budget_post_hold(ctx);
        return;
    }

    ctx->source = source;

    ngx_memzero(actual, sizeof(actual));

    input = &actual[LLMB_UNIT_INPUT_TOKENS];
    output = &actual[LLMB_UNIT_OUTPUT_TOKENS];

    *input = usage->counts.n[LLMB_USAGE_INPUT];
    *output = usage->counts.n[LLMB_USAGE_OUTPUT];

    for (i = 0; i < usage->n_extra; i++) {
        *input += usage->extra[i].counts.n[LLMB_USAGE_INPUT];
        *output += usage->extra[i].counts.n[LLMB_USAGE_OUTPUT];
    }

    actual[LLMB_UNIT_TOKENS] = *input + *output;
    actual[LLMB_UNIT_USD] = ctx->cost.total;
    actual[LLMB_UNIT_REQUESTS] = 1;

    ctx->pending = 0;

    if (ctx->open->n == 0) {
        return;
    }

    store = ctx->lmcf->store;

    if (store->post(store->data, ctx->id, actual, ngx_http_llm_budget_now(),
                    &rc)
        == NGX_OK)
    {
        ngx_http_llm_budget_closed(ctx, rc);
    }
}


/*
 * Cut short: what is known of the input, and the output that passed; known:
 * the provider has already said something of the usage (T03).
 */

static void
ngx_http_llm_budget_post_guess(ngx_http_llm_budget_ctx_t *ctx,
    ngx_uint_t known)
{
    int64_t        *n;
    llmb_usage_t    guess;
    unsigned        i;

    ngx_memzero(&guess, sizeof(llmb_usage_t));

    llmb_price_guess(&ctx->llcf->estimate, ctx->req, &ctx->estimate,
                     ctx->reader ? ctx->reader->content_bytes : 0,
                     ctx->reader ? ctx->reader->content_deltas : 0, &guess);

    if (!known) {
        guess.model_len = ctx->usage->model_len;
        ngx_memcpy(guess.model, ctx->usage->model, ctx->usage->model_len);
        *ctx->usage = guess;

    } else {
        n = ctx->usage->counts.n;
        i = LLMB_USAGE_OUTPUT;

        if (n[i] < guess.counts.n[i]) {
            n[i] = guess.counts.n[i];
            ctx->usage->counts.present |= (1u << i);
        }
    }

    ngx_http_llm_budget_post(ctx, NGX_HTTP_LLM_BUDGET_SOURCE_ESTIMATED);
}


static void
ngx_http_llm_budget_post_hold(ngx_http_llm_budget_ctx_t *ctx)
{
    llmb_usage_t  *usage;

    usage = ctx->usage;

    usage->n_extra = 0;
    ngx_memzero(&usage->counts, sizeof(llmb_usage_counts_t));

    usage->counts.n[LLMB_USAGE_INPUT] = ctx->estimate.input;
    usage->counts.n[LLMB_USAGE_OUTPUT] = ctx->estimate.output;

    ctx->cost.total = ctx->estimate.nusd;
    ctx->priced = ctx->price;

    ngx_http_llm_budget_post(ctx, NGX_HTTP_LLM_BUDGET_SOURCE_HOLD);
}


/* the model that served is priced, if it has a price (T19) */

static ngx_int_t
ngx_http_llm_budget_cost(ngx_http_llm_budget_ctx_t *ctx)
{
    llmb_str_t           tier, served, *provider;
    llmb_usage_t        *usage;
    const llmb_price_t  *price;

    usage = ctx->usage;
    price = NULL;

    if (usage->model_len) {
        served.data = usage->model;
        served.len = usage->model_len;

        provider = ctx->provider
                   ? ngx_http_llm_budget_view(&ctx->provider->name) : NULL;

        price = llmb_price_find(&ctx->lmcf->prices, &served, provider);

        if (price == NULL) {
            ctx->flags |= NGX_HTTP_LLM_BUDGET_FLAG_MODEL_UNPRICED;
        }
    }

    ctx->priced = price ? price : ctx->price;

    tier.data = usage->tier;
    tier.len = usage->tier_len;

    if (tier.len == 0) {
        tier.data = ctx->req->tier;
        tier.len = ctx->req->tier_len;
    }

    return llmb_price_cost(&ctx->lmcf->prices, ctx->priced, &tier, usage,
                           &ctx->cost)
           == LLMB_OK ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_llm_budget_void(ngx_http_llm_budget_ctx_t *ctx)
{
    llmb_ledger_rc_e              rc;
    ngx_http_llm_budget_store_t  *store;

    ctx->pending = 0;
    ctx->cost.total = 0;
    ctx->source = NGX_HTTP_LLM_BUDGET_SOURCE_NONE;

    if (ctx->usage) {
        ctx->usage->n_extra = 0;
        ngx_memzero(&ctx->usage->counts, sizeof(llmb_usage_counts_t));
    }

    if (ctx->open->n == 0) {
        return;
    }

    store = ctx->lmcf->store;

    if (store->close(store->data, ctx->id, ngx_http_llm_budget_now(), &rc)
        == NGX_OK)
    {
        ngx_http_llm_budget_closed(ctx, rc);
    }
}


/* the line says what the ledger did, also where expiry was faster */

static void
ngx_http_llm_budget_closed(ngx_http_llm_budget_ctx_t *ctx,
    llmb_ledger_rc_e rc)
{
    if (rc == LLMB_LEDGER_OK) {
        return;
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
    llmb_ledger_rc_e              rc;
    ngx_http_llm_budget_store_t  *store;

    if (!ctx->pending || ctx->open->n == 0) {
        return;
    }

    now_ms = ngx_http_llm_budget_now();
    timeout = (int64_t) ctx->llcf->hold_timeout;

    if (ctx->deadline_ms - now_ms > timeout / 2) {
        return;
    }

    ctx->deadline_ms = now_ms + timeout;
    store = ctx->lmcf->store;

    (void) store->extend(store->data, ctx->id, ctx->deadline_ms, &rc);
}


static ngx_uint_t
ngx_http_llm_budget_client_gone(ngx_http_request_t *r)
{
    ngx_connection_t  *c;

    c = r->connection;

    return c->error || c->timedout || c->read->timedout || c->write->timedout
           || r->headers_out.status == NGX_HTTP_CLIENT_CLOSED_REQUEST;
}
