
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The price table: lookup of a model, exact cost of a usage, the worst case
 * before the call and its inverse.
 */


#include <string.h>

#include "core/llmb_price.h"
#include "core/llmb_money.h"


#define LLMB_PRICE_FNV_BASIS    UINT32_C(2166136261)
#define LLMB_PRICE_FNV_PRIME    UINT32_C(16777619)

/* the name, behind its prefix, behind the provider's; each with date and cut */
#define LLMB_PRICE_FORMS        6

/* bytes of text per token when guessing what passed */
#define LLMB_PRICE_GUESS_BYTES  4

#define LLMB_PRICE_PUSD_NUSD    1000


typedef struct {
    unsigned                n;
    llmb_str_t              form[LLMB_PRICE_FORMS];
    unsigned char           added[LLMB_NAME_LEN + 1 + LLMB_MODEL_LEN];
} llmb_price_forms_t;


typedef struct {
    const char             *name;
    llmb_tier_e             tier;
} llmb_price_tier_name_t;


/* sums of exact products, pico-USD */

typedef struct {
    int64_t                 input;
    int64_t                 output;
    int64_t                 tools;
} llmb_price_sums_t;


/* what does not depend on the ceiling */

typedef struct {
    int64_t                 fixed_pusd; /* input and searches */
    int64_t                 rate;       /* of output, pico-USD */
    int64_t                 input;      /* tokens */
    int64_t                 answers;
} llmb_price_bound_t;


static unsigned llmb_price_forms(llmb_price_forms_t *forms,
    const llmb_str_t *model, const llmb_str_t *provider);
static const llmb_price_t *llmb_price_lookup(const llmb_price_table_t *table,
    const llmb_str_t *model, const llmb_str_t *provider);
static const llmb_price_t *llmb_price_exact(const llmb_price_table_t *table,
    const llmb_str_t *name);
static size_t llmb_price_date(const llmb_str_t *name);
static unsigned llmb_price_is_date(const unsigned char *p);
static uint32_t llmb_price_hash(const llmb_str_t *name);
static unsigned llmb_price_equal(const llmb_str_t *a, const llmb_str_t *b);

static const llmb_price_t *llmb_price_extra(const llmb_price_table_t *table,
    const llmb_price_t *price, const llmb_usage_extra_t *extra,
    unsigned *flags);
static llmb_rc_e llmb_price_charge(const llmb_price_t *price,
    const llmb_str_t *tier, const llmb_usage_counts_t *counts,
    llmb_price_sums_t *sums, unsigned *flags);
static void llmb_price_rates(const llmb_price_t *price, const llmb_str_t *tier,
    int64_t input, int64_t rate[LLMB_RATES], unsigned *flags);
static const llmb_price_row_t *llmb_price_row(const llmb_price_t *price,
    llmb_tier_e tier, int64_t input);
static unsigned llmb_price_reached(const llmb_price_row_t *row, int64_t input);
static void llmb_price_raise(const llmb_price_row_t *row,
    int64_t rate[LLMB_RATES]);

static llmb_rc_e llmb_price_bound(const llmb_estimate_conf_t *conf,
    const llmb_price_t *price, const llmb_request_t *req,
    llmb_price_bound_t *bound);
static llmb_rc_e llmb_price_tokens(const llmb_estimate_conf_t *conf,
    const llmb_price_t *price, const llmb_request_t *req, int64_t *input,
    int64_t *audio);
static llmb_rc_e llmb_price_count(int64_t *sum, uint64_t n, int64_t tokens);
static void llmb_price_dearest(const llmb_price_t *price,
    const llmb_request_t *req, int64_t input, int64_t rate[LLMB_RATES]);
static int64_t llmb_price_searches(const llmb_request_t *req);
static int64_t llmb_price_ceiling(const llmb_request_t *req);
static int64_t llmb_price_min(int64_t a, int64_t b);
static int64_t llmb_price_max(int64_t a, int64_t b);


/* an unknown name costs as the dearest tier: none is guessed (T17) */

static const llmb_price_tier_name_t  llmb_price_tiers[] = {
    { "default", LLMB_TIER_DEFAULT },
    { "standard", LLMB_TIER_DEFAULT },
    { "standard_only", LLMB_TIER_DEFAULT },
    { "auto", LLMB_TIER_DEFAULT },
    { "on_demand", LLMB_TIER_DEFAULT },
    { "flex", LLMB_TIER_FLEX },
    { "priority", LLMB_TIER_PRIORITY },
    { "fast", LLMB_TIER_PRIORITY },
    { "batch", LLMB_TIER_BATCH },
    { "batches", LLMB_TIER_BATCH }
};


void
llmb_price_index(llmb_price_table_t *table)
{
    uint32_t  slot;
    unsigned  i;

    for (i = 0; i < table->n; i++) {
        slot = llmb_price_hash(&table->prices[i].name) & table->mask;

        while (table->slots[slot] != 0) {
            slot = (slot + 1) & table->mask;
        }

        table->slots[slot] = i + 1;
    }
}


