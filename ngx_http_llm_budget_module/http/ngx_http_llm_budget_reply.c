
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Refusals in the client's dialect, and the headers of admitted answers.
 */


#include "http/ngx_http_llm_budget_outage.h"
#include "http/ngx_http_llm_budget_reply.h"
#include "http/ngx_http_llm_budget_store.h"

#include "core/llmb_money.h"
#include "core/llmb_out.h"


/* seconds up to which a client is told to wait and try again (wire-formats.md
   section 14: SDKs ignore a longer wait and hammer) */
#define NGX_HTTP_LLM_BUDGET_WAIT    60


static ngx_int_t ngx_http_llm_budget_push_header(ngx_http_request_t *r,
    const char *name, ngx_str_t *value);
static ngx_int_t ngx_http_llm_budget_push_id(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_push_outage(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static void ngx_http_llm_budget_refusal_json(llmb_out_t *out,
    const ngx_http_llm_budget_refusal_t *refusal, llmb_dialect_e dialect,
    ngx_uint_t show_amounts);
static void ngx_http_llm_budget_refusal_metadata(llmb_out_t *out,
    const ngx_http_llm_budget_refusal_t *refusal, ngx_uint_t show_amounts);
static void ngx_http_llm_budget_out_amount(llmb_out_t *out, const char *name,
    llmb_unit_e unit, int64_t amount);
static const char *ngx_http_llm_budget_openai_type(
    const ngx_http_llm_budget_refusal_t *refusal);
static const char *ngx_http_llm_budget_anthropic_type(ngx_uint_t status);


ngx_int_t
ngx_http_llm_budget_refuse(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_int_t                       rc;
    ngx_str_t                       body, value;
    ngx_buf_t                      *b;
    ngx_chain_t                     out;
    ngx_http_llm_budget_refusal_t  *refusal;

    static ngx_str_t  none = ngx_null_string;

    refusal = &ctx->refusal;

    ctx->state = NGX_HTTP_LLM_BUDGET_DENIED;
    ctx->verdict = LLMB_VERDICT_DENY;
    ctx->end = "denied";

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "llm_budget: refused with %ui \"%V\", limit \"%V\", "
                  "parameter \"%V\", model \"%V\"",
                  refusal->status, &refusal->code,
                  refusal->limit ? &refusal->limit->name : &none,
                  &refusal->param, &ctx->model);

    if (r->headers_in.expect && !r->expect_tested) {

        /*
         * A refusal is no "100 Continue" (T63), and whether a body will come
         * after it is not known.
         */

        r->expect_tested = 1;
        r->keepalive = 0;
    }

    if (refusal->status == NGX_HTTP_REQUEST_ENTITY_TOO_LARGE) {
        r->keepalive = 0;
    }

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, rc);
        return NGX_DONE;
    }

    if (ngx_http_llm_budget_refusal_body(r, ctx, &body) != NGX_OK) {
        goto failed;
    }

    r->headers_out.status = refusal->status;
    r->headers_out.content_length_n = (off_t) body.len;
    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;

    if (refusal->retry) {
        value.data = ngx_pnalloc(r->pool, NGX_INT_T_LEN);
        if (value.data == NULL) {
            goto failed;
        }

        value.len = (size_t) (ngx_sprintf(value.data, "%ui", refusal->retry)
                              - value.data);

        if (ngx_http_llm_budget_push_header(r, "Retry-After", &value)
            != NGX_OK)
        {
            goto failed;
        }
    }

    if (refusal->retry == 0 || refusal->retry > NGX_HTTP_LLM_BUDGET_WAIT) {

        /* our own trouble may pass; a refusal does not change (T42) */

        if (refusal->status == NGX_HTTP_SERVICE_UNAVAILABLE
            && refusal->limit == NULL)
        {
            ngx_str_set(&value, "true");

        } else {
            ngx_str_set(&value, "false");
        }

        if (ngx_http_llm_budget_push_header(r, "x-should-retry", &value)
            != NGX_OK)
        {
            goto failed;
        }
    }

    if (ngx_http_llm_budget_refusal_headers(r, ctx) != NGX_OK) {
        goto failed;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        ngx_http_finalize_request(r, rc);
        return NGX_DONE;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        ngx_http_finalize_request(r, NGX_ERROR);
        return NGX_DONE;
    }

    b->pos = body.data;
    b->last = body.data + body.len;
    b->memory = 1;
    b->last_buf = 1;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    ngx_http_finalize_request(r, ngx_http_output_filter(r, &out));

    return NGX_DONE;

