
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Opening a hold: price, estimate, the accounts of all limits in one atomic
 * step; too little room walks the ladder: degrade, clamp, deny.
 */


#include "http/ngx_http_llm_budget_hold.h"
#include "http/ngx_http_llm_budget_ladder.h"
#include "http/ngx_http_llm_budget_store.h"

#include "core/llmb_money.h"


/* attempts beyond one per rung: the first, and clamps that others outran */
#define NGX_HTTP_LLM_BUDGET_TRIES   4

/* seconds to wait when only holds stand in the way */
#define NGX_HTTP_LLM_BUDGET_SOON    2


static ngx_int_t ngx_http_llm_budget_legs(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, int64_t now_ms);
static ngx_int_t ngx_http_llm_budget_leg(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_http_llm_budget_limit_t *limit,
    llmb_unit_e unit, ngx_str_t *value, int64_t amount, int64_t now_ms);
static ngx_int_t ngx_http_llm_budget_limit_now(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_http_llm_budget_limit_t *limit,
    llmb_unit_e unit, int64_t *amount);
static void ngx_http_llm_budget_amounts(ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_no_room(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, int64_t now_ms);
static void ngx_http_llm_budget_hold_refuse(ngx_http_llm_budget_ctx_t *ctx,
    ngx_uint_t status, const char *code, const char *message);


ngx_int_t
ngx_http_llm_budget_hold(ngx_http_request_t *r, ngx_http_llm_budget_ctx_t *ctx)
{
    int64_t                       now_ms;
    ngx_int_t                     rc;
    ngx_str_t                     model;
    ngx_uint_t                    tries;
    llmb_ledger_rc_e              result;
    ngx_http_llm_budget_store_t  *store;

    ctx->open = ngx_palloc(r->pool, sizeof(llmb_ledger_open_t));
    if (ctx->open == NULL) {
        return NGX_ERROR;
    }

    ctx->usage = ngx_pcalloc(r->pool, sizeof(llmb_usage_t));
    if (ctx->usage == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(ctx->open->id, ctx->id, LLMB_LEDGER_ID);

    model.data = ctx->req->model;
    model.len = ctx->req->model_len;

    rc = ngx_http_llm_budget_set_model(r, ctx, &model);

    if (rc != NGX_OK) {
        return rc;
    }

    ctx->verdict = LLMB_VERDICT_ALLOW;
    store = ctx->lmcf->store;

    for (tries = 0;
         tries < NGX_HTTP_LLM_BUDGET_RUNGS + NGX_HTTP_LLM_BUDGET_TRIES;
         tries++)
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

        now_ms = ngx_http_llm_budget_now();

        rc = ngx_http_llm_budget_legs(r, ctx, now_ms);

        if (rc != NGX_OK) {
            return rc;
        }

        ctx->deadline_ms = now_ms + (int64_t) ctx->llcf->hold_timeout;

        if (ctx->open->n == 0) {

            /* no limit applies: nothing to hold, and nobody would close it */

            result = LLMB_LEDGER_OK;

        } else if (store->open(store->data, ctx->open, now_ms,
                               ctx->deadline_ms, &result)
                   != NGX_OK)
        {
            result = LLMB_LEDGER_UNKNOWN;
        }

        switch (result) {

        case LLMB_LEDGER_OK:

            if (ctx->llcf->reserve == NGX_HTTP_LLM_BUDGET_RESERVE_BOUND
                && !ctx->estimate.bounded)
            {
                /* nothing else bounds it: write the ceiling that was held */

                ctx->clamp = ctx->estimate.ceiling;
            }

            ctx->pending = 1;
            ctx->opened_ms = now_ms;

            return NGX_OK;

        case LLMB_LEDGER_DEGRADE:
        case LLMB_LEDGER_DENIED:

            rc = ngx_http_llm_budget_next_rung(r, ctx,
                                               result == LLMB_LEDGER_DENIED);

            if (rc == NGX_DECLINED && result == LLMB_LEDGER_DENIED) {
                rc = ngx_http_llm_budget_clamp_down(ctx);
            }

            if (rc == NGX_OK) {
                continue;
            }

            return (rc == NGX_DECLINED)
                   ? ngx_http_llm_budget_no_room(r, ctx, now_ms) : rc;

        case LLMB_LEDGER_FULL:
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "llm_budget: zone \"%V\" is full: enlarge it",
                          &ctx->lmcf->shm_zone->shm.name);

            /* fall through */

        case LLMB_LEDGER_UNKNOWN:
        case LLMB_LEDGER_CLOSED:
        case LLMB_LEDGER_BAD:

            if (result == LLMB_LEDGER_BAD || result == LLMB_LEDGER_CLOSED) {
                ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                              "llm_budget: the ledger refused a hold: %d",
                              (int) result);
            }

            ngx_http_llm_budget_hold_refuse(ctx,
                                            NGX_HTTP_SERVICE_UNAVAILABLE,
                                            "store_unavailable",
                                            "Budgets cannot be checked at the "
                                            "moment.");
            return NGX_DECLINED;
        }
    }

    return ngx_http_llm_budget_no_room(r, ctx, ngx_http_llm_budget_now());
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


