
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The worst case before the call, its inverse, and the guess after it.
 */


#include "core/llmb_price_rate.h"

#include <string.h>

#include "core/llmb_money.h"


/* bytes of text per token when guessing what passed */
#define LLMB_PRICE_GUESS_BYTES  4


/* what does not depend on the ceiling */

typedef struct {
    int64_t                 fixed_pusd; /* input and searches */
    int64_t                 rate;       /* of output, pico-USD */
    int64_t                 input;      /* tokens */
    int64_t                 answers;
} llmb_price_bound_t;


static llmb_rc_e llmb_price_bound(const llmb_estimate_conf_t *conf,
    const llmb_price_t *price, const llmb_request_t *req,
    llmb_price_bound_t *bound);
static llmb_rc_e llmb_price_tokens(const llmb_estimate_conf_t *conf,
    const llmb_price_t *price, const llmb_request_t *req, int64_t *input,
    int64_t *audio);
static void llmb_price_dearest(const llmb_price_t *price,
    const llmb_request_t *req, int64_t input, int64_t rate[LLMB_RATES]);
static int64_t llmb_price_searches(const llmb_request_t *req);
static int64_t llmb_price_ceiling(const llmb_request_t *req);
static llmb_rc_e llmb_price_parts(const llmb_estimate_conf_t *conf,
    const llmb_request_t *req, uint64_t bytes, int64_t *input, int64_t *audio);
static llmb_rc_e llmb_price_count(int64_t *sum, uint64_t n, int64_t tokens);
static uint64_t llmb_price_pieces(uint64_t n, uint64_t size);
static unsigned llmb_price_remote(const llmb_request_t *req);


llmb_rc_e
llmb_price_estimate(const llmb_estimate_conf_t *conf,
    const llmb_price_t *price, const llmb_request_t *req, int64_t ceiling,
    llmb_estimate_t *estimate)
{
    int64_t             pusd;
    unsigned            bounded;
    llmb_price_bound_t  bound;

    memset(estimate, 0, sizeof(llmb_estimate_t));

    if (llmb_price_bound(conf, price, req, &bound) != LLMB_OK) {
        return LLMB_OVERFLOW;
    }

    bounded = 1;

    if (ceiling < 0) {
        ceiling = llmb_price_ceiling(req);

        /* interleaved thinking may have a budget above max_tokens (T20) */

        if (ceiling >= 0 && req->dialect == LLMB_DIALECT_MESSAGES
            && req->thinking_budget.is_set)
        {
            ceiling = llmb_price_max(ceiling, req->thinking_budget.value);
        }
    }

    if (ceiling < 0) {
        bounded = (price->max_output > 0 && !conf->assume_default);
        ceiling = bounded ? price->max_output : conf->default_output;
    }

    if (price->max_output > 0) {
        ceiling = llmb_price_min(ceiling, price->max_output);
    }

    estimate->input = bound.input;
    estimate->answers = bound.answers;
    estimate->ceiling = ceiling;
    estimate->bounded = bounded;

    /* a price of one pico-USD makes it a checked product */

    pusd = bound.fixed_pusd;

    if (llmb_money_charge(&estimate->output, ceiling, bound.answers)
        != LLMB_OK
        || llmb_money_charge(&pusd, estimate->output, bound.rate) != LLMB_OK)
    {
        return LLMB_OVERFLOW;
    }

    estimate->nusd = llmb_money_round(pusd);

    return LLMB_OK;
}


llmb_rc_e
llmb_price_fit(const llmb_estimate_conf_t *conf, const llmb_price_t *price,
    const llmb_request_t *req, int64_t left_nusd, int64_t left_output,
    int64_t left_tokens, int64_t *ceiling)
{
    int64_t             left_pusd, own, fit, each;
    llmb_price_bound_t  bound;

    if (left_nusd < 0 || left_output < 0
        || llmb_price_bound(conf, price, req, &bound) != LLMB_OK)
    {
        return LLMB_DECLINED;
    }

    /* rounding up, as x <= 1000 * left, is the same as comparing unrounded */

    left_pusd = (left_nusd > INT64_MAX / LLMB_PRICE_PUSD_NUSD)
                ? INT64_MAX : left_nusd * LLMB_PRICE_PUSD_NUSD;

    if (bound.fixed_pusd > left_pusd || bound.input > left_tokens
        || bound.answers < 1 || bound.rate < 0)
    {
        return LLMB_DECLINED;
    }

    fit = LLMB_REQUEST_INT_MAX;
    own = llmb_price_ceiling(req);

    if (own >= 0) {
        fit = llmb_price_min(fit, own);
    }

    if (price->max_output > 0) {
        fit = llmb_price_min(fit, price->max_output);
    }

    fit = llmb_price_min(fit, left_output / bound.answers);

    if (left_tokens != INT64_MAX) {
        fit = llmb_price_min(fit, (left_tokens - bound.input) / bound.answers);
    }

    /* dividing twice is the same as by the product, and cannot overflow */

    if (bound.rate > 0) {
        each = (left_pusd - bound.fixed_pusd) / bound.rate / bound.answers;
        fit = llmb_price_min(fit, each);
    }

    *ceiling = fit;

    return LLMB_OK;
}