failed:

    ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);

    return NGX_DONE;
}


static ngx_int_t
ngx_http_llm_budget_push_header(ngx_http_request_t *r, const char *name,
    ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_http_llm_budget_header_init(h);
    h->key.data = (u_char *) (uintptr_t) name;
    h->key.len = ngx_strlen(name);
    h->value = *value;

    return NGX_OK;
}


/* the call's id: that of its hold and of its usage line */

static ngx_int_t
ngx_http_llm_budget_push_id(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_str_t  id;

    id.len = NGX_HTTP_LLM_BUDGET_ID_LEN;
    id.data = ngx_pnalloc(r->pool, id.len);
    if (id.data == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_hex_dump(id.data, ctx->id, LLMB_LEDGER_ID);

    return ngx_http_llm_budget_push_header(r, "x-llm-budget-id", &id);
}


ngx_int_t
ngx_http_llm_budget_refusal_body(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_str_t *body)
{
    u_char      id[NGX_HTTP_LLM_BUDGET_ID_LEN];
    llmb_out_t  out;

    (void) ngx_hex_dump(id, ctx->id, LLMB_LEDGER_ID);

    ctx->refusal.id.data = id;
    ctx->refusal.id.len = NGX_HTTP_LLM_BUDGET_ID_LEN;

    llmb_out_init(&out, NULL, 0);
    ngx_http_llm_budget_refusal_json(&out, &ctx->refusal, ctx->dialect,
                                     (ngx_uint_t) ctx->llcf->show_amounts);

    body->len = out.need;
    body->data = ngx_pnalloc(r->pool, out.need);
    if (body->data == NULL) {
        return NGX_ERROR;
    }

    llmb_out_init(&out, body->data, body->len);
    ngx_http_llm_budget_refusal_json(&out, &ctx->refusal, ctx->dialect,
                                     (ngx_uint_t) ctx->llcf->show_amounts);

    ngx_str_null(&ctx->refusal.id);

    return NGX_OK;
}


static void
ngx_http_llm_budget_refusal_json(llmb_out_t *out,
    const ngx_http_llm_budget_refusal_t *refusal, llmb_dialect_e dialect,
    ngx_uint_t show_amounts)
{
    if (dialect == LLMB_DIALECT_MESSAGES) {
        llmb_out_text(out, "{\"type\":\"error\",\"error\":{\"type\":\"");
        llmb_out_text(out,
                      ngx_http_llm_budget_anthropic_type(refusal->status));

    } else {
        llmb_out_text(out, "{\"error\":{\"type\":\"");
        llmb_out_text(out, ngx_http_llm_budget_openai_type(refusal));
    }

    llmb_out_text(out, "\",\"message\":");
    llmb_out_json(out, (const llmb_str_t *) &refusal->message);

    if (dialect != LLMB_DIALECT_MESSAGES) {
        llmb_out_text(out, ",\"param\":");

        if (refusal->param.len) {
            llmb_out_json(out, (const llmb_str_t *) &refusal->param);

        } else {
            llmb_out_text(out, "null");
        }
    }

    llmb_out_text(out, ",\"code\":");
    llmb_out_json(out, (const llmb_str_t *) &refusal->code);
    llmb_out_text(out, ",\"source\":\"gateway\"");

    if (refusal->limit) {
        ngx_http_llm_budget_refusal_metadata(out, refusal, show_amounts);
    }

    llmb_out_text(out, "}");

    if (dialect == LLMB_DIALECT_MESSAGES) {
        llmb_out_text(out, ",\"request_id\":");
        llmb_out_json(out, (const llmb_str_t *) &refusal->id);
    }

    llmb_out_text(out, "}");
}


static void
ngx_http_llm_budget_refusal_metadata(llmb_out_t *out,
    const ngx_http_llm_budget_refusal_t *refusal, ngx_uint_t show_amounts)
{
    llmb_str_t               text;
    unsigned char            time[LLMB_PERIOD_TIME_LEN];
    const llmb_ledger_leg_t  *leg;

    leg = refusal->leg;

    llmb_out_text(out, ",\"metadata\":{\"scope\":");
    llmb_out_json(out, (const llmb_str_t *) &refusal->limit->name);

    if (leg) {
        llmb_out_text(out, ",\"unit\":\"");
        llmb_out_text(out, llmb_unit_name(leg->unit));
        llmb_out_text(out, "\"");

        if (show_amounts) {
            ngx_http_llm_budget_out_amount(out, "limit", leg->unit,
                                           leg->limit);
            ngx_http_llm_budget_out_amount(out, "spent", leg->unit,
                                           leg->spent);
            ngx_http_llm_budget_out_amount(out, "held", leg->unit, leg->held);
            ngx_http_llm_budget_out_amount(out, "requested", leg->unit,
                                           leg->amount);
        }

        llmb_out_text(out, ",\"resets_at\":");

        if (leg->end_ms == INT64_MAX) {
            llmb_out_text(out, "null");

        } else {
            text.data = time;
            text.len = llmb_period_format(time, leg->end_ms);
            llmb_out_json(out, &text);
        }
    }

    llmb_out_text(out, "}");
}


/* dollars are decimal strings, counts are numbers */

static void
ngx_http_llm_budget_out_amount(llmb_out_t *out, const char *name,
    llmb_unit_e unit, int64_t amount)
{
    llmb_out_text(out, ",\"");
    llmb_out_text(out, name);

    if (unit == LLMB_UNIT_USD) {
        llmb_out_text(out, "_usd\":\"");
        llmb_out_nusd(out, amount);
        llmb_out_text(out, "\"");
        return;
    }

    llmb_out_text(out, "\":");
    llmb_out_int(out, amount);
}


static const char *
ngx_http_llm_budget_openai_type(const ngx_http_llm_budget_refusal_t *refusal)
{
    if (refusal->leg) {
        return (refusal->leg->unit == LLMB_UNIT_USD) ? "budget_exceeded"
                                                     : "rate_limit_error";
    }

    switch (refusal->status) {

    case NGX_HTTP_UNAUTHORIZED:
        return "authentication_error";

    case NGX_HTTP_FORBIDDEN:
        return "permission_error";

    default:
        return refusal->status < NGX_HTTP_INTERNAL_SERVER_ERROR
               ? "invalid_request_error" : "server_error";
    }
}


static const char *
ngx_http_llm_budget_anthropic_type(ngx_uint_t status)
{
    switch (status) {

    case NGX_HTTP_UNAUTHORIZED:
        return "authentication_error";

    case 402:
        return "billing_error";

    case NGX_HTTP_FORBIDDEN:
        return "permission_error";

    case NGX_HTTP_NOT_FOUND:
        return "not_found_error";

    case NGX_HTTP_REQUEST_ENTITY_TOO_LARGE:
        return "request_too_large";

    case NGX_HTTP_TOO_MANY_REQUESTS:
        return "rate_limit_error";

    default:
        return status < NGX_HTTP_INTERNAL_SERVER_ERROR
               ? "invalid_request_error" : "api_error";
    }
}


ngx_int_t
ngx_http_llm_budget_refusal_headers(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    if (ngx_http_llm_budget_push_header(r, "x-llm-budget-code",
                                        &ctx->refusal.code)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_llm_budget_push_outage(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_llm_budget_push_id(r, ctx);
}


/* the store is away, and this is what was done about it */

static ngx_int_t
ngx_http_llm_budget_push_outage(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_str_t  value;

    if (ctx->outage == NGX_HTTP_LLM_BUDGET_OUTAGE_NONE) {
        return NGX_OK;
    }

    value.data = (u_char *) (uintptr_t)
                 ngx_http_llm_budget_outage_name(ctx->outage);
    value.len = ngx_strlen(value.data);

    return ngx_http_llm_budget_push_header(r, "x-llm-budget-outage", &value);
}


ngx_int_t
ngx_http_llm_budget_answer_headers(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    u_char                   *p;
    int64_t                   left, least;
    unsigned                  i;
    ngx_str_t                 value;
    const llmb_ledger_leg_t  *leg;

    ngx_str_set(&value, "");
    value.data = (u_char *) (uintptr_t) llmb_verdict_name(ctx->verdict);
    value.len = ngx_strlen(value.data);

    if (ngx_http_llm_budget_push_id(r, ctx) != NGX_OK
        || ngx_http_llm_budget_push_outage(r, ctx) != NGX_OK
        || ngx_http_llm_budget_push_header(r, "x-llm-budget-verdict", &value)
           != NGX_OK
        || ngx_http_llm_budget_push_header(r, "x-llm-budget-model",
                                           &ctx->model)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ctx->rungs) {
        value.len = ctx->req->model_len;
        value.data = ctx->req->model;

        if (ngx_http_llm_budget_push_header(r, "x-llm-budget-degraded-from",
                                            &value)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (ctx->clamp >= 0) {
        p = ngx_pnalloc(r->pool, NGX_INT64_LEN);
        if (p == NULL) {
            return NGX_ERROR;
        }

        value.data = p;
        value.len = (size_t) (ngx_sprintf(p, "%L", ctx->clamp) - p);

        if (ngx_http_llm_budget_push_header(r, "x-llm-budget-max-output",
                                            &value)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (!ctx->llcf->show_amounts || ctx->open == NULL
        || ctx->outage == NGX_HTTP_LLM_BUDGET_OUTAGE_ALLOW)
    {
        return NGX_OK;
    }

    /* what the tightest dollar budget has left while this call is held */

    least = INT64_MAX;

    for (i = 0; i < ctx->open->n; i++) {
        leg = &ctx->open->leg[i];

        if (leg->unit != LLMB_UNIT_USD) {
            continue;
        }

        left = leg->limit - leg->spent - leg->held - leg->amount;
        least = ngx_min(least, ngx_max(left, 0));
    }

    if (least == INT64_MAX) {
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, LLMB_MONEY_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    value.data = p;
    value.len = llmb_money_format(p, least);

    return ngx_http_llm_budget_push_header(r, "x-llm-budget-remaining-usd",
                                           &value);
}


void
ngx_http_llm_budget_own_error(ngx_uint_t status,
    ngx_http_llm_budget_refusal_t *refusal)
{
    ngx_memzero(refusal, sizeof(ngx_http_llm_budget_refusal_t));

    refusal->status = status;

    switch (status) {

    case NGX_HTTP_REQUEST_ENTITY_TOO_LARGE:
        ngx_str_set(&refusal->code, "request_too_large");
        ngx_str_set(&refusal->message, "The request body is too large.");
        break;

    case NGX_HTTP_BAD_GATEWAY:
    case NGX_HTTP_SERVICE_UNAVAILABLE:
        ngx_str_set(&refusal->code, "upstream_unavailable");
        ngx_str_set(&refusal->message, "The provider could not be reached.");
        break;

    case NGX_HTTP_GATEWAY_TIME_OUT:
        ngx_str_set(&refusal->code, "upstream_timeout");
        ngx_str_set(&refusal->message, "The provider did not answer in time.");
        break;

    case NGX_HTTP_UNAUTHORIZED:
    case NGX_HTTP_FORBIDDEN:
        ngx_str_set(&refusal->code, "access_denied");
        ngx_str_set(&refusal->message, "Access is denied.");
        break;

    default:
        if (status < NGX_HTTP_INTERNAL_SERVER_ERROR) {
            ngx_str_set(&refusal->code, "request_invalid");
            ngx_str_set(&refusal->message, "The request cannot be served.");
            break;
        }

        ngx_str_set(&refusal->code, "internal_error");
        ngx_str_set(&refusal->message, "The gateway failed.");
        break;
    }
}
