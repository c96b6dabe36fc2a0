
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The end of a hold: what an answer cost, by how it ended.
 */


#include "http/ngx_http_llm_budget_inflate.h"
#include "http/ngx_http_llm_budget_settle.h"


static void ngx_http_llm_budget_close_answered(
    ngx_http_llm_budget_ctx_t *ctx);
static void ngx_http_llm_budget_post(ngx_http_llm_budget_ctx_t *ctx,
    ngx_http_llm_budget_source_e source);
static void ngx_http_llm_budget_post_guess(ngx_http_llm_budget_ctx_t *ctx,
    ngx_uint_t known);
static void ngx_http_llm_budget_post_hold(ngx_http_llm_budget_ctx_t *ctx);
static ngx_int_t ngx_http_llm_budget_cost(ngx_http_llm_budget_ctx_t *ctx);
static void ngx_http_llm_budget_add_attempts(ngx_http_llm_budget_ctx_t *ctx);
static ngx_uint_t ngx_http_llm_budget_unanswered(ngx_http_request_t *r);
static void ngx_http_llm_budget_void(ngx_http_llm_budget_ctx_t *ctx);
static void ngx_http_llm_budget_nothing(ngx_http_llm_budget_ctx_t *ctx);
static ngx_uint_t ngx_http_llm_budget_client_gone(ngx_http_request_t *r);


void
ngx_http_llm_budget_settle(ngx_http_llm_budget_ctx_t *ctx)
{
    llmb_rc_e  rc;

    if (!ctx->pending || !(ctx->reader->seen & LLMB_SEEN_FINAL)) {
        return;
    }

    rc = llmb_usage_result(ctx->reader, ctx->req->cache_1h, ctx->usage);

    if (rc == LLMB_OK) {
        ctx->end = (ctx->reader->seen & LLMB_SEEN_ERROR) ? "error_event"
                                                         : "complete";
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
        ngx_http_llm_budget_abandon(ctx);
        return;
    }

    r = ctx->request;
    u = r->upstream;

    if (ctx->answered) {
        ngx_http_llm_budget_close_answered(ctx);
        return;
    }

    ctx->end = ngx_http_llm_budget_client_gone(r) ? "aborted"
                                                  : "upstream_lost";

    if (u && u->request_body_sent && u->headers_in.status_n < 300) {

        if (u->headers_in.status_n >= NGX_HTTP_OK) {

            /* an answer began, and nginx threw it away (T51) */

            ngx_http_llm_budget_post_hold(ctx);

        } else {
            /* never answered: the provider may bill the prompt (T37) */

            ngx_http_llm_budget_post_guess(ctx, 0);
        }

        return;
    }

    if (u && u->headers_in.status_n >= NGX_HTTP_SPECIAL_RESPONSE) {
        ngx_http_llm_budget_release(ctx, "upstream_error");
        return;
    }

    if (ngx_http_llm_budget_unanswered(r)) {

        /* the last attempt was not sent, but one before it was */

        ngx_http_llm_budget_post_guess(ctx, 0);
        return;
    }

    ctx->end = "not_sent";
    ngx_http_llm_budget_void(ctx);
}


