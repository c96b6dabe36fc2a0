
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The exact cost of a usage, and the rates that a tier and a size of input
 * have.
 */


#include "core/llmb_price_rate.h"

#include <string.h>

#include "core/llmb_money.h"


/* sums of exact products, pico-USD */

typedef struct {
    int64_t                 input;
    int64_t                 output;
    int64_t                 tools;
} llmb_price_sums_t;


static const llmb_price_t *llmb_price_extra(const llmb_price_table_t *table,
    const llmb_price_t *price, const llmb_usage_extra_t *extra,
    unsigned *flags);
static llmb_rc_e llmb_price_charge(const llmb_price_t *price,
    const llmb_str_t *tier, const llmb_usage_counts_t *counts,
    llmb_price_sums_t *sums, unsigned *flags);
static void llmb_price_rates(const llmb_price_t *price, const llmb_str_t *tier,
    int64_t input, int64_t rate[LLMB_RATES], unsigned *flags);


llmb_rc_e
llmb_price_cost(const llmb_price_table_t *table, const llmb_price_t *price,
    const llmb_str_t *tier, const llmb_usage_t *usage, llmb_cost_t *cost)
{
    int64_t              sum;
    unsigned             i;
    llmb_price_sums_t    sums;
    const llmb_price_t  *other;

    memset(cost, 0, sizeof(llmb_cost_t));
    memset(&sums, 0, sizeof(llmb_price_sums_t));

    if (llmb_price_charge(price, tier, &usage->counts, &sums, &cost->flags)
        != LLMB_OK)
    {
        return LLMB_OVERFLOW;
    }

    for (i = 0; i < usage->n_extra && i < LLMB_USAGE_EXTRA; i++) {
        other = llmb_price_extra(table, price, &usage->extra[i],
                                 &cost->flags);

        if (llmb_price_charge(other, tier, &usage->extra[i].counts, &sums,
                              &cost->flags)
            != LLMB_OK)
        {
            return LLMB_OVERFLOW;
        }
    }

    if (llmb_money_add(sums.input, sums.output, &sum) != LLMB_OK
        || llmb_money_add(sum, sums.tools, &sum) != LLMB_OK)
    {
        return LLMB_OVERFLOW;
    }

    cost->total = llmb_money_round(sum);
    cost->output = sums.output / LLMB_PRICE_PUSD_NUSD;
    cost->tools = sums.tools / LLMB_PRICE_PUSD_NUSD;
    cost->input = cost->total - cost->output - cost->tools;

    return LLMB_OK;
}


/* A sampling of another model is billed at that model (trap 2). */

static const llmb_price_t *
llmb_price_extra(const llmb_price_table_t *table, const llmb_price_t *price,
    const llmb_usage_extra_t *extra, unsigned *flags)
{
    llmb_str_t           model;
    unsigned char        name[LLMB_MODEL_LEN];
    const llmb_price_t  *other;

    if (extra->model_len == 0) {
        return price;
    }

    other = NULL;

    if (table != NULL && extra->model_len <= LLMB_MODEL_LEN) {
        memcpy(name, extra->model, extra->model_len);
        model.len = extra->model_len;
        model.data = name;

        other = llmb_price_find(table, &model, &price->provider);
    }

    if (other == NULL) {
        *flags |= LLMB_COST_EXTRA_UNPRICED;
        return price;
    }

    return other;
}


/*
 * Adds the products of one set of counts.  The clamps repeat those of the
 * normal form: no count may turn another one negative (T21, trap 1).
 */

static llmb_rc_e
llmb_price_charge(const llmb_price_t *price, const llmb_str_t *tier,
    const llmb_usage_counts_t *counts, llmb_price_sums_t *sums,
    unsigned *flags)
{
    int64_t         in, cached, write, write_1h, audio, out, audio_out;
    int64_t         rate[LLMB_RATES];
    unsigned        i;
    const int64_t  *n;

    n = counts->n;

    for (i = 0; i < LLMB_USAGE_FIELDS; i++) {

        if (n[i] < 0) {
            return LLMB_OVERFLOW;
        }
    }

    in = n[LLMB_USAGE_INPUT];
    cached = llmb_price_min(n[LLMB_USAGE_CACHED_READ], in);
    write = llmb_price_min(n[LLMB_USAGE_CACHE_WRITE], in - cached);
    write_1h = llmb_price_min(n[LLMB_USAGE_CACHE_WRITE_1H], write);

    /* what is not cached takes the audio tokens first, the dearer ones */

    audio = llmb_price_min(n[LLMB_USAGE_AUDIO_INPUT], in - cached - write);

    out = n[LLMB_USAGE_OUTPUT];
    audio_out = llmb_price_min(n[LLMB_USAGE_AUDIO_OUTPUT], out);

    llmb_price_rates(price, tier, in, rate, flags);

    if (llmb_money_charge(&sums->input, in - cached - write - audio,
                          rate[LLMB_RATE_INPUT]) != LLMB_OK
        || llmb_money_charge(&sums->input, cached,
                             rate[LLMB_RATE_CACHED_READ]) != LLMB_OK
        || llmb_money_charge(&sums->input, write - write_1h,
                             rate[LLMB_RATE_CACHE_WRITE_5M]) != LLMB_OK
        || llmb_money_charge(&sums->input, write_1h,
                             rate[LLMB_RATE_CACHE_WRITE_1H]) != LLMB_OK
        || llmb_money_charge(&sums->input, audio,
                             rate[LLMB_RATE_AUDIO_INPUT]) != LLMB_OK
        || llmb_money_charge(&sums->output, out - audio_out,
                             rate[LLMB_RATE_OUTPUT]) != LLMB_OK
        || llmb_money_charge(&sums->output, audio_out,
                             rate[LLMB_RATE_AUDIO_OUTPUT]) != LLMB_OK)
    {
        return LLMB_OVERFLOW;
    }

    if (n[LLMB_USAGE_SEARCHES] == 0) {
        return LLMB_OK;
    }

    if (price->search == LLMB_PRICE_NONE) {
        *flags |= LLMB_COST_SEARCH_UNPRICED;
    }

    return llmb_money_charge(&sums->tools, n[LLMB_USAGE_SEARCHES],
                             llmb_price_search_rate(price));
}