const llmb_price_t *
llmb_price_find(const llmb_price_table_t *table, const llmb_str_t *model,
    const llmb_str_t *provider)
{
    unsigned             i, k, n;
    llmb_price_forms_t   forms;
    const llmb_price_t  *price;

    price = llmb_price_lookup(table, model, provider);

    if (price != NULL || table->n_aliases == 0) {
        return price;
    }

    /* the target of an alias is a model, not another alias */

    n = llmb_price_forms(&forms, model, provider);

    for (i = 0; i < n; i++) {

        for (k = 0; k < table->n_aliases; k++) {

            if (llmb_price_equal(&forms.form[i], &table->aliases[2 * k])) {
                return llmb_price_lookup(table, &table->aliases[2 * k + 1],
                                         provider);
            }
        }
    }

    return NULL;
}


/* Every name that may stand for the model, the most exact first (T19). */

static unsigned
llmb_price_forms(llmb_price_forms_t *forms, const llmb_str_t *model,
    const llmb_str_t *provider)
{
    size_t          len;
    unsigned        i, n;
    llmb_str_t     *form;
    unsigned char  *p;

    form = forms->form;
    form[0] = *model;
    n = 1;

    p = model->len ? memchr(model->data, '/', model->len) : NULL;

    if (p != NULL) {
        len = (size_t) (p + 1 - model->data);
        form[n].data = p + 1;
        form[n].len = model->len - len;
        n++;
    }

    if (provider != NULL && provider->len > 0
        && provider->len <= LLMB_NAME_LEN && model->len > 0
        && model->len <= LLMB_MODEL_LEN)
    {
        memcpy(forms->added, provider->data, provider->len);
        forms->added[provider->len] = '/';
        memcpy(forms->added + provider->len + 1, model->data, model->len);

        form[n].data = forms->added;
        form[n].len = provider->len + 1 + model->len;
        n++;
    }

    forms->n = n;

    for (i = 0; i < n; i++) {
        len = llmb_price_date(&form[i]);

        if (len > 0) {
            form[forms->n].data = form[i].data;
            form[forms->n].len = form[i].len - len;
            forms->n++;
        }
    }

    return forms->n;
}


static const llmb_price_t *
llmb_price_lookup(const llmb_price_table_t *table, const llmb_str_t *model,
    const llmb_str_t *provider)
{
    unsigned             i, n;
    llmb_price_forms_t   forms;
    const llmb_price_t  *price;

    n = llmb_price_forms(&forms, model, provider);

    for (i = 0; i < n; i++) {
        price = llmb_price_exact(table, &forms.form[i]);

        if (price != NULL) {
            return price;
        }
    }

    return NULL;
}


static const llmb_price_t *
llmb_price_exact(const llmb_price_table_t *table, const llmb_str_t *name)
{
    uint32_t             i, slot;
    const llmb_price_t  *price;

    if (table->n == 0 || name->len == 0) {
        return NULL;
    }

    slot = llmb_price_hash(name) & table->mask;

    /* there are more slots than prices */

    for (i = table->slots[slot]; i != 0; i = table->slots[slot]) {
        price = &table->prices[i - 1];

        if (llmb_price_equal(&price->name, name)) {
            return price;
        }

        slot = (slot + 1) & table->mask;
    }

    return NULL;
}


/* The length of the date, or "-latest", that ends a name; 0: none. */

static size_t
llmb_price_date(const llmb_str_t *name)
{
    size_t                len;
    unsigned char         buf[8];
    const unsigned char  *p;

    len = sizeof("-latest") - 1;

    if (name->len > len
        && memcmp(name->data + name->len - len, "-latest", len) == 0)
    {
        return len;
    }

    len = sizeof("-20260709") - 1;

    if (name->len > len) {
        p = name->data + name->len - len;

        if ((p[0] == '-' || p[0] == '@') && llmb_price_is_date(p + 1)) {
            return len;
        }
    }

    len = sizeof("-2026-07-09") - 1;

    if (name->len > len) {
        p = name->data + name->len - len;

        if (p[0] == '-' && p[5] == '-' && p[8] == '-') {
            memcpy(buf, p + 1, 4);
            memcpy(buf + 4, p + 6, 2);
            memcpy(buf + 6, p + 9, 2);

            return llmb_price_is_date(buf) ? len : 0;
        }
    }

    return 0;
}


/* Eight digits: a year of this century, a month and a day. */

static unsigned
llmb_price_is_date(const unsigned char *p)
{
    int       month, day;
    unsigned  i;

    for (i = 0; i < 8; i++) {

        if (p[i] < '0' || p[i] > '9') {
            return 0;
        }
    }

    month = (p[4] - '0') * 10 + (p[5] - '0');
    day = (p[6] - '0') * 10 + (p[7] - '0');

    return p[0] == '2' && p[1] == '0' && month >= 1 && month <= 12
           && day >= 1 && day <= 31;
}