static llmb_rc_e
llmb_price_bound(const llmb_estimate_conf_t *conf, const llmb_price_t *price,
    const llmb_request_t *req, llmb_price_bound_t *bound)
{
    int64_t  audio, rate[LLMB_RATES];

    memset(bound, 0, sizeof(llmb_price_bound_t));

    if (llmb_price_tokens(conf, price, req, &bound->input, &audio) != LLMB_OK
        || llmb_request_answers(req, &bound->answers) != LLMB_OK)
    {
        return LLMB_OVERFLOW;
    }

    llmb_price_dearest(price, req, bound->input, rate);

    bound->rate = rate[LLMB_RATE_OUTPUT];

    if (llmb_money_charge(&bound->fixed_pusd, bound->input - audio,
                          rate[LLMB_RATE_INPUT]) != LLMB_OK
        || llmb_money_charge(&bound->fixed_pusd, audio,
                             rate[LLMB_RATE_AUDIO_INPUT]) != LLMB_OK)
    {
        return LLMB_OVERFLOW;
    }

    return llmb_money_charge(&bound->fixed_pusd, llmb_price_searches(req),
                             llmb_price_search_rate(price));
}


static llmb_rc_e
llmb_price_tokens(const llmb_estimate_conf_t *conf, const llmb_price_t *price,
    const llmb_request_t *req, int64_t *input, int64_t *audio)
{
    uint64_t  bytes;

    bytes = (conf->bytes_per_token > 1) ? (uint64_t) conf->bytes_per_token : 1;

    if (llmb_price_parts(conf, req, bytes, input, audio) != LLMB_OK) {
        return LLMB_OVERFLOW;
    }

    if (bytes > 1) {
        return LLMB_OK;
    }

    if (llmb_price_count(input, req->messages, LLMB_PRICE_MESSAGE_TOKENS)
        != LLMB_OK
        || llmb_price_count(input, 1, LLMB_PRICE_TEMPLATE_TOKENS) != LLMB_OK)
    {
        return LLMB_OVERFLOW;
    }

    if (llmb_price_remote(req)) {
        *input = llmb_price_max(*input, price->max_input);
    }

    return LLMB_OK;
}


/*
 * Input that does not stand in the body: stored context, or what the tools
 * bring in that the provider runs itself (wire-formats.md, trap 24).
 */

static unsigned
llmb_price_remote(const llmb_request_t *req)
{
    return req->remote_input || req->hosted_tools > 0;
}


/*
 * The dearest rates of every row that the request could reach.  Rows of
 * smaller sizes count, too: the input may turn out smaller than estimated.
 */

static void
llmb_price_dearest(const llmb_price_t *price, const llmb_request_t *req,
    int64_t input, int64_t rate[LLMB_RATES])
{
    int64_t                  in;
    unsigned                 i, every;
    llmb_str_t               text;
    llmb_tier_e              tier;
    unsigned char            name[LLMB_TIER_LEN];
    const llmb_price_row_t  *row;

    memset(rate, 0, LLMB_RATES * sizeof(int64_t));

    text.len = (req->tier_len < LLMB_TIER_LEN) ? req->tier_len : LLMB_TIER_LEN;
    text.data = name;
    memcpy(name, req->tier, text.len);

    tier = LLMB_TIER_DEFAULT;
    every = 0;

    if (text.len > 0 && llmb_price_tier(&text, &tier) != LLMB_OK) {
        every = 1;
    }

    if (llmb_price_row(price, tier, input) == NULL) {
        every = 1;
    }

    for (i = 0; i < price->n_rows; i++) {
        row = &price->row[i];

        if (!every && row->tier != tier && row->tier != LLMB_TIER_DEFAULT) {
            continue;
        }

        if (llmb_price_remote(req) || llmb_price_reached(row, input)) {
            llmb_price_raise(row, rate);
        }
    }

    if (rate[LLMB_RATE_INPUT] < 0 || rate[LLMB_RATE_OUTPUT] < 0) {
        return;
    }

    /* a cache may be read unasked; Messages write to it only when asked */

    in = llmb_price_max(rate[LLMB_RATE_INPUT], rate[LLMB_RATE_CACHED_READ]);

    if (req->cache_control || req->dialect != LLMB_DIALECT_MESSAGES) {
        in = llmb_price_max(in, rate[LLMB_RATE_CACHE_WRITE_5M]);
    }

    if (req->cache_1h) {
        in = llmb_price_max(in, rate[LLMB_RATE_CACHE_WRITE_1H]);
    }

    rate[LLMB_RATE_INPUT] = in;
    rate[LLMB_RATE_AUDIO_INPUT] = llmb_price_max(in,
                                                 rate[LLMB_RATE_AUDIO_INPUT]);
    rate[LLMB_RATE_OUTPUT] = llmb_price_max(rate[LLMB_RATE_OUTPUT],
                                            rate[LLMB_RATE_AUDIO_OUTPUT]);
}