int64_t
llmb_price_search_rate(const llmb_price_t *price)
{
    if (price->search != LLMB_PRICE_NONE) {
        return price->search;
    }

    return price->free ? 0 : LLMB_PRICE_SEARCH_DEFAULT;
}


/* The rates of a tier for a size of input; without its own, the dearest. */

static void
llmb_price_rates(const llmb_price_t *price, const llmb_str_t *tier,
    int64_t input, int64_t rate[LLMB_RATES], unsigned *flags)
{
    unsigned                 i;
    llmb_tier_e              known;
    const llmb_price_row_t  *row;

    memset(rate, 0, LLMB_RATES * sizeof(int64_t));

    known = LLMB_TIER_DEFAULT;

    if (tier == NULL || tier->len == 0
        || llmb_price_tier(tier, &known) == LLMB_OK)
    {
        row = llmb_price_row(price, known, input);

        if (row != NULL) {
            llmb_price_raise(row, rate);
            return;
        }
    }

    *flags |= LLMB_COST_TIER_UNPRICED;

    for (i = 0; i < LLMB_TIERS; i++) {
        row = llmb_price_row(price, (llmb_tier_e) i, input);

        if (row != NULL) {
            llmb_price_raise(row, rate);
        }
    }
}


/* The row with the greatest size reached; NULL: the tier has none. */

const llmb_price_row_t *
llmb_price_row(const llmb_price_t *price, llmb_tier_e tier, int64_t input)
{
    unsigned                 i;
    const llmb_price_row_t  *row, *found;

    found = NULL;

    for (i = 0; i < price->n_rows; i++) {
        row = &price->row[i];

        if (row->tier == tier && llmb_price_reached(row, input)
            && (found == NULL || row->above > found->above))
        {
            found = row;
        }
    }

    return found;
}


unsigned
llmb_price_reached(const llmb_price_row_t *row, int64_t input)
{
    if (row->above == 0) {
        return 1;
    }

    return row->inclusive ? input >= row->above : input > row->above;
}


/* Raises rate[] to the row's; what the row lacks follows llmb_rate_e. */

void
llmb_price_raise(const llmb_price_row_t *row, int64_t rate[LLMB_RATES])
{
    int64_t         in, out, all[LLMB_RATES];
    unsigned        i;
    const int64_t  *r;

    r = row->rate;
    in = r[LLMB_RATE_INPUT];
    out = r[LLMB_RATE_OUTPUT];

    for (i = 0; i < LLMB_RATES; i++) {
        all[i] = (r[i] != LLMB_PRICE_NONE) ? r[i] : in;
    }

    if (r[LLMB_RATE_CACHE_WRITE_1H] == LLMB_PRICE_NONE
        && r[LLMB_RATE_CACHE_WRITE_5M] != LLMB_PRICE_NONE)
    {
        all[LLMB_RATE_CACHE_WRITE_1H] =
                        llmb_price_max(r[LLMB_RATE_CACHE_WRITE_5M],
                                       in > INT64_MAX / 2 ? INT64_MAX : in * 2);
    }

    all[LLMB_RATE_OUTPUT] = out;

    if (r[LLMB_RATE_AUDIO_OUTPUT] == LLMB_PRICE_NONE) {
        all[LLMB_RATE_AUDIO_OUTPUT] = out;
    }

    for (i = 0; i < LLMB_RATES; i++) {

        /* a broken row must not pass for free: a charge refuses -1 */

        if (all[i] < 0) {
            rate[i] = LLMB_PRICE_NONE;

        } else if (rate[i] != LLMB_PRICE_NONE) {
            rate[i] = llmb_price_max(rate[i], all[i]);
        }
    }
}


int64_t
llmb_price_min(int64_t a, int64_t b)
{
    return (a < b) ? a : b;
}


int64_t
llmb_price_max(int64_t a, int64_t b)
{
    return (a > b) ? a : b;
}
