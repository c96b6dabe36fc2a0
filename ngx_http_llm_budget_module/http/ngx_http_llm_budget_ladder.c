
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The ladder: what a request becomes when a budget runs low or has no room.
 */


#include "http/ngx_http_llm_budget_hold.h"
#include "http/ngx_http_llm_budget_ladder.h"


static void ngx_http_llm_budget_rung_output(ngx_http_llm_budget_ctx_t *ctx,
    ngx_http_llm_budget_rung_t *rung);
static int64_t ngx_http_llm_budget_thinking(ngx_http_llm_budget_ctx_t *ctx);


/*
 * Takes a rung: of those whose threshold is reached the one with the highest,
 * else, when there was no room, the one with the lowest.  NGX_DECLINED: none.
 */

ngx_int_t
ngx_http_llm_budget_next_rung(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_uint_t denied)
{
    unsigned                     n;
    ngx_str_t                   *to;
    ngx_uint_t                   i, best, reached, best_reached;
    ngx_http_llm_budget_rung_t  *rung;

    if (ctx->llcf->rungs == NULL) {
        return NGX_DECLINED;
    }

    rung = ctx->llcf->rungs->elts;
    best = NGX_CONF_UNSET_UINT;
    best_reached = 0;

    for (i = 0; i < ctx->llcf->rungs->nelts; i++) {

        if (ngx_http_llm_budget_rung_to(ctx, i) == NULL) {
            continue;
        }

        reached = 0;

        for (n = 0; n < ctx->open->n; n++) {
            if (ngx_http_llm_budget_rung_of(&rung[i], ctx->leg_limit[n],
                                            ctx->open->leg[n].unit))
            {
                reached |= llmb_policy_reached(&ctx->open->leg[n],
                                               (unsigned) rung[i].at) ? 2 : 1;
            }
        }

        if (!(reached & 2) && !(denied && (reached & 1))) {
            continue;
        }

        reached >>= 1;

        if (best == NGX_CONF_UNSET_UINT
            || reached > best_reached
            || (reached == best_reached
                && (reached ? rung[i].at > rung[best].at
                            : rung[i].at < rung[best].at)))
        {
            best = i;
            best_reached = reached;
        }
    }

    if (best == NGX_CONF_UNSET_UINT) {
        return NGX_DECLINED;
    }

    to = ngx_http_llm_budget_rung_to(ctx, best);

    ctx->rungs |= (uint32_t) 1 << best;
    ctx->verdict = LLMB_VERDICT_DEGRADE;

    if (rung[best].pass) {
        ctx->provider = rung[best].pass;
    }

    ngx_http_llm_budget_rung_output(ctx, &rung[best]);

    return ngx_http_llm_budget_set_model(r, ctx, to);
}


/* a ceiling that the request gave, or that was written, is kept if lower */

static void
ngx_http_llm_budget_rung_output(ngx_http_llm_budget_ctx_t *ctx,
    ngx_http_llm_budget_rung_t *rung)
{
    int64_t                    ceiling;
    const char                *name;
    const llmb_request_int_t  *given;

    if (rung->max_output < 0) {
        return;
    }

    ceiling = ngx_max((int64_t) rung->max_output,
                      ngx_http_llm_budget_thinking(ctx));

    given = llmb_request_ceiling(ctx->req, &name);

    if (ctx->clamp >= 0) {
        ctx->clamp = ngx_min(ctx->clamp, ceiling);

    } else if (given == NULL || given->value > ceiling) {
        ctx->clamp = ceiling;
    }
}


/* the provider wants max_tokens above the thinking budget (T55) */

static int64_t
ngx_http_llm_budget_thinking(ngx_http_llm_budget_ctx_t *ctx)
{
    if (ctx->dialect != LLMB_DIALECT_MESSAGES
        || !ctx->req->thinking_budget.is_set)
    {
        return 0;
    }

    return ctx->req->thinking_budget.value + 1;
}


/* lowers the output ceiling to what is left, down to the floor */

ngx_int_t
ngx_http_llm_budget_clamp_down(ngx_http_llm_budget_ctx_t *ctx)
{
    int64_t      ceiling;
    llmb_left_t  left;

    if (ngx_http_llm_budget_clamp_floor(ctx) == NGX_DECLINED) {
        return NGX_DECLINED;
    }

    if (llmb_policy_left(ctx->open->leg, ctx->open->n, &left) != LLMB_OK
        || llmb_price_fit(&ctx->llcf->estimate, ctx->price, ctx->req,
                          left.nusd, left.output_tokens, left.tokens,
                          &ceiling)
           != LLMB_OK)
    {
        return NGX_DECLINED;
    }

    if (ceiling < ngx_http_llm_budget_clamp_floor(ctx)
        || ceiling >= ctx->estimate.ceiling)
    {
        return NGX_DECLINED;
    }

    ctx->clamp = ceiling;

    if (ctx->verdict == LLMB_VERDICT_ALLOW) {
        ctx->verdict = LLMB_VERDICT_WARN;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_budget_clamp_floor(ngx_http_llm_budget_ctx_t *ctx)
{
    int64_t  floor;

    if (ctx->llcf->clamp == 0
        || ctx->dialect == LLMB_DIALECT_EMBEDDINGS
        || ctx->llcf->reserve == NGX_HTTP_LLM_BUDGET_RESERVE_OFF)
    {
        return NGX_DECLINED;
    }

    floor = ngx_max((int64_t) ctx->llcf->clamp,
                    ngx_http_llm_budget_thinking(ctx));

    return (floor < ctx->estimate.ceiling) ? (ngx_int_t) floor : NGX_DECLINED;
}


/* what rung i makes of the model as it stands; NULL: nothing, or taken */

ngx_str_t *
ngx_http_llm_budget_rung_to(ngx_http_llm_budget_ctx_t *ctx, ngx_uint_t i)
{
    ngx_uint_t                   k;
    ngx_keyval_t                *map;
    ngx_http_llm_budget_rung_t  *rung;

    if ((ctx->rungs & ((uint32_t) 1 << i)) || ctx->req->model_range.end == 0) {

        /* taken; or the body names no model that could be another */

        return NULL;
    }

    rung = (ngx_http_llm_budget_rung_t *) ctx->llcf->rungs->elts + i;
    map = rung->maps.elts;

    for (k = 0; k < rung->maps.nelts; k++) {

        if (map[k].value.len == ctx->model.len
            && ngx_memcmp(map[k].value.data, ctx->model.data, ctx->model.len)
               == 0)
        {
            continue;
        }

        if (map[k].key.len == 1 && map[k].key.data[0] == '*') {
            return &map[k].value;
        }

        if (map[k].key.len == ctx->model.len
            && ngx_memcmp(map[k].key.data, ctx->model.data, ctx->model.len)
               == 0)
        {
            return &map[k].value;
        }
    }

    return NULL;
}


/* whether a rung looks at an account of that limit and unit */

ngx_uint_t
ngx_http_llm_budget_rung_of(ngx_http_llm_budget_rung_t *rung,
    ngx_http_llm_budget_limit_t *limit, llmb_unit_e unit)
{
    if (rung->of.len == 0) {

        /* a cheaper model does not help against counts of requests */

        return unit != LLMB_UNIT_REQUESTS && unit != LLMB_UNIT_CONCURRENCY;
    }

    return rung->of.len == limit->name.len
           && ngx_memcmp(rung->of.data, limit->name.data, rung->of.len) == 0;
}
