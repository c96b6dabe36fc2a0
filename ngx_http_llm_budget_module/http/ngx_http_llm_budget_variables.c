
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * $llm_budget_*: computed from the context when asked, never cached, since
 * they change while a request lives; final in the log phase.
 */


#include "http/ngx_http_llm_budget_body.h"
#include "http/ngx_http_llm_budget_forward.h"
#include "http/ngx_http_llm_budget_identity.h"
#include "http/ngx_http_llm_budget_log.h"
#include "http/ngx_http_llm_budget_outage.h"
#include "http/ngx_http_llm_budget_settle.h"
#include "http/ngx_http_llm_budget_store.h"
#include "http/ngx_http_llm_budget_variables.h"

#include "core/llmb_money.h"


typedef enum {
    NGX_HTTP_LLM_BUDGET_VAR_KEY_ID = 0,
    NGX_HTTP_LLM_BUDGET_VAR_KEY_SHA256,
    NGX_HTTP_LLM_BUDGET_VAR_ID,
    NGX_HTTP_LLM_BUDGET_VAR_ENDPOINT,
    NGX_HTTP_LLM_BUDGET_VAR_DIALECT,
    NGX_HTTP_LLM_BUDGET_VAR_PROVIDER,
    NGX_HTTP_LLM_BUDGET_VAR_PASS,
    NGX_HTTP_LLM_BUDGET_VAR_UPSTREAM,
    NGX_HTTP_LLM_BUDGET_VAR_HOST,
    NGX_HTTP_LLM_BUDGET_VAR_MODEL_REQUESTED,
    NGX_HTTP_LLM_BUDGET_VAR_MODEL,
    NGX_HTTP_LLM_BUDGET_VAR_MODEL_SERVED,
    NGX_HTTP_LLM_BUDGET_VAR_SERVICE_TIER,
    NGX_HTTP_LLM_BUDGET_VAR_PRICED_AS,
    NGX_HTTP_LLM_BUDGET_VAR_STREAM,
    NGX_HTTP_LLM_BUDGET_VAR_USER,
    NGX_HTTP_LLM_BUDGET_VAR_BODY_SHA256,
    NGX_HTTP_LLM_BUDGET_VAR_INPUT_TOKENS,
    NGX_HTTP_LLM_BUDGET_VAR_CACHED_READ_TOKENS,
    NGX_HTTP_LLM_BUDGET_VAR_CACHE_WRITE_TOKENS,
    NGX_HTTP_LLM_BUDGET_VAR_CACHE_WRITE_1H_TOKENS,
    NGX_HTTP_LLM_BUDGET_VAR_OUTPUT_TOKENS,
    NGX_HTTP_LLM_BUDGET_VAR_REASONING_TOKENS,
    NGX_HTTP_LLM_BUDGET_VAR_WEB_SEARCHES,
    NGX_HTTP_LLM_BUDGET_VAR_TOTAL_TOKENS,
    NGX_HTTP_LLM_BUDGET_VAR_COST,
    NGX_HTTP_LLM_BUDGET_VAR_COST_NUSD,
    NGX_HTTP_LLM_BUDGET_VAR_HOLD,
    NGX_HTTP_LLM_BUDGET_VAR_HOLD_NUSD,
    NGX_HTTP_LLM_BUDGET_VAR_OVERRUN_NUSD,
    NGX_HTTP_LLM_BUDGET_VAR_VERDICT,
    NGX_HTTP_LLM_BUDGET_VAR_CODE,
    NGX_HTTP_LLM_BUDGET_VAR_LIMIT,
    NGX_HTTP_LLM_BUDGET_VAR_USAGE_SOURCE,
    NGX_HTTP_LLM_BUDGET_VAR_END,
    NGX_HTTP_LLM_BUDGET_VAR_TTFT,
    NGX_HTTP_LLM_BUDGET_VAR_DURATION,
    NGX_HTTP_LLM_BUDGET_VAR_PRICE_VERSION,
    NGX_HTTP_LLM_BUDGET_VAR_STORE,
    NGX_HTTP_LLM_BUDGET_VAR_OUTAGE,
    NGX_HTTP_LLM_BUDGET_VAR_USAGE
} ngx_http_llm_budget_var_e;