static void
ngx_http_llm_budget_close_answered(ngx_http_llm_budget_ctx_t *ctx)
{
    llmb_rc_e             rc;
    ngx_uint_t            told;
    llmb_usage_reader_t  *reader;

    reader = ctx->reader;

    if (reader == NULL) {

        /* no memory to read it with */

        ngx_http_llm_budget_post_hold(ctx);
        return;
    }

    if (!ctx->ended) {
        ctx->ended = 1;
        llmb_usage_end(reader);
    }

    rc = llmb_usage_result(reader, ctx->req->cache_1h, ctx->usage);

    /*
     * The first event of a message has a count of the output, too: it is the
     * last word only where nothing was generated after it (T10).
     */

    told = (reader->seen & LLMB_SEEN_FINAL)
           || (ctx->complete
               && reader->told_deltas == reader->content_deltas);

    if (rc == LLMB_OK && told) {
        ctx->end = (reader->seen & LLMB_SEEN_ERROR) ? "error_event"
                                                    : "complete";
        ngx_http_llm_budget_post(ctx, NGX_HTTP_LLM_BUDGET_SOURCE_PROVIDER);
        return;
    }

    if (reader->seen & LLMB_SEEN_ERROR) {
        ctx->end = "error_event";

        if (rc == LLMB_OK || (reader->seen & LLMB_SEEN_CONTENT)) {
            ngx_http_llm_budget_post_guess(ctx, rc == LLMB_OK);

        } else {
            /* an error inside a 200, before anything was generated (T44) */

            ngx_http_llm_budget_release(ctx, ctx->end);
        }

        return;
    }

    if (ctx->complete) {
        ctx->end = "complete";

        if (rc == LLMB_OK) {
            ngx_http_llm_budget_post_guess(ctx, 1);

        } else {
            /* the whole answer, and no usage: unknown is never zero */

            ngx_http_llm_budget_post_hold(ctx);
        }

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
    int64_t        actual[LLMB_UNITS], *input, *output;
    unsigned       i;
    llmb_usage_t  *usage;

    usage = ctx->usage;

    if (source != NGX_HTTP_LLM_BUDGET_SOURCE_HOLD) {

        ngx_http_llm_budget_add_attempts(ctx);

        if (ngx_http_llm_budget_cost(ctx) != NGX_OK) {
            ctx->flags |= NGX_HTTP_LLM_BUDGET_FLAG_COST_OVERFLOW;
            ngx_http_llm_budget_post_hold(ctx);
            return;
        }
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

    ngx_http_llm_budget_store_close(ctx, actual);
}


/*
 * Attempts that were sent before the one that counts and never answered: the
 * provider may bill the prompt of each (T37).
 */

static void
ngx_http_llm_budget_add_attempts(ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_uint_t           n;
    llmb_usage_t         guess;
    llmb_usage_extra_t  *extra;

    n = ngx_http_llm_budget_unanswered(ctx->request);

    if (n && !ctx->answered) {

        /* one of them is what was guessed already */

        n--;
    }

    if (n == 0) {
        return;
    }

    llmb_price_guess(&ctx->llcf->estimate, ctx->req, &ctx->estimate, 0, 0,
                     &guess);

    while (n-- && ctx->usage->n_extra < LLMB_USAGE_EXTRA) {
        extra = &ctx->usage->extra[ctx->usage->n_extra++];
        ngx_memzero(extra, sizeof(llmb_usage_extra_t));

        extra->counts = guess.counts;
        ctx->flags |= NGX_HTTP_LLM_BUDGET_FLAG_RETRIED;
    }
}


/* attempts of a request that were sent whole and brought no header */

static ngx_uint_t
ngx_http_llm_budget_unanswered(ngx_http_request_t *r)
{
    ngx_uint_t                  i, n;
    ngx_http_upstream_state_t  *state;

    if (r->upstream_states == NULL) {
        return 0;
    }

    state = r->upstream_states->elts;

    for (i = 0, n = 0; i < r->upstream_states->nelts; i++) {
        n += (state[i].peer
              && state[i].header_time == (ngx_msec_t) -1
              && state[i].bytes_sent > r->headers_in.content_length_n);
    }

    return n;
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

        if (ctx->reader) {
            guess.counts.n[LLMB_USAGE_SEARCHES] = ctx->reader->searches_done;
        }

        guess.model_len = ctx->usage->model_len;
        ngx_memcpy(guess.model, ctx->usage->model, ctx->usage->model_len);
        *ctx->usage = guess;

    } else if (ctx->reader->told_deltas < ctx->reader->content_deltas) {
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
    llmb_cost_t          asked;
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

    if (llmb_price_cost(&ctx->lmcf->prices, ctx->priced, &tier, usage,
                        &ctx->cost)
        != LLMB_OK)
    {
        return NGX_ERROR;
    }

    if (tier.len || ctx->req->tier_len == 0) {
        return NGX_OK;
    }

    /*
     * A tier was asked for, and the answer does not say which one served: the
     * dearer counts, or a client could name itself a discount.
     */

    tier.data = ctx->req->tier;
    tier.len = ctx->req->tier_len;

    if (llmb_price_cost(&ctx->lmcf->prices, ctx->priced, &tier, usage, &asked)
        != LLMB_OK)
    {
        return NGX_ERROR;
    }

    if (asked.total > ctx->cost.total) {
        ctx->cost = asked;
    }

    return NGX_OK;
}


void
ngx_http_llm_budget_release(ngx_http_llm_budget_ctx_t *ctx, const char *end)
{
    int64_t  actual[LLMB_UNITS];

    if (!ctx->pending) {
        return;
    }

    ctx->end = end;

    if (ngx_http_llm_budget_unanswered(ctx->request)) {

        /* the last attempt is free, one before it may not be */

        ctx->answered = 0;
        ngx_http_llm_budget_post_guess(ctx, 0);
        return;
    }

    ngx_http_llm_budget_nothing(ctx);

    /* it cost nothing, but it was a request: loops of failures count */

    ngx_memzero(actual, sizeof(actual));
    actual[LLMB_UNIT_REQUESTS] = 1;

    ngx_http_llm_budget_store_close(ctx, actual);
}


void
ngx_http_llm_budget_forfeit(ngx_http_llm_budget_ctx_t *ctx, const char *end)
{
    if (!ctx->pending) {
        return;
    }

    ctx->end = end;
    ngx_http_llm_budget_post_hold(ctx);
}


/* never sent: nothing happened at all */

static void
ngx_http_llm_budget_void(ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_http_llm_budget_nothing(ctx);
    ngx_http_llm_budget_store_close(ctx, NULL);
}


static void
ngx_http_llm_budget_nothing(ngx_http_llm_budget_ctx_t *ctx)
{
    ngx_memzero(&ctx->cost, sizeof(llmb_cost_t));
    ctx->source = NGX_HTTP_LLM_BUDGET_SOURCE_NONE;

    ctx->usage->n_extra = 0;
    ngx_memzero(&ctx->usage->counts, sizeof(llmb_usage_counts_t));
}


static ngx_uint_t
ngx_http_llm_budget_client_gone(ngx_http_request_t *r)
{
    ngx_connection_t  *c;

    c = r->connection;

    return c->error || c->timedout || c->read->timedout || c->write->timedout
           || r->headers_out.status == NGX_HTTP_CLIENT_CLOSED_REQUEST;
}
