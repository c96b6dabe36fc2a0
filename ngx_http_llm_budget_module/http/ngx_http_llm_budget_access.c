
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Admission: where a request is judged, by a state machine keyed on its
 * context, since nginx runs phases again after a body and after redirects.
 */


#include "http/ngx_http_llm_budget_access.h"
#include "http/ngx_http_llm_budget_access_check.h"
#include "http/ngx_http_llm_budget_body.h"
#include "http/ngx_http_llm_budget_forward.h"
#include "http/ngx_http_llm_budget_hold.h"
#include "http/ngx_http_llm_budget_identity.h"
#include "http/ngx_http_llm_budget_reply.h"
#include "http/ngx_http_llm_budget_settle.h"
#include "http/ngx_http_llm_budget_store.h"


static ngx_int_t ngx_http_llm_budget_admit(ngx_http_request_t *r,
    ngx_http_llm_budget_loc_conf_t *llcf);
static ngx_int_t ngx_http_llm_budget_start(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_read(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static void ngx_http_llm_budget_body_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_llm_budget_judge(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_judged(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_int_t rc);
static ngx_int_t ngx_http_llm_budget_wait(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);
static void ngx_http_llm_budget_wake(ngx_http_llm_budget_call_t *call,
    ngx_int_t rc);
static ngx_int_t ngx_http_llm_budget_again(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_http_llm_budget_loc_conf_t *llcf);


ngx_int_t
ngx_http_llm_budget_access_handler(ngx_http_request_t *r)
{
    ngx_http_core_loc_conf_t        *clcf;
    ngx_http_llm_budget_loc_conf_t  *llcf;

    llcf = ngx_http_get_module_loc_conf(r, ngx_http_llm_budget_module);

    if (!llcf->enable || r != r->main || r->post_action) {
        return NGX_DECLINED;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (clcf->satisfy == NGX_HTTP_SATISFY_ANY) {

        /* whether access is granted is known only after this phase */

        return NGX_DECLINED;
    }

    return ngx_http_llm_budget_admit(r, llcf);
}


ngx_int_t
ngx_http_llm_budget_guard_handler(ngx_http_request_t *r)
{
    ngx_http_llm_budget_ctx_t       *ctx;
    ngx_http_llm_budget_loc_conf_t  *llcf;

    llcf = ngx_http_get_module_loc_conf(r, ngx_http_llm_budget_module);

    if (!llcf->enable) {
        ctx = ngx_http_llm_budget_get_ctx(r);

        if (ctx && ngx_http_llm_budget_forward_bare(r, ctx) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        return NGX_DECLINED;
    }

    if (r != r->main) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "llm_budget: subrequest \"%V\" of \"%V\" into a metered "
                      "location is refused", &r->uri, &r->main->uri);
        return NGX_HTTP_FORBIDDEN;
    }

    if (r->post_action) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "llm_budget: post_action into a metered location is "
                      "refused");
        return NGX_HTTP_FORBIDDEN;
    }

    return ngx_http_llm_budget_admit(r, llcf);
}


/* never NGX_OK: under "satisfy any" that would grant access */

static ngx_int_t
ngx_http_llm_budget_admit(ngx_http_request_t *r,
    ngx_http_llm_budget_loc_conf_t *llcf)
{
    ngx_int_t                   rc;
    ngx_http_core_loc_conf_t   *clcf;
    ngx_http_llm_budget_ctx_t  *ctx;

    ctx = ngx_http_llm_budget_get_ctx(r);

    if (ctx == NULL) {
        ctx = ngx_http_llm_budget_create_ctx(r);
        if (ctx == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ctx->llcf = llcf;
        ctx->where = llcf;
    }

    rc = NGX_DECLINED;

    switch (ctx->state) {

    case NGX_HTTP_LLM_BUDGET_START:
        rc = ngx_http_llm_budget_start(r, ctx);
        break;

    case NGX_HTTP_LLM_BUDGET_JUDGE:
        rc = ngx_http_llm_budget_judge(r, ctx);
        break;

    case NGX_HTTP_LLM_BUDGET_WAIT:
        rc = ctx->call->op ? NGX_AGAIN
                           : ngx_http_llm_budget_judged(r, ctx,
                                     ngx_http_llm_budget_hold_resume(r, ctx));
        break;

    case NGX_HTTP_LLM_BUDGET_ADMITTED:
    case NGX_HTTP_LLM_BUDGET_FREE:
    case NGX_HTTP_LLM_BUDGET_BODY:
        rc = ngx_http_llm_budget_again(r, ctx, llcf);
        break;

    case NGX_HTTP_LLM_BUDGET_DENIED:

        /* an error_page may render the refusal, and nothing else */

        clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

        if (clcf->handler) {
            return NGX_HTTP_FORBIDDEN;
        }

        break;
    }

    if (rc == NGX_ABORT) {
        return ngx_http_llm_budget_refuse(r, ctx);
    }

    return (rc == NGX_ERROR) ? NGX_HTTP_INTERNAL_SERVER_ERROR : rc;
}


/*
 * Before the body: endpoint and identity.  A bad key never gets a 100
 * Continue and never fills a file (T63).
 */

static ngx_int_t
ngx_http_llm_budget_start(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_int_t  rc;

    if (ngx_http_llm_budget_hide_key(r) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_http_llm_budget_find_endpoint(r, ctx);

    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_llm_budget_identify(r, ctx);

    if (rc != NGX_OK) {
        return (rc == NGX_DECLINED) ? NGX_ABORT : NGX_ERROR;
    }

    ctx->provider = ctx->llcf->provider;

    if (ctx->endpoint->kind == LLMB_ENDPOINT_FREE) {
        ctx->state = NGX_HTTP_LLM_BUDGET_FREE;

        rc = ngx_http_llm_budget_forward(r, ctx);
        return (rc == NGX_OK) ? NGX_DECLINED : rc;
    }

    rc = ngx_http_llm_budget_check_headers(r, ctx);

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_llm_budget_read(r, ctx);
}


/* the recipe of the core mirror module (NGINX.md 1.1) */

static ngx_int_t
ngx_http_llm_budget_read(ngx_http_request_t *r, ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_int_t  rc;

    ctx->req = ngx_palloc(r->pool, sizeof(llmb_request_t));
    if (ctx->req == NULL) {
        return NGX_ERROR;
    }

    llmb_request_init(ctx->req, ctx->dialect);

    ctx->state = NGX_HTTP_LLM_BUDGET_BODY;

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_llm_budget_body_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    ngx_http_finalize_request(r, NGX_DONE);

    return NGX_DONE;
}


static void
ngx_http_llm_budget_body_handler(ngx_http_request_t *r)
{
    ngx_http_llm_budget_ctx_t  *ctx;

    ctx = ngx_http_llm_budget_get_ctx(r);

    ctx->state = NGX_HTTP_LLM_BUDGET_JUDGE;

    r->preserve_body = 1;

    r->write_event_handler = ngx_http_core_run_phases;
    ngx_http_core_run_phases(r);
}


static ngx_int_t
ngx_http_llm_budget_judge(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ngx_http_llm_budget_body_end(r, ctx);

    if (rc != NGX_OK) {
        return (rc == NGX_DECLINED) ? NGX_ABORT : NGX_ERROR;
    }

    return ngx_http_llm_budget_judged(r, ctx,
                                      ngx_http_llm_budget_hold(r, ctx));
}


static ngx_int_t
ngx_http_llm_budget_judged(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_int_t rc)
{
    if (rc == NGX_AGAIN) {
        return ngx_http_llm_budget_wait(r, ctx);
    }

    if (rc != NGX_OK) {
        ctx->state = NGX_HTTP_LLM_BUDGET_DENIED;
        ngx_http_llm_budget_abandon(ctx);

        return (rc == NGX_DECLINED) ? NGX_ABORT : NGX_ERROR;
    }

    ctx->state = NGX_HTTP_LLM_BUDGET_ADMITTED;

    if (ngx_http_llm_budget_body_splice(r, ctx) != NGX_OK
        || ngx_http_llm_budget_forward(r, ctx) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_DECLINED;
}


/*
 * Until the store answers, as limit_req waits (NGINX.md 1.4): the request is
 * not referenced, so a client that leaves ends it; its end cancels the call.
 */

static ngx_int_t
ngx_http_llm_budget_wait(ngx_http_request_t *r, ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_event_t  *rev;

    ctx->state = NGX_HTTP_LLM_BUDGET_WAIT;
    ctx->call->done = ngx_http_llm_budget_wake;

    rev = r->connection->read;

    if (rev->ready) {
        ngx_post_event(rev, &ngx_posted_events);

    } else if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    return NGX_AGAIN;
}


static void
ngx_http_llm_budget_wake(ngx_http_llm_budget_call_t *call, ngx_int_t rc)
{
    ngx_connection_t           *c;
    ngx_http_request_t         *r;
    ngx_http_llm_budget_ctx_t  *ctx;

    ctx = call->data;
    ctx->call_rc = rc;

    r = ctx->request;
    c = r->connection;

    if (r->post_action) {

        /* the client has left: what was opened is voided at the end */

        ctx->unsure |= (rc != NGX_OK) ? call->unsure
                                      : (!call->late
                                         && call->rc == LLMB_LEDGER_OK);
        return;
    }

    ngx_http_set_log_request(c->log, r);

    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_core_run_phases;

    ngx_http_core_run_phases(r);

    ngx_http_run_posted_requests(c);
}


/*
 * The phases run again for a request that was judged before: the guard after
 * the access handler, or another location after error_page or a rewrite.
 * What was judged is what may be sent: another URI is let through only where
 * nothing but nginx itself answers.
 */

static ngx_int_t
ngx_http_llm_budget_again(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_http_llm_budget_loc_conf_t *llcf)
{
    ngx_int_t                  rc;
    ngx_http_core_loc_conf_t  *clcf;

    if (llcf == ctx->where && r->uri.data == ctx->uri.data) {
        return NGX_DECLINED;
    }

    if (r->uri.len != ctx->uri.len
        || ngx_memcmp(r->uri.data, ctx->uri.data, r->uri.len) != 0
        || ctx->state == NGX_HTTP_LLM_BUDGET_BODY)
    {
        clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

        if (clcf->handler == NULL) {
            return NGX_DECLINED;
        }

        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "llm_budget: \"%V\" was judged, redirect to \"%V\" in a "
                      "metered location is refused", &ctx->uri, &r->uri);

        return NGX_HTTP_FORBIDDEN;
    }

    if (ctx->state == NGX_HTTP_LLM_BUDGET_ADMITTED && !ctx->pending) {

        /* the hold is closed: nothing may be sent on it any more */

        return NGX_HTTP_FORBIDDEN;
    }

    ctx->where = llcf;
    ctx->provider = llcf->provider;

    if (ctx->state == NGX_HTTP_LLM_BUDGET_ADMITTED) {

        rc = ngx_http_llm_budget_reprice(r, ctx);

        if (rc == NGX_DECLINED) {
            return ngx_http_llm_budget_deny(r, ctx, NGX_HTTP_BAD_GATEWAY,
                                            "fallback_exceeds_hold",
                                            "The fallback provider costs more "
                                            "than was held.");
        }

        if (rc != NGX_OK
            || ngx_http_llm_budget_body_splice(r, ctx) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return ngx_http_llm_budget_forward(r, ctx) == NGX_OK ? NGX_DECLINED
                                                         : NGX_ERROR;
}