static uint32_t
llmb_price_hash(const llmb_str_t *name)
{
    size_t    i;
    uint32_t  hash;

    hash = LLMB_PRICE_FNV_BASIS;

    for (i = 0; i < name->len; i++) {
        hash = (hash ^ name->data[i]) * LLMB_PRICE_FNV_PRIME;
    }

    return hash;
}


static unsigned
llmb_price_equal(const llmb_str_t *a, const llmb_str_t *b)
{
    return a->len == b->len
           && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}


llmb_rc_e
llmb_price_tier(const llmb_str_t *text, llmb_tier_e *tier)
{
    size_t       i;
    const char  *name;

    for (i = 0; i < sizeof(llmb_price_tiers) / sizeof(llmb_price_tiers[0]);
         i++)
    {
        name = llmb_price_tiers[i].name;

        if (text->len == strlen(name)
            && memcmp(text->data, name, text->len) == 0)
        {
            *tier = llmb_price_tiers[i].tier;
            return LLMB_OK;
        }
    }

    return LLMB_DECLINED;
}


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
        return LLMB_OK;
    }

    return llmb_money_charge(&sums->tools, n[LLMB_USAGE_SEARCHES],
                             price->search);
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

static const llmb_price_row_t *
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


static unsigned
llmb_price_reached(const llmb_price_row_t *row, int64_t input)
{
    if (row->above == 0) {
        return 1;
    }

    return row->inclusive ? input >= row->above : input > row->above;
}


/* Raises rate[] to the row's; what the row lacks follows llmb_rate_e. */

static void
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

    if (price->search == LLMB_PRICE_NONE) {
        return LLMB_OK;
    }

    return llmb_money_charge(&bound->fixed_pusd, llmb_price_searches(req),
                             price->search);
}


static llmb_rc_e
llmb_price_tokens(const llmb_estimate_conf_t *conf, const llmb_price_t *price,
    const llmb_request_t *req, int64_t *input, int64_t *audio)
{
    int64_t   sum;
    uint64_t  bytes;

    sum = 0;
    *audio = 0;

    bytes = (conf->bytes_per_token > 1) ? (uint64_t) conf->bytes_per_token : 1;

    if (llmb_price_count(&sum, req->text_bytes / bytes
                               + (req->text_bytes % bytes != 0), 1) != LLMB_OK
        || llmb_price_count(&sum, req->token_ids, 1) != LLMB_OK
        || llmb_price_count(&sum, req->images, conf->image_tokens) != LLMB_OK
        || llmb_price_count(&sum, req->files, conf->file_tokens) != LLMB_OK
        || llmb_price_count(audio, req->audios, conf->audio_tokens) != LLMB_OK
        || llmb_price_count(&sum, 1, *audio) != LLMB_OK)
    {
        return LLMB_OVERFLOW;
    }

    if (bytes == 1) {

        if (llmb_price_count(&sum, req->messages, LLMB_PRICE_MESSAGE_TOKENS)
            != LLMB_OK
            || llmb_price_count(&sum, 1, LLMB_PRICE_TEMPLATE_TOKENS)
               != LLMB_OK)
        {
            return LLMB_OVERFLOW;
        }

        if (req->remote_input) {
            sum = llmb_price_max(sum, price->max_input);
        }
    }

    *input = sum;

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

        if (req->remote_input || llmb_price_reached(row, input)) {
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


void
llmb_price_guess(const llmb_estimate_conf_t *conf, const llmb_request_t *req,
    const llmb_estimate_t *estimate, uint64_t content_bytes,
    uint64_t content_deltas, llmb_usage_t *usage)
{
    int64_t   *n, in;
    uint64_t   out;

    memset(usage, 0, sizeof(llmb_usage_t));

    n = usage->counts.n;
    in = 0;

    if (llmb_price_count(&in, req->text_bytes / LLMB_PRICE_GUESS_BYTES
                              + (req->text_bytes % LLMB_PRICE_GUESS_BYTES
                                 != 0), 1) != LLMB_OK
        || llmb_price_count(&in, req->token_ids, 1) != LLMB_OK
        || llmb_price_count(&in, req->images, conf->image_tokens) != LLMB_OK
        || llmb_price_count(&in, req->audios, conf->audio_tokens) != LLMB_OK
        || llmb_price_count(&in, req->files, conf->file_tokens) != LLMB_OK)
    {
        in = INT64_MAX;
    }

    /* a delta has at least one token, and a long one has several (T47) */

    out = content_bytes / LLMB_PRICE_GUESS_BYTES
          + (content_bytes % LLMB_PRICE_GUESS_BYTES != 0);

    if (content_bytes > 0 && out < content_deltas) {
        out = content_deltas;
    }

    if (out > (uint64_t) LLMB_USAGE_INT_MAX) {
        out = (uint64_t) LLMB_USAGE_INT_MAX;
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


static int64_t
llmb_price_min(int64_t a, int64_t b)
{
    return (a < b) ? a : b;
}


static int64_t
llmb_price_max(int64_t a, int64_t b)
{
    return (a > b) ? a : b;
}
