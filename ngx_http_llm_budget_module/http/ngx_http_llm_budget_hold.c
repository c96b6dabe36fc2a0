
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Opening a hold: price, estimate, the accounts of all limits in one atomic
 * step; too little room walks the ladder: degrade, clamp, deny.
 */


#include "http/ngx_http_llm_budget_hold.h"
#include "http/ngx_http_llm_budget_ladder.h"
#include "http/ngx_http_llm_budget_outage.h"
#include "http/ngx_http_llm_budget_settle.h"


/* attempts beyond one per rung: the first, and clamps that others outran */
#define NGX_HTTP_LLM_BUDGET_TRIES   4

/* seconds to wait when only holds stand in the way */
#define NGX_HTTP_LLM_BUDGET_SOON    2


static ngx_int_t ngx_http_llm_budget_attempts(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_answered(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_int_t answer);
static ngx_int_t ngx_http_llm_budget_admitted(ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_no_room(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static llmb_deny_e ngx_http_llm_budget_why(ngx_http_llm_budget_ctx_t *ctx,
    unsigned *leg);


ngx_int_t
ngx_http_llm_budget_hold(ngx_http_request_t *r, ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_int_t   rc;
    ngx_str_t   model, text;
    llmb_str_t  tag;

    ctx->open = ngx_palloc(r->pool, sizeof(llmb_ledger_open_t));
    if (ctx->open == NULL) {
        return NGX_ERROR;
    }

    ctx->usage = ngx_pcalloc(r->pool, sizeof(llmb_usage_t));
    if (ctx->usage == NULL) {
        return NGX_ERROR;
    }

    ctx->call = ngx_pcalloc(r->pool, sizeof(ngx_http_llm_budget_call_t));
    if (ctx->call == NULL) {
        return NGX_ERROR;
    }

    ngx_str_null(&text);

    if (ctx->llcf->tag
        && ngx_http_complex_value(r, ctx->llcf->tag, &text) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_llm_budget_store_tag(ctx->tag, &text, &tag);
    ctx->tag_len = tag.len;

    ngx_memcpy(ctx->open->id, ctx->id, LLMB_LEDGER_ID);

    ctx->store = ctx->llcf->store;
    ctx->charge = ctx->open;

    ctx->call->open = ctx->open;
    ctx->call->tag = tag;
    ctx->call->timeout_ms = (int64_t) ctx->llcf->hold_timeout;
    ctx->call->data = ctx;

    model.data = ctx->req->model;
    model.len = ctx->req->model_len;

    rc = ngx_http_llm_budget_set_model(r, ctx, &model);

    if (rc != NGX_OK) {
        return rc;
    }

    ctx->verdict = LLMB_VERDICT_ALLOW;

    return ngx_http_llm_budget_attempts(r, ctx);
}


ngx_int_t
ngx_http_llm_budget_hold_resume(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ngx_http_llm_budget_answered(r, ctx, ctx->call_rc);

    return (rc == NGX_BUSY) ? ngx_http_llm_budget_attempts(r, ctx) : rc;
}


/* openings of the hold, until one is answered for good, or has to wait */

static ngx_int_t
ngx_http_llm_budget_attempts(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_int_t                     rc;
    ngx_http_llm_budget_store_t  *store;

    while (ctx->tries++
           < NGX_HTTP_LLM_BUDGET_RUNGS + NGX_HTTP_LLM_BUDGET_TRIES)
    {
        if (llmb_price_estimate(&ctx->llcf->estimate, ctx->price, ctx->req,
                                ctx->clamp, &ctx->estimate)
            != LLMB_OK)
        {
            ngx_http_llm_budget_hold_refuse(ctx, NGX_HTTP_BAD_REQUEST,
                                            "request_invalid",
                                            "The request asks for more than "
                                            "can be priced.");
            return NGX_DECLINED;
        }

        rc = ngx_http_llm_budget_legs(r, ctx,
                                      ctx->store->now(ctx->store->data));
        if (rc != NGX_OK) {
            return rc;
        }

        if (ctx->open->n == 0) {

            /* no limit applies: nothing to hold, and nobody would close it */

            return ngx_http_llm_budget_admitted(ctx);
        }

        store = ngx_http_llm_budget_outage_store(r, ctx);
        if (store == NULL) {
            return NGX_ERROR;
        }

        rc = store->open(store->data, ctx->call);

        if (rc == NGX_AGAIN) {
            return NGX_AGAIN;
        }

        rc = ngx_http_llm_budget_answered(r, ctx, rc);

        if (rc != NGX_BUSY) {
            return rc;
        }
    }

    return ngx_http_llm_budget_no_room(r, ctx);
}


/* the store's answer to an opening; NGX_BUSY: the next attempt may differ */

static ngx_int_t
ngx_http_llm_budget_answered(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_int_t answer)
{
    ngx_int_t         rc;
    llmb_ledger_rc_e  result;

    if (answer != NGX_OK) {
        ctx->unsure |= ctx->call->unsure;

        rc = ngx_http_llm_budget_outage(r, ctx);

        return (rc == NGX_OK) ? ngx_http_llm_budget_admitted(ctx) : rc;
    }

    if (ctx->call->late) {
        return NGX_BUSY;
    }

    result = ctx->call->rc;

    switch (result) {

    case LLMB_LEDGER_OK:
        return ngx_http_llm_budget_admitted(ctx);

    case LLMB_LEDGER_DEGRADE:
    case LLMB_LEDGER_DENIED:

        ctx->decided = ctx->leg_limit[ctx->open->denied];

        rc = ngx_http_llm_budget_next_rung(r, ctx,
                                           result == LLMB_LEDGER_DENIED);

        if (rc == NGX_DECLINED && result == LLMB_LEDGER_DENIED) {
            rc = ngx_http_llm_budget_clamp_down(ctx);
        }

        if (rc == NGX_OK) {
            return NGX_BUSY;
        }

        return (rc == NGX_DECLINED) ? ngx_http_llm_budget_no_room(r, ctx) : rc;

    case LLMB_LEDGER_FULL:
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "llm_budget: zone \"%V\" is full: enlarge it",
                      &ctx->lmcf->shm_zone->shm.name);
        break;

    case LLMB_LEDGER_UNKNOWN:
    case LLMB_LEDGER_CLOSED:
    case LLMB_LEDGER_BAD:
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "llm_budget: the ledger refused a hold: %d",
                      (int) result);
        break;
    }

    ngx_http_llm_budget_hold_refuse(ctx, NGX_HTTP_SERVICE_UNAVAILABLE,
                                    "store_unavailable",
                                    "Budgets cannot be checked at the "
                                    "moment.");
    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_llm_budget_admitted(ngx_http_llm_budget_ctx_t *ctx)
{
    if (ctx->llcf->reserve == NGX_HTTP_LLM_BUDGET_RESERVE_BOUND
        && (!ctx->estimate.bounded
            || (ctx->dialect == LLMB_DIALECT_COMPLETIONS
                && ctx->clamp < 0 && !ctx->req->max_tokens.is_set)))
    {
        /*
         * Nothing else bounds it, or a default that not all providers have:
         * write the ceiling that was held.
         */

        ctx->clamp = ctx->estimate.ceiling;
    }

    ctx->opened_ms = ctx->store->now(ctx->store->data);
    ctx->deadline_ms = ctx->opened_ms + ctx->call->timeout_ms;

    ngx_http_llm_budget_pend(ctx);

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_budget_reprice(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    llmb_rc_e            rc;
    llmb_str_t          *provider;
    llmb_estimate_t      estimate;
    const llmb_price_t  *price;

    provider = ctx->provider ? ngx_http_llm_budget_view(&ctx->provider->name)
                             : NULL;

    price = llmb_price_find(&ctx->lmcf->prices,
                            ngx_http_llm_budget_view(&ctx->model), provider);

    if (price == ctx->price) {
        return NGX_OK;
    }

    if (price == NULL) {

        /* what it costs there is unknown, and unknown is never cheap */

        return ctx->llcf->unknown_model.len ? NGX_OK : NGX_DECLINED;
    }

    if (ctx->llcf->reserve == NGX_HTTP_LLM_BUDGET_RESERVE_OFF) {

        /* nothing is held that it could exceed */

        ctx->price = price;
        return NGX_OK;
    }

    estimate.nusd = INT64_MAX;

    rc = llmb_price_estimate(&ctx->llcf->estimate, price, ctx->req, ctx->clamp,
                             &estimate);

    if (rc == LLMB_OK
        && ctx->llcf->reserve == NGX_HTTP_LLM_BUDGET_RESERVE_BOUND
        && (!estimate.bounded || estimate.ceiling > ctx->estimate.ceiling))
    {
        /* this entry bounds the output less than the first: write its bound */

        ctx->clamp = ctx->estimate.ceiling;

        rc = llmb_price_estimate(&ctx->llcf->estimate, price, ctx->req,
                                 ctx->clamp, &estimate);
    }

    if (rc != LLMB_OK || estimate.nusd > ctx->estimate.nusd) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "llm_budget: the fallback could cost %L nano-USD for "
                      "\"%V\", but %L are held", estimate.nusd, &ctx->model,
                      ctx->estimate.nusd);
        return NGX_DECLINED;
    }

    ctx->price = price;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_budget_set_model(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_str_t *model)
{
    u_char                          *p;
    llmb_str_t                      *provider;
    ngx_http_llm_budget_refusal_t   *refusal;
    ngx_http_llm_budget_loc_conf_t  *llcf;

    llcf = ctx->llcf;
    ctx->model = *model;

    provider = ctx->provider ? ngx_http_llm_budget_view(&ctx->provider->name)
                             : NULL;

    ctx->price = llmb_price_find(&ctx->lmcf->prices,
                                 ngx_http_llm_budget_view(model), provider);

    if (ctx->price == NULL && llcf->unknown_model.len) {
        ctx->price = llmb_price_find(&ctx->lmcf->prices,
                               ngx_http_llm_budget_view(&llcf->unknown_model),
                               NULL);
        ctx->flags |= NGX_HTTP_LLM_BUDGET_FLAG_MODEL_UNPRICED;
    }

    if (ctx->price) {
        return NGX_OK;
    }

    ngx_http_llm_budget_hold_refuse(ctx, NGX_HTTP_BAD_REQUEST,
                                    "model_unpriced", "");

    refusal = &ctx->refusal;
    ngx_str_set(&refusal->param, "model");

    p = ngx_pnalloc(r->pool, sizeof("Model \"\" has no price here.")
                             + model->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    refusal->message.data = p;
    refusal->message.len = (size_t)
                           (ngx_sprintf(p, "Model \"%V\" has no price here.",
                                        model)
                            - p);

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_llm_budget_no_room(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    u_char                         *p;
    size_t                          len;
    int64_t                         now_ms, left_ms;
    unsigned                        i;
    u_char                          time[LLMB_PERIOD_TIME_LEN];
    llmb_deny_e                     why;
    const char                     *text;
    ngx_http_llm_budget_limit_t    *limit;
    ngx_http_llm_budget_refusal_t  *refusal;

    static const char *const  messages[] = {
        "The budget \"%V\" has no room for this request.",
        "The budget \"%V\" is used up until %*s.",
        "The budget \"%V\" is held by requests in flight; wait for them.",
        "This request alone is larger than the budget \"%V\".",
        "The requests of \"%V\" are used up until %*s.",
        "The tokens of \"%V\" are used up until %*s.",
        "Too many requests of \"%V\" are in flight; wait for them."
    };

    i = 0;
    now_ms = ctx->store->now(ctx->store->data);
    why = ngx_http_llm_budget_why(ctx, &i);

    limit = ctx->leg_limit[i];
    refusal = &ctx->refusal;

    ngx_http_llm_budget_hold_refuse(ctx, ctx->llcf->deny_status,
                                    why == LLMB_DENY_NONE
                                    ? "budget_hold_contention"
                                    : llmb_deny_code(why), "");

    ctx->decided = limit;
    refusal->limit = limit;
    refusal->leg = &ctx->open->leg[i];

    if (limit->code.len) {
        refusal->code = limit->code;
    }

    if (refusal->leg->end_ms == INT64_MAX) {
        len = (size_t) (ngx_cpymem(time, "further notice",
                                   sizeof("further notice") - 1)
                        - time);

    } else {
        len = llmb_period_format(time, refusal->leg->end_ms);
    }

    p = ngx_pnalloc(r->pool, 128 + limit->name.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    text = messages[why];

    if (why == LLMB_DENY_BUDGET && refusal->leg->spent < refusal->leg->limit) {
        text = "The budget \"%V\" has too little left for this request until "
               "%*s.";
    }

    refusal->message.data = p;
    refusal->message.len = (size_t)
                           (ngx_snprintf(p, 128 + limit->name.len, text,
                                         &limit->name, len, time)
                            - p);

    if (why == LLMB_DENY_NONE || why == LLMB_DENY_CONTENTION
        || why == LLMB_DENY_CONCURRENCY)
    {
        refusal->retry = NGX_HTTP_LLM_BUDGET_SOON;

    } else if (why != LLMB_DENY_TOO_LARGE
               && refusal->leg->end_ms != INT64_MAX)
    {
        /* the period may have ended while the store was asked */

        left_ms = ngx_max(refusal->leg->end_ms - now_ms, 1);
        refusal->retry = (ngx_uint_t) ((left_ms + 999) / 1000);
    }

    return NGX_DECLINED;
}


/*
 * Why there is no room, for the smallest answer that a clamp would have let
 * in: what a clamp fits into an unused budget is not too large for it.
 */

static llmb_deny_e
ngx_http_llm_budget_why(ngx_http_llm_budget_ctx_t *ctx, unsigned *leg)
{
    ngx_int_t        floor;
    llmb_deny_e      why;
    llmb_estimate_t  asked;

    floor = ngx_http_llm_budget_clamp_floor(ctx);

    if (floor == NGX_DECLINED) {
        return llmb_policy_deny(ctx->open->leg, ctx->open->n, leg);
    }

    asked = ctx->estimate;

    if (llmb_price_estimate(&ctx->llcf->estimate, ctx->price, ctx->req, floor,
                            &ctx->estimate)
        == LLMB_OK)
    {
        ngx_http_llm_budget_amounts(ctx);
    }

    why = llmb_policy_deny(ctx->open->leg, ctx->open->n, leg);

    ctx->estimate = asked;
    ngx_http_llm_budget_amounts(ctx);

    return why;
}


void
ngx_http_llm_budget_hold_refuse(ngx_http_llm_budget_ctx_t *ctx,
    ngx_uint_t status, const char *code, const char *message)
{
    ngx_http_llm_budget_refusal_t  *refusal;

    refusal = &ctx->refusal;
    ngx_memzero(refusal, sizeof(ngx_http_llm_budget_refusal_t));

    refusal->status = status;
    refusal->code.data = (u_char *) (uintptr_t) code;
    refusal->code.len = ngx_strlen(code);
    refusal->message.data = (u_char *) (uintptr_t) message;
    refusal->message.len = ngx_strlen(message);
}