static ngx_int_t ngx_http_llm_budget_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_llm_budget_variable_early(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_str_t *s, uintptr_t data);
static ngx_int_t ngx_http_llm_budget_variable_request(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_str_t *s, uintptr_t data);
static ngx_int_t ngx_http_llm_budget_variable_result(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_str_t *s, uintptr_t data);
static ngx_int_t ngx_http_llm_budget_variable_usage(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_str_t *s, uintptr_t data);
static ngx_int_t ngx_http_llm_budget_variable_body(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_str_t *s);
static ngx_int_t ngx_http_llm_budget_variable_int(ngx_http_request_t *r,
    ngx_str_t *s, int64_t n);
static ngx_int_t ngx_http_llm_budget_variable_money(ngx_http_request_t *r,
    ngx_str_t *s, int64_t nusd);
static void ngx_http_llm_budget_variable_word(ngx_str_t *s, const char *word);


#define ngx_http_llm_budget_var(name, id)                                     \
    { ngx_string("llm_budget_" name), NULL, ngx_http_llm_budget_variable,     \
      NGX_HTTP_LLM_BUDGET_VAR_##id, NGX_HTTP_VAR_NOCACHEABLE, 0 }


static ngx_http_variable_t  ngx_http_llm_budget_vars[] = {
    ngx_http_llm_budget_var("key_id", KEY_ID),
    ngx_http_llm_budget_var("key_sha256", KEY_SHA256),
    ngx_http_llm_budget_var("id", ID),
    ngx_http_llm_budget_var("endpoint", ENDPOINT),
    ngx_http_llm_budget_var("dialect", DIALECT),
    ngx_http_llm_budget_var("provider", PROVIDER),
    ngx_http_llm_budget_var("pass", PASS),
    ngx_http_llm_budget_var("upstream", UPSTREAM),
    ngx_http_llm_budget_var("host", HOST),
    ngx_http_llm_budget_var("model_requested", MODEL_REQUESTED),
    ngx_http_llm_budget_var("model", MODEL),
    ngx_http_llm_budget_var("model_served", MODEL_SERVED),
    ngx_http_llm_budget_var("service_tier", SERVICE_TIER),
    ngx_http_llm_budget_var("priced_as", PRICED_AS),
    ngx_http_llm_budget_var("stream", STREAM),
    ngx_http_llm_budget_var("user", USER),
    ngx_http_llm_budget_var("body_sha256", BODY_SHA256),
    ngx_http_llm_budget_var("input_tokens", INPUT_TOKENS),
    ngx_http_llm_budget_var("cached_read_tokens", CACHED_READ_TOKENS),
    ngx_http_llm_budget_var("cache_write_tokens", CACHE_WRITE_TOKENS),
    ngx_http_llm_budget_var("cache_write_1h_tokens", CACHE_WRITE_1H_TOKENS),
    ngx_http_llm_budget_var("output_tokens", OUTPUT_TOKENS),
    ngx_http_llm_budget_var("reasoning_tokens", REASONING_TOKENS),
    ngx_http_llm_budget_var("web_searches", WEB_SEARCHES),
    ngx_http_llm_budget_var("total_tokens", TOTAL_TOKENS),
    ngx_http_llm_budget_var("cost", COST),
    ngx_http_llm_budget_var("cost_nusd", COST_NUSD),
    ngx_http_llm_budget_var("hold", HOLD),
    ngx_http_llm_budget_var("hold_nusd", HOLD_NUSD),
    ngx_http_llm_budget_var("overrun_nusd", OVERRUN_NUSD),
    ngx_http_llm_budget_var("verdict", VERDICT),
    ngx_http_llm_budget_var("code", CODE),
    ngx_http_llm_budget_var("limit", LIMIT),
    ngx_http_llm_budget_var("usage_source", USAGE_SOURCE),
    ngx_http_llm_budget_var("end", END),
    ngx_http_llm_budget_var("ttft", TTFT),
    ngx_http_llm_budget_var("duration", DURATION),
    ngx_http_llm_budget_var("price_version", PRICE_VERSION),
    ngx_http_llm_budget_var("store", STORE),
    ngx_http_llm_budget_var("outage", OUTAGE),
    ngx_http_llm_budget_var("usage", USAGE),
    ngx_http_null_variable
};


ngx_int_t
ngx_http_llm_budget_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_llm_budget_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


/* an empty value is "not found", so that "if=$llm_budget_..." works */

static ngx_int_t
ngx_http_llm_budget_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_int_t                   rc;
    ngx_str_t                   s;
    ngx_http_llm_budget_ctx_t  *ctx;

    ngx_str_null(&s);

    ctx = ngx_http_llm_budget_get_ctx(r);

    if (data <= NGX_HTTP_LLM_BUDGET_VAR_KEY_SHA256) {
        rc = ngx_http_llm_budget_variable_early(r->main, ctx, &s, data);

    } else if (ctx == NULL) {
        rc = NGX_OK;

    } else if (data <= NGX_HTTP_LLM_BUDGET_VAR_BODY_SHA256) {
        rc = ngx_http_llm_budget_variable_request(r->main, ctx, &s, data);

    } else if (data <= NGX_HTTP_LLM_BUDGET_VAR_TOTAL_TOKENS) {
        rc = ngx_http_llm_budget_variable_usage(r->main, ctx, &s, data);

    } else {
        rc = ngx_http_llm_budget_variable_result(r->main, ctx, &s, data);
    }

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    if (s.len == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->len = (unsigned) s.len & 0xfffffff;
    v->data = s.data;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


/* what is known before the request was judged, from its headers alone */

static ngx_int_t
ngx_http_llm_budget_variable_early(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_str_t *s, uintptr_t data)
{
    ngx_str_t  key;

    if (data == NGX_HTTP_LLM_BUDGET_VAR_KEY_ID) {

        if (ctx) {
            *s = ctx->key_id;
        }

        return NGX_OK;
    }

    if (ctx && ctx->secret.len) {
        *s = ctx->secret;
        return NGX_OK;
    }

    if (ngx_http_llm_budget_presented(r, &key)
        != NGX_HTTP_LLM_BUDGET_KEY_FOUND)
    {
        return NGX_OK;
    }

    s->data = ngx_pnalloc(r->pool, NGX_HTTP_LLM_BUDGET_HASH_LEN);
    if (s->data == NULL) {
        return NGX_ERROR;
    }

    s->len = NGX_HTTP_LLM_BUDGET_HASH_LEN;

    return ngx_http_llm_budget_sha256(s->data, key.data, key.len);
}


static ngx_int_t
ngx_http_llm_budget_variable_request(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_str_t *s, uintptr_t data)
{
    llmb_request_t                  *req;
    ngx_http_llm_budget_provider_t  *provider;

    req = ctx->req;
    provider = ctx->provider;

    switch (data) {

    case NGX_HTTP_LLM_BUDGET_VAR_ID:
        s->data = ngx_pnalloc(r->pool, NGX_HTTP_LLM_BUDGET_ID_LEN);
        if (s->data == NULL) {
            return NGX_ERROR;
        }

        s->len = (size_t) (ngx_hex_dump(s->data, ctx->id, LLMB_LEDGER_ID)
                           - s->data);
        break;

    case NGX_HTTP_LLM_BUDGET_VAR_ENDPOINT:
        *s = ctx->uri;
        break;

    case NGX_HTTP_LLM_BUDGET_VAR_DIALECT:
        ngx_http_llm_budget_variable_word(s, llmb_dialect_name(ctx->dialect));
        break;

    case NGX_HTTP_LLM_BUDGET_VAR_PROVIDER:
        if (provider) {
            *s = provider->name;
        }

        break;

    case NGX_HTTP_LLM_BUDGET_VAR_PASS:
        return provider ? ngx_http_llm_budget_pass_url(r, ctx, s) : NGX_OK;

    case NGX_HTTP_LLM_BUDGET_VAR_UPSTREAM:
        if (provider) {
            *s = provider->upstream;
        }

        break;

    case NGX_HTTP_LLM_BUDGET_VAR_HOST:
        if (provider) {
            *s = provider->host;
        }

        break;

    case NGX_HTTP_LLM_BUDGET_VAR_BODY_SHA256:
        return req ? ngx_http_llm_budget_variable_body(r, ctx, s) : NGX_OK;

    case NGX_HTTP_LLM_BUDGET_VAR_MODEL:
        *s = ctx->model;
        break;

    case NGX_HTTP_LLM_BUDGET_VAR_PRICED_AS:
        if (ctx->priced) {
            *s = *ngx_http_llm_budget_unview(&ctx->priced->name);
        }

        break;

    case NGX_HTTP_LLM_BUDGET_VAR_MODEL_SERVED:
        if (ctx->usage) {
            s->data = ctx->usage->model;
            s->len = ctx->usage->model_len;
        }

        break;

    case NGX_HTTP_LLM_BUDGET_VAR_SERVICE_TIER:
        if (ctx->usage) {
            s->data = ctx->usage->tier;
            s->len = ctx->usage->tier_len;
        }

        break;

    default:

        if (req == NULL) {
            break;
        }

        if (data == NGX_HTTP_LLM_BUDGET_VAR_MODEL_REQUESTED) {
            s->data = req->model;
            s->len = req->model_len;

        } else if (data == NGX_HTTP_LLM_BUDGET_VAR_STREAM) {
            ngx_http_llm_budget_variable_word(s, req->stream ? "1" : "0");

        } else {
            s->data = req->user;
            s->len = req->user_len;
        }

        break;
    }

    return NGX_OK;
}


/* the pristine body, once it is there (retry loops are keyed on it) */

static ngx_int_t
ngx_http_llm_budget_variable_body(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_str_t *s)
{
    u_char  *p;

    if (ctx->body_hash.len == 0) {

        if (ctx->state < NGX_HTTP_LLM_BUDGET_JUDGE
            || (ctx->spliced && !ctx->gathered))
        {
            return NGX_OK;
        }

        if (ngx_http_llm_budget_body_gather(r, ctx) != NGX_OK) {
            return NGX_ERROR;
        }

        p = ngx_pnalloc(r->pool, NGX_HTTP_LLM_BUDGET_HASH_LEN);
        if (p == NULL
            || ngx_http_llm_budget_sha256(p, ctx->body.data, ctx->body.len)
               != NGX_OK)
        {
            return NGX_ERROR;
        }

        ctx->body_hash.data = p;
        ctx->body_hash.len = NGX_HTTP_LLM_BUDGET_HASH_LEN;
    }

    *s = ctx->body_hash;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_variable_usage(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_str_t *s, uintptr_t data)
{
    int64_t             input, output;
    llmb_usage_field_e  field;

    if (ctx->usage == NULL
        || ctx->source == NGX_HTTP_LLM_BUDGET_SOURCE_NONE)
    {
        return NGX_OK;
    }

    ngx_http_llm_budget_total_tokens(ctx, &input, &output);

    switch (data) {

    case NGX_HTTP_LLM_BUDGET_VAR_INPUT_TOKENS:
        return ngx_http_llm_budget_variable_int(r, s, input);

    case NGX_HTTP_LLM_BUDGET_VAR_OUTPUT_TOKENS:
        return ngx_http_llm_budget_variable_int(r, s, output);

    case NGX_HTTP_LLM_BUDGET_VAR_TOTAL_TOKENS:
        return ngx_http_llm_budget_variable_int(r, s, input + output);

    case NGX_HTTP_LLM_BUDGET_VAR_CACHED_READ_TOKENS:
        field = LLMB_USAGE_CACHED_READ;
        break;

    case NGX_HTTP_LLM_BUDGET_VAR_CACHE_WRITE_TOKENS:
        field = LLMB_USAGE_CACHE_WRITE;
        break;

    case NGX_HTTP_LLM_BUDGET_VAR_CACHE_WRITE_1H_TOKENS:
        field = LLMB_USAGE_CACHE_WRITE_1H;
        break;

    case NGX_HTTP_LLM_BUDGET_VAR_WEB_SEARCHES:
        field = LLMB_USAGE_SEARCHES;
        break;

    default:
        field = LLMB_USAGE_REASONING;
        break;
    }

    return ngx_http_llm_budget_variable_int(r, s, ctx->usage->counts.n[field]);
}


static ngx_int_t
ngx_http_llm_budget_variable_result(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_str_t *s, uintptr_t data)
{
    int64_t  held;

    switch (data) {

    case NGX_HTTP_LLM_BUDGET_VAR_COST:
        return ngx_http_llm_budget_variable_money(r, s, ctx->cost.total);

    case NGX_HTTP_LLM_BUDGET_VAR_COST_NUSD:
        return ngx_http_llm_budget_variable_int(r, s, ctx->cost.total);

    case NGX_HTTP_LLM_BUDGET_VAR_HOLD:
        return ngx_http_llm_budget_variable_money(r, s,
                                              ngx_http_llm_budget_held(ctx));

    case NGX_HTTP_LLM_BUDGET_VAR_HOLD_NUSD:
        return ngx_http_llm_budget_variable_int(r, s,
                                              ngx_http_llm_budget_held(ctx));

    case NGX_HTTP_LLM_BUDGET_VAR_TTFT:
        return ctx->content_msec_set
               ? ngx_http_llm_budget_variable_int(r, s,
                            (ngx_msec_int_t) (ctx->content_msec
                                              - ctx->start_msec))
               : NGX_OK;

    case NGX_HTTP_LLM_BUDGET_VAR_OVERRUN_NUSD:
        held = ngx_http_llm_budget_held(ctx);

        return ngx_http_llm_budget_variable_int(r, s,
                                                ctx->cost.total > held
                                                ? ctx->cost.total - held : 0);

    case NGX_HTTP_LLM_BUDGET_VAR_DURATION:
        return ngx_http_llm_budget_variable_int(r, s,
                            (ngx_msec_int_t) (ngx_current_msec
                                              - ctx->start_msec));

    case NGX_HTTP_LLM_BUDGET_VAR_USAGE:
        return ngx_http_llm_budget_usage_line(r, ctx, s);

    case NGX_HTTP_LLM_BUDGET_VAR_VERDICT:
        ngx_http_llm_budget_variable_word(s, llmb_verdict_name(ctx->verdict));
        break;

    case NGX_HTTP_LLM_BUDGET_VAR_CODE:
        *s = ctx->refusal.code;
        break;

    case NGX_HTTP_LLM_BUDGET_VAR_LIMIT:
        if (ctx->decided) {
            *s = ctx->decided->name;
        }

        break;

    case NGX_HTTP_LLM_BUDGET_VAR_USAGE_SOURCE:
        ngx_http_llm_budget_variable_word(s,
                               ngx_http_llm_budget_source_name(ctx->source));
        break;

    case NGX_HTTP_LLM_BUDGET_VAR_STORE:
        if (ctx->store) {
            ngx_http_llm_budget_variable_word(s, ctx->store->name);
        }

        break;

    case NGX_HTTP_LLM_BUDGET_VAR_OUTAGE:
        ngx_http_llm_budget_variable_word(s,
                               ngx_http_llm_budget_outage_name(ctx->outage));
        break;

    case NGX_HTTP_LLM_BUDGET_VAR_END:
        ngx_http_llm_budget_variable_word(s, ctx->end);
        break;

    default:
        s->data = ctx->lmcf->prices.version;
        s->len = sizeof(ctx->lmcf->prices.version);
        break;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_variable_int(ngx_http_request_t *r, ngx_str_t *s,
    int64_t n)
{
    s->data = ngx_pnalloc(r->pool, NGX_INT64_LEN);
    if (s->data == NULL) {
        return NGX_ERROR;
    }

    s->len = (size_t) (ngx_sprintf(s->data, "%L", n) - s->data);

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_variable_money(ngx_http_request_t *r, ngx_str_t *s,
    int64_t nusd)
{
    s->data = ngx_pnalloc(r->pool, LLMB_MONEY_LEN);
    if (s->data == NULL) {
        return NGX_ERROR;
    }

    s->len = llmb_money_format(s->data, nusd);

    return NGX_OK;
}


static void
ngx_http_llm_budget_variable_word(ngx_str_t *s, const char *word)
{
    s->data = (u_char *) (uintptr_t) word;
    s->len = ngx_strlen(word);
}