static int64_t
llmb_price_searches(const llmb_request_t *req)
{
    if (req->hosted_searches == 0) {
        return 0;
    }

    if (req->hosted_max_uses > 0) {
        return (req->hosted_max_uses < (uint64_t) LLMB_REQUEST_INT_MAX)
               ? (int64_t) req->hosted_max_uses : LLMB_REQUEST_INT_MAX;
    }

    return (int64_t) req->hosted_searches * LLMB_PRICE_SEARCH_USES;
}


/* The request's own ceiling, or -1. */

static int64_t
llmb_price_ceiling(const llmb_request_t *req)
{
    const char                *name;
    const llmb_request_int_t  *given;

    given = llmb_request_ceiling(req, &name);

    return (given != NULL) ? given->value : -1;
}


void
llmb_price_guess(const llmb_estimate_conf_t *conf, const llmb_request_t *req,
    const llmb_estimate_t *estimate, uint64_t content_bytes,
    uint64_t content_deltas, llmb_usage_t *usage)
{
    int64_t   *n, in, audio;
    uint64_t   out;

    memset(usage, 0, sizeof(llmb_usage_t));

    n = usage->counts.n;

    if (llmb_price_parts(conf, req, LLMB_PRICE_GUESS_BYTES, &in, &audio)
        != LLMB_OK)
    {
        in = INT64_MAX;
    }

    /* a delta has at least one token, and a long one has several (T47) */

    out = llmb_price_pieces(content_bytes, LLMB_PRICE_GUESS_BYTES);

    if (content_bytes > 0 && out < content_deltas) {
        out = content_deltas;
    }

    if (out > (uint64_t) LLMB_USAGE_INT_MAX) {
        out = (uint64_t) LLMB_USAGE_INT_MAX;
    }

    /* what is not in the body cannot be guessed from it */

    if (llmb_price_remote(req)) {
        in = estimate->input;
    }

    n[LLMB_USAGE_INPUT] = llmb_price_min(in, estimate->input);
    n[LLMB_USAGE_OUTPUT] = llmb_price_min((int64_t) out, estimate->output);
    n[LLMB_USAGE_TOTAL] = n[LLMB_USAGE_INPUT];

    if (llmb_money_add(n[LLMB_USAGE_TOTAL], n[LLMB_USAGE_OUTPUT],
                       &n[LLMB_USAGE_TOTAL])
        != LLMB_OK)
    {
        n[LLMB_USAGE_TOTAL] = INT64_MAX;
    }

    usage->counts.present = 1u << LLMB_USAGE_INPUT | 1u << LLMB_USAGE_OUTPUT
                            | 1u << LLMB_USAGE_TOTAL;
}


/* What stands in the body, with so many bytes of text a token. */

static llmb_rc_e
llmb_price_parts(const llmb_estimate_conf_t *conf, const llmb_request_t *req,
    uint64_t bytes, int64_t *input, int64_t *audio)
{
    *input = 0;
    *audio = 0;

    if (llmb_price_count(input, llmb_price_pieces(req->text_bytes, bytes), 1)
        != LLMB_OK
        || llmb_price_count(input, req->token_ids, 1) != LLMB_OK
        || llmb_price_count(input, req->images, conf->image_tokens) != LLMB_OK
        || llmb_price_count(input, req->files, conf->file_tokens) != LLMB_OK
        || llmb_price_count(audio, req->audios, conf->audio_tokens) != LLMB_OK
        || llmb_price_count(input, 1, *audio) != LLMB_OK)
    {
        return LLMB_OVERFLOW;
    }

    return LLMB_OK;
}


static llmb_rc_e
llmb_price_count(int64_t *sum, uint64_t n, int64_t tokens)
{
    if (n > (uint64_t) INT64_MAX) {
        return LLMB_OVERFLOW;
    }

    return llmb_money_charge(sum, (int64_t) n, tokens);
}


/* n / size, rounded up */

static uint64_t
llmb_price_pieces(uint64_t n, uint64_t size)
{
    return n / size + (n % size != 0);
}
