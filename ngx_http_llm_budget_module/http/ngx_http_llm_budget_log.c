
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The log phase: closes what is open before access_log writes, and the usage
 * line.
 */


#include "http/ngx_http_llm_budget_forward.h"
#include "http/ngx_http_llm_budget_log.h"
#include "http/ngx_http_llm_budget_outage.h"
#include "http/ngx_http_llm_budget_settle.h"
#include "http/ngx_http_llm_budget_store.h"

#include "core/llmb_out.h"


static void ngx_http_llm_budget_line(llmb_out_t *out, ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static void ngx_http_llm_budget_line_call(llmb_out_t *out,
    ngx_http_request_t *r, ngx_http_llm_budget_ctx_t *ctx);
static void ngx_http_llm_budget_line_models(llmb_out_t *out,
    ngx_http_llm_budget_ctx_t *ctx);
static void ngx_http_llm_budget_line_tokens(llmb_out_t *out,
    ngx_http_llm_budget_ctx_t *ctx);
static void ngx_http_llm_budget_line_money(llmb_out_t *out,
    ngx_http_llm_budget_ctx_t *ctx);
static void ngx_http_llm_budget_line_flags(llmb_out_t *out,
    ngx_http_llm_budget_ctx_t *ctx);
static void ngx_http_llm_budget_line_int(llmb_out_t *out, const char *name,
    int64_t n);
static void ngx_http_llm_budget_line_text(llmb_out_t *out, const char *name,
    const ngx_str_t *s);
static void ngx_http_llm_budget_line_word(llmb_out_t *out, const char *name,
    const char *word);


typedef struct {
    ngx_uint_t   flag;
    const char  *name;
} ngx_http_llm_budget_flag_name_t;


static ngx_http_llm_budget_flag_name_t  ngx_http_llm_budget_own_flags[] = {
    { NGX_HTTP_LLM_BUDGET_FLAG_MODEL_UNPRICED, "model_unpriced" },
    { NGX_HTTP_LLM_BUDGET_FLAG_COMPRESSED, "compressed" },
    { NGX_HTTP_LLM_BUDGET_FLAG_COST_OVERFLOW, "cost_overflow" },
    { NGX_HTTP_LLM_BUDGET_FLAG_EXPIRED, "hold_expired" },
    { NGX_HTTP_LLM_BUDGET_FLAG_RETRIED, "retried" },
    { NGX_HTTP_LLM_BUDGET_FLAG_CHARGE_LOST, "charge_lost" },
    { 0, NULL }
};


static ngx_http_llm_budget_flag_name_t  ngx_http_llm_budget_usage_flags[] = {
    { LLMB_USAGE_BAD_VALUE, "usage_suspect" },
    { LLMB_USAGE_CLAMPED, "usage_clamped" },
    { LLMB_USAGE_SURPLUS, "usage_surplus" },
    { LLMB_USAGE_DECREASED, "usage_decreased" },
    { LLMB_USAGE_CROWDED, "usage_crowded" },
    { LLMB_USAGE_BROKEN, "usage_broken" },
    { 0, NULL }
};


static ngx_http_llm_budget_flag_name_t  ngx_http_llm_budget_cost_flags[] = {
    { LLMB_COST_TIER_UNPRICED, "tier_unpriced" },
    { LLMB_COST_SEARCH_UNPRICED, "search_unpriced" },
    { LLMB_COST_EXTRA_UNPRICED, "extra_unpriced" },
    { 0, NULL }
};


static const char *const  ngx_http_llm_budget_sources[] = {
    "none", "provider", "estimated", "hold"
};


ngx_int_t
ngx_http_llm_budget_log_handler(ngx_http_request_t *r)
{
    ngx_http_llm_budget_ctx_t  *ctx;

    if (r != r->main) {
        return NGX_OK;
    }

    ctx = ngx_http_llm_budget_get_ctx(r);

    if (ctx == NULL) {
        return NGX_OK;
    }

    ngx_http_llm_budget_close(ctx);
    ngx_http_llm_budget_restore(r, ctx);

    return NGX_OK;
}


const char *
ngx_http_llm_budget_source_name(ngx_http_llm_budget_source_e source)
{
    return ngx_http_llm_budget_sources[source];
}


int64_t
ngx_http_llm_budget_held(ngx_http_llm_budget_ctx_t *ctx)
{
    if (ctx->opened_ms == 0
        || ctx->llcf->reserve == NGX_HTTP_LLM_BUDGET_RESERVE_OFF)
    {
        return 0;
    }

    return ctx->estimate.nusd;
}


void
ngx_http_llm_budget_total_tokens(ngx_http_llm_budget_ctx_t *ctx,
    int64_t *input, int64_t *output)
{
    unsigned  i;

    *input = 0;
    *output = 0;

    if (ctx->usage == NULL
        || ctx->source == NGX_HTTP_LLM_BUDGET_SOURCE_NONE)
    {
        return;
    }

    *input = ctx->usage->counts.n[LLMB_USAGE_INPUT];
    *output = ctx->usage->counts.n[LLMB_USAGE_OUTPUT];

    for (i = 0; i < ctx->usage->n_extra; i++) {
        *input += ctx->usage->extra[i].counts.n[LLMB_USAGE_INPUT];
        *output += ctx->usage->extra[i].counts.n[LLMB_USAGE_OUTPUT];
    }
}


ngx_int_t
ngx_http_llm_budget_usage_line(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_str_t *line)
{
    llmb_out_t  out;

    llmb_out_init(&out, NULL, 0);
    ngx_http_llm_budget_line(&out, r, ctx);

    line->len = out.need;
    line->data = ngx_pnalloc(r->pool, out.need);
    if (line->data == NULL) {
        return NGX_ERROR;
    }

    llmb_out_init(&out, line->data, line->len);
    ngx_http_llm_budget_line(&out, r, ctx);

    return NGX_OK;
}


static void
ngx_http_llm_budget_line(llmb_out_t *out, ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_http_llm_budget_line_call(out, r, ctx);
    ngx_http_llm_budget_line_models(out, ctx);
    ngx_http_llm_budget_line_tokens(out, ctx);
    ngx_http_llm_budget_line_money(out, ctx);
    ngx_http_llm_budget_line_flags(out, ctx);
    llmb_out_text(out, "}");
}


static void
ngx_http_llm_budget_line_call(llmb_out_t *out, ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    u_char       id[NGX_HTTP_LLM_BUDGET_ID_LEN];
    ngx_uint_t   status;
    ngx_str_t    text;

    (void) ngx_hex_dump(id, ctx->id, LLMB_LEDGER_ID);

    llmb_out_text(out, "{\"id\":\"");
    llmb_out_bytes(out, id, NGX_HTTP_LLM_BUDGET_ID_LEN);
    llmb_out_text(out, "\",\"time\":\"");
    llmb_out_bytes(out, ngx_cached_http_log_iso8601.data,
                   ngx_cached_http_log_iso8601.len);
    llmb_out_text(out, "\"");

    ngx_http_llm_budget_line_text(out, "key_id", &ctx->key_id);
    ngx_http_llm_budget_line_word(out, "verdict",
                                  llmb_verdict_name(ctx->verdict));
    ngx_http_llm_budget_line_text(out, "code", &ctx->refusal.code);

    if (ctx->decided) {
        ngx_http_llm_budget_line_text(out, "limit", &ctx->decided->name);
    }

    ngx_http_llm_budget_line_text(out, "endpoint",
                                  ctx->uri.len ? &ctx->uri : &r->uri);
    ngx_http_llm_budget_line_word(out, "dialect",
                                  llmb_dialect_name(ctx->dialect));
    ngx_http_llm_budget_line_word(out, "operation",
                                  llmb_dialect_operation(ctx->dialect));

    if (ctx->provider) {
        ngx_http_llm_budget_line_text(out, "provider", &ctx->provider->name);
    }

    status = r->err_status ? r->err_status : r->headers_out.status;
    ngx_http_llm_budget_line_int(out, "status", (int64_t) status);
    ngx_http_llm_budget_line_word(out, "end", ctx->end);

    if (ctx->store) {
        ngx_http_llm_budget_line_word(out, "store", ctx->store->name);
    }

    if (ctx->outage != NGX_HTTP_LLM_BUDGET_OUTAGE_NONE) {
        ngx_http_llm_budget_line_word(out, "outage",
                               ngx_http_llm_budget_outage_name(ctx->outage));
    }

    if (ctx->req && ctx->req->user_len) {
        text.data = ctx->req->user;
        text.len = ctx->req->user_len;
        ngx_http_llm_budget_line_text(out, "user", &text);
    }
}


static void
ngx_http_llm_budget_line_models(llmb_out_t *out,
    ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_str_t  text;

    if (ctx->req == NULL) {
        return;
    }

    text.data = ctx->req->model;
    text.len = ctx->req->model_len;

    ngx_http_llm_budget_line_text(out, "model_requested", &text);
    ngx_http_llm_budget_line_text(out, "model", &ctx->model);

    if (ctx->usage) {
        text.data = ctx->usage->model;
        text.len = ctx->usage->model_len;
        ngx_http_llm_budget_line_text(out, "model_served", &text);

        text.data = ctx->usage->tier;
        text.len = ctx->usage->tier_len;
        ngx_http_llm_budget_line_text(out, "service_tier", &text);
    }

    if (ctx->priced) {
        ngx_http_llm_budget_line_text(out, "priced_as",
                              ngx_http_llm_budget_unview(&ctx->priced->name));
    }

    if (ctx->clamp >= 0) {
        ngx_http_llm_budget_line_int(out, "max_output", ctx->clamp);
    }

    llmb_out_text(out, ctx->req->stream ? ",\"stream\":true"
                                        : ",\"stream\":false");
}


static void
ngx_http_llm_budget_line_tokens(llmb_out_t *out,
    ngx_http_llm_budget_ctx_t *ctx)
{
    int64_t         input, output;
    const int64_t  *n;

    static const int64_t  none[LLMB_USAGE_FIELDS];

    ngx_http_llm_budget_total_tokens(ctx, &input, &output);

    n = (ctx->usage && ctx->source != NGX_HTTP_LLM_BUDGET_SOURCE_NONE)
        ? ctx->usage->counts.n : none;

    ngx_http_llm_budget_line_int(out, "input_tokens", input);
    ngx_http_llm_budget_line_int(out, "cached_read_tokens",
                                 n[LLMB_USAGE_CACHED_READ]);
    ngx_http_llm_budget_line_int(out, "cache_write_tokens",
                                 n[LLMB_USAGE_CACHE_WRITE]);
    ngx_http_llm_budget_line_int(out, "cache_write_1h_tokens",
                                 n[LLMB_USAGE_CACHE_WRITE_1H]);
    ngx_http_llm_budget_line_int(out, "output_tokens", output);
    ngx_http_llm_budget_line_int(out, "reasoning_tokens",
                                 n[LLMB_USAGE_REASONING]);
    ngx_http_llm_budget_line_int(out, "total_tokens", input + output);
    ngx_http_llm_budget_line_int(out, "web_searches", n[LLMB_USAGE_SEARCHES]);
    ngx_http_llm_budget_line_word(out, "usage_source",
                              ngx_http_llm_budget_source_name(ctx->source));
}


static void
ngx_http_llm_budget_line_money(llmb_out_t *out, ngx_http_llm_budget_ctx_t *ctx)
{
    int64_t  held, over;

    held = ngx_http_llm_budget_held(ctx);
    over = ctx->cost.total > held ? ctx->cost.total - held : 0;

    ngx_http_llm_budget_line_int(out, "cost_nusd", ctx->cost.total);
    llmb_out_text(out, ",\"cost_usd\":\"");
    llmb_out_nusd(out, ctx->cost.total);
    llmb_out_text(out, "\"");

    ngx_http_llm_budget_line_int(out, "hold_nusd", held);
    ngx_http_llm_budget_line_int(out, "overrun_nusd", over);

    if (ctx->content_msec_set) {
        ngx_http_llm_budget_line_int(out, "ttft_ms",
                        (ngx_msec_int_t) (ctx->content_msec
                                          - ctx->start_msec));
    }

    ngx_http_llm_budget_line_int(out, "duration_ms",
                        (ngx_msec_int_t) (ngx_current_msec
                                          - ctx->start_msec));

    llmb_out_text(out, ",\"price_version\":\"");
    llmb_out_bytes(out, ctx->lmcf->prices.version,
                   sizeof(ctx->lmcf->prices.version));
    llmb_out_text(out, "\"");
}


static void
ngx_http_llm_budget_line_flags(llmb_out_t *out, ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_uint_t                        i, n, flags[3];
    ngx_http_llm_budget_flag_name_t  *name, *names[3];

    flags[0] = ctx->flags;
    flags[1] = ctx->usage ? ctx->usage->flags : 0;
    flags[2] = ctx->cost.flags;

    names[0] = ngx_http_llm_budget_own_flags;
    names[1] = ngx_http_llm_budget_usage_flags;
    names[2] = ngx_http_llm_budget_cost_flags;

    llmb_out_text(out, ",\"flags\":[");

    for (i = 0, n = 0; i < 3; i++) {
        for (name = names[i]; name->name; name++) {

            if (!(flags[i] & name->flag)) {
                continue;
            }

            llmb_out_text(out, n++ ? ",\"" : "\"");
            llmb_out_text(out, name->name);
            llmb_out_text(out, "\"");
        }
    }

    llmb_out_text(out, "]");
}


static void
ngx_http_llm_budget_line_int(llmb_out_t *out, const char *name, int64_t n)
{
    llmb_out_text(out, ",\"");
    llmb_out_text(out, name);
    llmb_out_text(out, "\":");
    llmb_out_int(out, n);
}


static void
ngx_http_llm_budget_line_text(llmb_out_t *out, const char *name,
    const ngx_str_t *s)
{
    llmb_out_text(out, ",\"");
    llmb_out_text(out, name);
    llmb_out_text(out, "\":");
    llmb_out_json(out, (const llmb_str_t *) s);
}


static void
ngx_http_llm_budget_line_word(llmb_out_t *out, const char *name,
    const char *word)
{
    llmb_out_text(out, ",\"");
    llmb_out_text(out, name);
    llmb_out_text(out, "\":\"");
    llmb_out_text(out, word);
    llmb_out_text(out, "\"");
}
