
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The legs of a hold: the accounts of all limits of a location, each with
 * what a call would hold on it.
 */


#include "http/ngx_http_llm_budget_hold.h"
#include "http/ngx_http_llm_budget_ladder.h"

#include "core/llmb_money.h"


static ngx_int_t ngx_http_llm_budget_limit_now(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_http_llm_budget_limit_t *limit,
    llmb_unit_e unit, int64_t *amount);
static ngx_int_t ngx_http_llm_budget_leg(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_http_llm_budget_limit_t *limit,
    llmb_unit_e unit, ngx_str_t *value, int64_t amount, int64_t now_ms);


/* the accounts of all limits, with what this attempt would hold on each */

ngx_int_t
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
    ctx->decided = limit;
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
    llmb_period_e                kind;
    llmb_period_t                period;
    llmb_ledger_leg_t           *leg;
    ngx_http_llm_budget_rung_t  *rung;

    n = ctx->open->n;

    /* what is in flight does not end with a period */

    kind = (unit == LLMB_UNIT_CONCURRENCY) ? LLMB_PERIOD_LIFETIME
                                           : limit->period;

    if (n == LLMB_LEDGER_LEGS
        || llmb_period_at(kind, now_ms, &period) != LLMB_OK)
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
    parts[2].data = (u_char *) (uintptr_t) llmb_period_name(kind);
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
    leg->start_ms = period.start_ms;
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


void
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