/* the accounts of all limits, with what this attempt would hold on each */

static ngx_int_t
ngx_http_llm_budget_legs(ngx_http_request_t *r, ngx_http_llm_budget_ctx_t *ctx,
    int64_t now_ms)
{
    int64_t                       amount;
    ngx_int_t                     rc;
    ngx_str_t                     value;
    ngx_uint_t                    i, unit;
    ngx_http_llm_budget_limit_t  *limit;

    ctx->open->n = 0;

    if (ctx->llcf->limits == NULL) {
        return NGX_OK;
    }

    limit = ctx->llcf->limits->elts;

    for (i = 0; i < ctx->llcf->limits->nelts; i++) {

        value = ctx->key_id;

        if (limit[i].key
            && ngx_http_complex_value(r, limit[i].key, &value) != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (value.len == 0) {
            continue;
        }

        for (unit = 0; unit < LLMB_UNITS; unit++) {

            rc = ngx_http_llm_budget_limit_now(r, ctx, &limit[i],
                                               (llmb_unit_e) unit, &amount);
            if (rc == NGX_DONE) {
                continue;
            }

            if (rc != NGX_OK) {
                return rc;
            }

            rc = ngx_http_llm_budget_leg(r, ctx, &limit[i],
                                         (llmb_unit_e) unit, &value, amount,
                                         now_ms);
            if (rc != NGX_OK) {
                return rc;
            }
        }
    }

    ngx_http_llm_budget_amounts(ctx);

    return NGX_OK;
}


/* a limit's amount for this request; NGX_DONE: the limit has no such unit */

static ngx_int_t
ngx_http_llm_budget_limit_now(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_http_llm_budget_limit_t *limit,
    llmb_unit_e unit, int64_t *amount)
{
    ngx_str_t  text;

    if (limit->fixed[unit] >= 0) {
        *amount = limit->fixed[unit];
        return NGX_OK;
    }

    if (limit->amount[unit] == NULL) {
        return NGX_DONE;
    }

    if (ngx_http_complex_value(r, limit->amount[unit], &text) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_llm_budget_amount(unit, &text, amount) == NGX_OK) {
        return NGX_OK;
    }

    /* unknown is neither zero nor unlimited (T30) */

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "llm_budget: limit \"%V\" has an invalid %s amount \"%V\"",
                  &limit->name, llmb_unit_name(unit), &text);

    ngx_http_llm_budget_hold_refuse(ctx, NGX_HTTP_SERVICE_UNAVAILABLE,
                                    "limit_invalid",
                                    "A budget of this request is not set up "
                                    "correctly.");
    ctx->refusal.limit = limit;

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_llm_budget_leg(ngx_http_request_t *r, ngx_http_llm_budget_ctx_t *ctx,
    ngx_http_llm_budget_limit_t *limit, llmb_unit_e unit, ngx_str_t *value,
    int64_t amount, int64_t now_ms)
{
    u_char                      *p;
    size_t                       len;
    int64_t                      at;
    unsigned                     n;
    ngx_str_t                    text;
    llmb_str_t                   parts[5];
    ngx_uint_t                   i;
    llmb_period_t                period;
    llmb_ledger_leg_t           *leg;
    ngx_http_llm_budget_rung_t  *rung;

    n = ctx->open->n;

    if (n == LLMB_LEDGER_LEGS
        || llmb_period_at(limit->period, now_ms, &period) != LLMB_OK)
    {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "llm_budget: limit \"%V\" cannot be applied",
                      &limit->name);
        return NGX_ERROR;
    }

    text.data = (u_char *) (uintptr_t) llmb_unit_name(unit);
    text.len = ngx_strlen(text.data);

    parts[0] = *ngx_http_llm_budget_view(&limit->name);
    parts[1] = *ngx_http_llm_budget_view(&text);
    parts[2].data = (u_char *) (uintptr_t) llmb_period_name(limit->period);
    parts[2].len = ngx_strlen(parts[2].data);
    parts[3].data = period.id;
    parts[3].len = period.id_len;
    parts[4] = *ngx_http_llm_budget_view(value);

    leg = &ctx->open->leg[n];
    ngx_memzero(leg, sizeof(llmb_ledger_leg_t));

    llmb_ledger_key(leg->key, parts, 5);

    /* "limit/unit/period id/key" */

    len = limit->name.len + text.len + period.id_len + value->len + 3;

    p = ngx_pnalloc(r->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    leg->name.data = p;
    leg->name.len = len;

    p = ngx_cpymem(p, limit->name.data, limit->name.len);
    *p++ = '/';
    p = ngx_cpymem(p, text.data, text.len);
    *p++ = '/';
    p = ngx_cpymem(p, period.id, period.id_len);
    *p++ = '/';
    ngx_memcpy(p, value->data, value->len);

    leg->unit = unit;
    leg->end_ms = period.end_ms;
    leg->limit = amount;
    leg->degrade_at = INT64_MAX;

    if (ctx->llcf->rungs) {
        rung = ctx->llcf->rungs->elts;

        for (i = 0; i < ctx->llcf->rungs->nelts; i++) {

            if (ngx_http_llm_budget_rung_to(ctx, i) == NULL
                || !ngx_http_llm_budget_rung_of(&rung[i], limit, unit))
            {
                continue;
            }

            at = llmb_policy_threshold(amount, (unsigned) rung[i].at);
            leg->degrade_at = ngx_min(leg->degrade_at, at);
        }
    }

    ctx->leg_limit[n] = limit;
    ctx->open->n = n + 1;

    return NGX_OK;
}


static void
ngx_http_llm_budget_amounts(ngx_http_llm_budget_ctx_t *ctx)
{
    unsigned            i;
    llmb_ledger_leg_t  *leg;

    for (i = 0; i < ctx->open->n; i++) {
        leg = &ctx->open->leg[i];

        switch (leg->unit) {

        case LLMB_UNIT_USD:
            leg->amount = ctx->estimate.nusd;
            break;

        case LLMB_UNIT_TOKENS:
            leg->amount = ctx->estimate.input + ctx->estimate.output;
            break;

        case LLMB_UNIT_INPUT_TOKENS:
            leg->amount = ctx->estimate.input;
            break;

        case LLMB_UNIT_OUTPUT_TOKENS:
            leg->amount = ctx->estimate.output;
            break;

        case LLMB_UNIT_REQUESTS:
        case LLMB_UNIT_CONCURRENCY:
        case LLMB_UNITS:
            leg->amount = 1;
            continue;
        }

        if (ctx->llcf->reserve == NGX_HTTP_LLM_BUDGET_RESERVE_OFF) {

            /* charged afterwards; a free model passes a used-up dollar
               budget all the same (T31) */

            leg->amount = 0;
            leg->postpaid = (leg->unit != LLMB_UNIT_USD || !ctx->price->free);
        }
    }
}


static ngx_int_t
ngx_http_llm_budget_no_room(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, int64_t now_ms)
{
    u_char                         *p;
    unsigned                        i;
    llmb_deny_e                     why;
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

    u_char  time[LLMB_PERIOD_TIME_LEN + sizeof("further notice")];
    size_t  len;

    i = 0;
    why = llmb_policy_deny(ctx->open->leg, ctx->open->n, &i);

    limit = ctx->leg_limit[i];
    refusal = &ctx->refusal;

    ngx_http_llm_budget_hold_refuse(ctx, ctx->llcf->deny_status,
                                    why == LLMB_DENY_NONE
                                    ? "budget_hold_contention"
                                    : llmb_deny_code(why), "");

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

    refusal->message.data = p;
    refusal->message.len = (size_t)
                           (ngx_snprintf(p, 128 + limit->name.len,
                                         messages[why], &limit->name, len,
                                         time)
                            - p);

    if (why == LLMB_DENY_NONE || why == LLMB_DENY_CONTENTION
        || why == LLMB_DENY_CONCURRENCY)
    {
        refusal->retry = NGX_HTTP_LLM_BUDGET_SOON;

    } else if (why != LLMB_DENY_TOO_LARGE
               && refusal->leg->end_ms != INT64_MAX)
    {
        refusal->retry = (ngx_uint_t)
                         ((refusal->leg->end_ms - now_ms + 999) / 1000);
    }

    return NGX_DECLINED;
}


static void
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


ngx_int_t
ngx_http_llm_budget_amount(llmb_unit_e unit, ngx_str_t *text, int64_t *amount)
{
    int64_t    n;
    llmb_rc_e  rc;

    if (unit == LLMB_UNIT_USD) {
        rc = llmb_money_parse(ngx_http_llm_budget_view(text), LLMB_MONEY_NUSD,
                              &n);

        if (rc != LLMB_OK) {
            return NGX_ERROR;
        }

    } else {
        n = ngx_atoof(text->data, text->len);
    }

    if (n < 0 || n > LLMB_MONEY_LIMIT_NUSD) {
        return NGX_ERROR;
    }

    *amount = n;

    return NGX_OK;
}
