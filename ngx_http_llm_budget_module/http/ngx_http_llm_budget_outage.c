
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The outage policy: deny, allow, or a bounded allowance from the zone.
 */


#include "http/ngx_http_llm_budget_hold.h"
#include "http/ngx_http_llm_budget_outage.h"


/* keeps the accounts of the allowance apart from others of the zone */
#define NGX_HTTP_LLM_BUDGET_OUTAGE_KEY      UINT64_C(0x6c6f63616c000000)


static int64_t ngx_http_llm_budget_outage_part(
    const llmb_ledger_leg_t *leg, ngx_uint_t share);


ngx_int_t
ngx_http_llm_budget_outage(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    ctx->outage = (ngx_http_llm_budget_outage_e) ctx->llcf->outage;

    if (ctx->outage != NGX_HTTP_LLM_BUDGET_OUTAGE_DENY
        && ctx->store->ready(ctx->store->data) != NGX_OK)
    {
        /* a charge that could get lost is worse than a refusal */

        ctx->outage = NGX_HTTP_LLM_BUDGET_OUTAGE_DENY;
    }

    switch (ctx->outage) {

    case NGX_HTTP_LLM_BUDGET_OUTAGE_ALLOW:
        return NGX_OK;

    case NGX_HTTP_LLM_BUDGET_OUTAGE_LOCAL:
        return NGX_BUSY;

    case NGX_HTTP_LLM_BUDGET_OUTAGE_NONE:
    case NGX_HTTP_LLM_BUDGET_OUTAGE_DENY:
        break;
    }

    ngx_http_llm_budget_hold_refuse(ctx, NGX_HTTP_SERVICE_UNAVAILABLE,
                                    "store_unavailable",
                                    "Budgets cannot be checked at the "
                                    "moment.");

    return NGX_DECLINED;
}


ngx_http_llm_budget_store_t *
ngx_http_llm_budget_outage_store(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    u_char             *p;
    unsigned            i;
    llmb_ledger_leg_t  *leg;

    if (ctx->outage != NGX_HTTP_LLM_BUDGET_OUTAGE_LOCAL) {
        return ctx->store;
    }

    if (ctx->charge == ctx->open) {
        ctx->charge = ngx_palloc(r->pool, sizeof(llmb_ledger_open_t));
        if (ctx->charge == NULL) {
            ctx->charge = ctx->open;
            return NULL;
        }
    }

    *ctx->charge = *ctx->open;

    for (i = 0; i < ctx->open->n; i++) {
        leg = &ctx->open->leg[i];

        p = ngx_pnalloc(r->pool, sizeof("local:") - 1 + leg->name.len);
        if (p == NULL) {
            return NULL;
        }

        ngx_memcpy(ngx_cpymem(p, "local:", sizeof("local:") - 1),
                   leg->name.data, leg->name.len);

        leg->name.data = p;
        leg->name.len += sizeof("local:") - 1;

        leg->key[0] ^= NGX_HTTP_LLM_BUDGET_OUTAGE_KEY;
        leg->limit = ngx_http_llm_budget_outage_part(leg, ctx->llcf->share);
        leg->degrade_at = INT64_MAX;
    }

    return ctx->lmcf->zone;
}


/* of a count that is not 0, at least one */

static int64_t
ngx_http_llm_budget_outage_part(const llmb_ledger_leg_t *leg, ngx_uint_t share)
{
    int64_t  part;

    part = leg->limit / 100 * (int64_t) share
           + leg->limit % 100 * (int64_t) share / 100;

    if (part == 0 && leg->limit
        && (leg->unit == LLMB_UNIT_REQUESTS
            || leg->unit == LLMB_UNIT_CONCURRENCY))
    {
        return 1;
    }

    return part;
}


const char *
ngx_http_llm_budget_outage_name(ngx_http_llm_budget_outage_e outage)
{
    static const char *const  names[] = { "", "deny", "allow", "local" };

    return names[outage];
}
