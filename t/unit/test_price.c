
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The price table: lookup, exact costs, estimates and their inverse.
 */


#include "llmb_test.h"

#include "core/llmb_price.h"


#define NONE         LLMB_PRICE_NONE
#define RANDOM_RUNS  50000
#define IMAGE_BYTES  (3 * 1024 * 1024)


/* pico-USD: input, read, 5m, 1h, output, audio in, audio out */

static llmb_price_row_t  m_std[] = {
    { LLMB_TIER_DEFAULT, 0, 0,
      { 2500000, 1250000, NONE, NONE, 10000000, NONE, NONE } }
};

static llmb_price_row_t  c_std[] = {
    { LLMB_TIER_DEFAULT, 0, 0,
      { 3000000, 300000, 3750000, 6000000, 15000000, NONE, NONE } }
};

static llmb_price_row_t  c_no_1h[] = {
    { LLMB_TIER_DEFAULT, 0, 0,
      { 3000000, 300000, 3750000, NONE, 15000000, NONE, NONE } }
};

static llmb_price_row_t  g_std[] = {
    { LLMB_TIER_DEFAULT, 0, 0,
      { 1250000, 125000, NONE, NONE, 10000000, NONE, NONE } },
    { LLMB_TIER_DEFAULT, 200000, 0,
      { 2500000, 250000, NONE, NONE, 15000000, NONE, NONE } }
};

static llmb_price_row_t  g_incl[] = {
    { LLMB_TIER_DEFAULT, 0, 0,
      { 1250000, 125000, NONE, NONE, 10000000, NONE, NONE } },
    { LLMB_TIER_DEFAULT, 200000, 1,
      { 2500000, 250000, NONE, NONE, 15000000, NONE, NONE } }
};

static llmb_price_row_t  x_std[] = {
    { LLMB_TIER_DEFAULT, 0, 0,
      { 3000000, 750000, NONE, NONE, 15000000, NONE, NONE } }
};

static llmb_price_row_t  m_tier[] = {
    { LLMB_TIER_DEFAULT, 0, 0,
      { 2500000, 1250000, NONE, NONE, 10000000, NONE, NONE } },
    { LLMB_TIER_FLEX, 0, 0,
      { 1250000, 625000, NONE, NONE, 5000000, NONE, NONE } },
    { LLMB_TIER_PRIORITY, 0, 0,
      { 4250000, 2125000, NONE, NONE, 17000000, NONE, NONE } }
};

static llmb_price_row_t  m_audio[] = {
    { LLMB_TIER_DEFAULT, 0, 0,
      { 2500000, NONE, NONE, NONE, 10000000, 40000000, 80000000 } }
};

static llmb_price_row_t  m_free[] = {
    { LLMB_TIER_DEFAULT, 0, 0, { 0, NONE, NONE, NONE, 0, NONE, NONE } }
};

static llmb_price_row_t  m_pico[] = {
    { LLMB_TIER_DEFAULT, 0, 0, { 312500, NONE, NONE, NONE, 1, NONE, NONE } }
};

static llmb_price_row_t  m_huge[] = {
    { LLMB_TIER_DEFAULT, 0, 0,
      { INT64_C(10000000000), NONE, NONE, NONE, INT64_C(10000000000), NONE,
        NONE } }
};


#define PRICE(name, provider, rows, max, search)                              \
    { llmb_string(name), llmb_string(provider), LLMB_DIALECT_CHAT, 1000000,   \
      max, search, 0, sizeof(rows) / sizeof(rows[0]), rows }


enum {
    M_STD = 0,
    C_STD,
    C_NO_1H,
    G_STD,
    G_INCL,
    X_STD,
    M_TIER,
    M_SEARCH,
    M_AUDIO,
    M_FREE,
    M_PICO,
    M_HUGE,
    M_NOMAX,
    M_DATED,
    M_BEHIND,
    N_PRICES
};


static llmb_price_t  prices[N_PRICES] = {
    PRICE("m-std", "openai", m_std, 16384, NONE),
    PRICE("c-std", "anthropic", c_std, 16384, NONE),
    PRICE("c-no-1h", "anthropic", c_no_1h, 16384, NONE),
    PRICE("g-std", "gemini", g_std, 16384, NONE),
    PRICE("g-incl", "gemini", g_incl, 16384, NONE),
    PRICE("x-std", "xai", x_std, 16384, NONE),
    PRICE("m-tier", "openai", m_tier, 16384, NONE),
    PRICE("m-search", "openai", m_std, 16384, INT64_C(10000000000)),
    PRICE("m-audio", "openai", m_audio, 16384, NONE),
    PRICE("m-free", "ollama", m_free, 16384, NONE),
    PRICE("m-pico", "openai", m_pico, 16384, NONE),
    PRICE("m-huge", "openai", m_huge, 16384, NONE),
    PRICE("m-nomax", "openai", m_std, 0, NONE),
    PRICE("m-dated-2026-01-02", "openai", m_std, 16384, NONE),
    PRICE("azure/behind", "azure", m_std, 16384, NONE)
};

static uint32_t            slots[32];
static llmb_price_table_t  table;
static llmb_request_t      req;
static llmb_usage_t        usage;
static llmb_cost_t         cost;
static llmb_estimate_t     est;

static llmb_estimate_conf_t  conf = { 4, 765, 2000, 5000, 1024, 1 };


static uint64_t
random_next(void)
{
    static uint64_t  state = UINT64_C(0x2545f4914f6cdd1d);

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;

    return state;
}


/* of any magnitude up to max */

static int64_t
random_to(int64_t max)
{
    uint64_t  n;

    n = random_next() >> 1;
    n >>= random_next() % 63;

    return (int64_t) (n % ((uint64_t) max + 1));
}


static llmb_str_t
str(const char *text)
{
    llmb_str_t  s;

    s.len = strlen(text);
    s.data = (unsigned char *) text;

    return s;
}


/* the name of what prices model, or "unknown" */

static const char *
found(const char *model, const char *provider)
{
    llmb_str_t           name, prefix;
    const llmb_price_t  *price;

    name = str(model);
    prefix = str(provider ? provider : "");

    price = llmb_price_find(&table, &name, provider ? &prefix : NULL);

    return price ? (const char *) price->name.data : "unknown";
}


static void
found_is(const char *model, const char *provider, const char *want,
    const char *title)
{
    const char  *got;

    got = found(model, provider);

    is_str(got, strlen(got), want, title);
}


static void
test_find(void)
{
    llmb_str_t                name;
    llmb_price_table_t        empty;
    static const llmb_str_t  aliases[] = {
        llmb_string("prod-4o"), llmb_string("m-std"),
        llmb_string("house"), llmb_string("openai/m-tier"),
        llmb_string("loop"), llmb_string("house"),
        llmb_string("m-std"), llmb_string("c-std")
    };

    found_is("m-std", NULL, "m-std", "a model is found by its exact name");
    found_is("openai/m-std", NULL, "m-std",
             "a model is found behind a provider's prefix");
    found_is("azure/behind", NULL, "azure/behind",
             "a name with a prefix is found as it is");
    found_is("behind", "azure", "azure/behind",
             "the provider's prefix is added");
    found_is("behind", "openai", "unknown",
             "another provider's prefix does not do");
    found_is("behind", NULL, "unknown", "without a provider none is added");
    found_is("a/b/m-std", NULL, "unknown", "one prefix is cut, not two");
    found_is("m-std-2026-07-09", NULL, "m-std",
             "a hyphenated date is cut (T19)");
    found_is("m-std-20260709", NULL, "m-std", "a compact date is cut (T19)");
    found_is("m-std@20260709", NULL, "m-std", "a date behind @ is cut");
    found_is("m-std-latest", NULL, "m-std", "-latest is cut");
    found_is("openai/m-std-2026-07-09", NULL, "m-std",
             "prefix and date are cut together");
    found_is("behind-20260709", "azure", "azure/behind",
             "a prefix is added and a date cut together");
    found_is("m-dated-2026-01-02", NULL, "m-dated-2026-01-02",
             "an exact name with a date wins");
    found_is("m-dated", NULL, "unknown", "a date is never added");
    found_is("m-std-2026-13-09", NULL, "unknown", "month 13 is no date");
    found_is("m-std-2026-07-32", NULL, "unknown", "day 32 is no date");
    found_is("m-std-0613", NULL, "unknown", "four digits are no date");
    found_is("m-std-1", NULL, "unknown", "there is no fuzzy prefix (T19)");
    found_is("m-st", NULL, "unknown", "a beginning is not enough (T19)");
    found_is("M-STD", NULL, "unknown", "names are case-sensitive");
    found_is("", NULL, "unknown", "an empty name is unknown");
    found_is("-latest", NULL, "unknown", "a bare suffix is unknown");
    found_is("/", "azure", "unknown", "a bare slash is unknown");
    found_is("brand-new", NULL, "unknown", "a new model is unknown (T06)");

    table.aliases = aliases;
    table.n_aliases = 4;

    found_is("prod-4o", NULL, "m-std", "an alias is followed");
    found_is("azure/prod-4o-2026-07-09", NULL, "m-std",
             "an alias is found behind prefix and date");
    found_is("house", NULL, "m-tier", "an alias may name a prefix");
    found_is("loop", NULL, "unknown", "an alias of an alias is not followed");
    found_is("m-std", NULL, "m-std", "a price wins over an alias");

    table.n_aliases = 0;

    memset(&empty, 0, sizeof(empty));
    name = str("m-std");

    ok(llmb_price_find(&empty, &name, NULL) == NULL,
       "an empty table knows nothing");
}


static void
test_tier(void)
{
    size_t       i;
    llmb_str_t   text;
    llmb_tier_e  tier;

    static const struct {
        const char   *text;
        llmb_rc_e     rc;
        llmb_tier_e   tier;
    } cases[] = {
        { "default", LLMB_OK, LLMB_TIER_DEFAULT },
        { "standard", LLMB_OK, LLMB_TIER_DEFAULT },
        { "auto", LLMB_OK, LLMB_TIER_DEFAULT },
        { "on_demand", LLMB_OK, LLMB_TIER_DEFAULT },
        { "flex", LLMB_OK, LLMB_TIER_FLEX },
        { "priority", LLMB_OK, LLMB_TIER_PRIORITY },
        { "fast", LLMB_OK, LLMB_TIER_PRIORITY },
        { "batch", LLMB_OK, LLMB_TIER_BATCH },
        { "ultrafast", LLMB_DECLINED, LLMB_TIER_DEFAULT },
        { "Priority", LLMB_DECLINED, LLMB_TIER_DEFAULT },
        { "", LLMB_DECLINED, LLMB_TIER_DEFAULT }
    };

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        tier = LLMB_TIER_DEFAULT;
        text = str(cases[i].text);

        ok(llmb_price_tier(&text, &tier) == cases[i].rc
           && tier == cases[i].tier, "service tier \"%s\"", cases[i].text);
    }
}


/* a usage in the normal form: input is the whole */

static void
usage_set(int64_t in, int64_t read, int64_t write_5m, int64_t write_1h,
    int64_t out)
{
    memset(&usage, 0, sizeof(usage));

    usage.counts.n[LLMB_USAGE_INPUT] = in;
    usage.counts.n[LLMB_USAGE_CACHED_READ] = read;
    usage.counts.n[LLMB_USAGE_CACHE_WRITE] = write_5m + write_1h;
    usage.counts.n[LLMB_USAGE_CACHE_WRITE_5M] = write_5m;
    usage.counts.n[LLMB_USAGE_CACHE_WRITE_1H] = write_1h;
    usage.counts.n[LLMB_USAGE_OUTPUT] = out;
}


static void
cost_is(int price, const char *tier, int64_t total, unsigned flags,
    const char *title)
{
    llmb_rc_e   rc;
    llmb_str_t  text;

    text = str(tier);
    rc = llmb_price_cost(&table, &prices[price], &text, &usage, &cost);

    if (!ok(rc == LLMB_OK && cost.total == total && cost.flags == flags
            && cost.input + cost.output + cost.tools == total
            && cost.input >= 0 && cost.output >= 0 && cost.tools >= 0,
            "%s", title))
    {
        printf("# rc %d total %lld flags %u, expected %lld flags %u\n",
               (int) rc, (long long) cost.total, cost.flags,
               (long long) total, flags);
    }
}


static void
test_cost(void)
{
    usage_set(8025, 8000, 0, 0, 15);
    cost_is(C_STD, "", 2700000, 0, "T10.1: cache read of a cumulative usage");

    usage_set(8849, 8831, 0, 0, 426);
    cost_is(C_STD, "standard", 9093300, 0, "T10.3: a split corrected late");

    usage_set(10000, 9000, 0, 0, 100);
    cost_is(M_STD, "", 14750000, 0, "T13: cached input replaces the rate");

    usage_set(9010, 9000, 0, 0, 100);
    cost_is(C_STD, "", 4230000, 0, "T13: cached input beside the input");

    usage_set(1010, 0, 400, 600, 20);
    cost_is(C_STD, "", 5430000, 0, "T14: 5m and 1h cache writes");

    usage.counts.n[LLMB_USAGE_CACHE_WRITE_5M] = 0;
    cost_is(C_STD, "", 5430000, 0, "T14: the rest of the writes is 5m");

    usage_set(1010, 0, 400, 600, 20);
    cost_is(C_NO_1H, "", 5430000, 0,
            "a 1h rate not given is twice the input");
    cost_is(M_STD, "", 2725000, 0, "write rates not given are the input's");

    usage_set(1010, 10, 0, 0, 20);
    cost_is(M_AUDIO, "", 2725000, 0, "a read rate not given is the input's");

    usage_set(100, 0, 0, 0, 500);
    usage.counts.n[LLMB_USAGE_REASONING] = 400;
    cost_is(M_STD, "", 5250000, 0, "T15: reasoning is inside of the output");

    usage_set(100, 0, 0, 0, 500);
    cost_is(G_STD, "", 5125000, 0, "T15: thoughts were added to the output");

    usage_set(36, 0, 0, 0, 700);
    cost_is(X_STD, "", 10608000, 0, "T15: reasoning beside the completion");

    usage_set(200000, 0, 0, 0, 10);
    cost_is(G_STD, "", 250100000, 0, "T16: at the size is still below it");
    cost_is(G_INCL, "", 500150000, 0, "T16: an inclusive size begins at it");

    usage_set(200001, 0, 0, 0, 10);
    cost_is(G_STD, "", 500152500, 0, "T16: above, the whole request moves");

    usage_set(200001, 50001, 0, 0, 10);
    cost_is(G_STD, "", INT64_C(387650250), 0,
            "T16: cached tokens count for the size, and their rate moves");

    usage_set(1000, 0, 0, 0, 100);
    cost_is(M_TIER, "default", 3500000, 0, "T17: served at default");
    cost_is(M_TIER, "", 3500000, 0, "T17: no tier said is default");
    cost_is(M_TIER, "flex", 1750000, 0, "T17: served at flex");
    cost_is(M_TIER, "priority", 5950000, 0, "T17: served at priority");
    cost_is(M_TIER, "fast", 5950000, 0, "T17: fast is priority");
    cost_is(M_TIER, "ultrafast", 5950000, LLMB_COST_TIER_UNPRICED,
            "T17: an unknown tier costs as the dearest, and is flagged");
    cost_is(M_STD, "priority", 3500000, LLMB_COST_TIER_UNPRICED,
            "T17: a tier without prices is flagged");

    ok(llmb_price_cost(NULL, &prices[M_STD], NULL, &usage, &cost) == LLMB_OK
       && cost.total == 3500000, "no tier and no table will do");
}


static void
test_cost_kinds(void)
{
    llmb_price_t  price;

    usage_set(1000, 0, 0, 0, 100);
    cost_is(M_SEARCH, "", 3500000, 0, "T18: no search, no fee");

    usage.counts.n[LLMB_USAGE_SEARCHES] = 2;
    cost_is(M_SEARCH, "", 23500000, 0, "T18: two searches at 10,000,000");
    is_int(cost.tools, 20000000, "the fee of tools is told apart");
    is_int(cost.output, 1000000, "the cost of the output is told apart");
    is_int(cost.input, 2500000, "the cost of the input is told apart");

    cost_is(M_STD, "", 23500000, LLMB_COST_SEARCH_UNPRICED,
            "T18: searches without a price cost the usual, and are flagged");
    is_int(cost.tools, 20000000, "as a fee of tools");

    price = prices[M_FREE];
    price.free = 1;
    ok(llmb_price_cost(NULL, &price, NULL, &usage, &cost) == LLMB_OK
       && cost.total == 0 && cost.flags == LLMB_COST_SEARCH_UNPRICED,
       "a free model's searches cost nothing");

    price = prices[M_STD];
    price.search = 0;
    ok(llmb_price_cost(NULL, &price, NULL, &usage, &cost) == LLMB_OK
       && cost.total == 3500000 && cost.flags == 0,
       "nor do searches at a price of zero");

    usage_set(100, 20, 0, 0, 50);
    usage.counts.n[LLMB_USAGE_AUDIO_INPUT] = 30;
    usage.counts.n[LLMB_USAGE_AUDIO_OUTPUT] = 40;
    cost_is(M_AUDIO, "", 70 * 2500 + 30 * 40000 + 10 * 10000 + 40 * 80000, 0,
            "audio tokens have rates of their own");
    cost_is(M_STD, "", 80 * 2500 + 20 * 1250 + 50 * 10000, 0,
            "audio tokens without rates cost as others");

    usage_set(1000, 200, 0, 0, 100);
    cost_is(M_FREE, "", 0, 0, "a free model costs nothing");

    usage_set(1, 0, 0, 0, 0);
    cost_is(M_PICO, "", 313, 0, "T53: 312,500 pico-USD are rounded up");

    usage_set(2, 0, 0, 0, 0);
    cost_is(M_PICO, "", 625, 0, "T53: the sum is rounded, not each token");

    usage_set(1, 0, 0, 0, 1);
    cost_is(M_PICO, "", 313, 0, "T53: and once for all kinds");

    usage_set(100, 200, 0, 0, 0);
    cost_is(M_STD, "", 125000, 0, "T21: reads are clamped to the input");

    usage_set(100, 60, 30, 90, 0);
    cost_is(C_STD, "", 60 * 300 + 40 * 6000, 0,
            "trap 1: writes are clamped to the rest of the input");

    usage_set(100, 0, 0, 0, 10);
    usage.counts.n[LLMB_USAGE_AUDIO_INPUT] = 200;
    usage.counts.n[LLMB_USAGE_AUDIO_OUTPUT] = 20;
    cost_is(M_AUDIO, "", 100 * 40000 + 10 * 80000, 0,
            "audio tokens are clamped");
}


static void
test_cost_extras(void)
{
    usage_set(1000, 0, 0, 0, 100);
    usage.n_extra = 1;
    usage.extra[0].counts.n[LLMB_USAGE_INPUT] = 10;
    usage.extra[0].counts.n[LLMB_USAGE_OUTPUT] = 2;

    cost_is(M_STD, "", 3500000 + 25000 + 20000, 0,
            "trap 2: a sampling without a model costs as the main one");

    usage.extra[0].model_len = 14;
    memcpy(usage.extra[0].model, "c-std-20260709", 14);

    cost_is(M_STD, "", 3500000 + 30000 + 30000, 0,
            "trap 2: a sampling of another model costs as that model");

    memcpy(usage.extra[0].model, "z", 1);

    cost_is(M_STD, "", 3500000 + 25000 + 20000, LLMB_COST_EXTRA_UNPRICED,
            "a sampling of an unknown model costs as the main one, flagged");

    usage.extra[0].model_len = 6;
    memcpy(usage.extra[0].model, "behind", 6);
    prices[M_STD].provider = str("azure");

    cost_is(M_STD, "", 3500000 + 25000 + 20000, 0,
            "the model of a sampling is one of the same provider");

    prices[M_STD].provider = str("openai");

    ok(llmb_price_cost(NULL, &prices[M_STD], NULL, &usage, &cost) == LLMB_OK
       && cost.flags == LLMB_COST_EXTRA_UNPRICED,
       "without a table no other model is known");
}


static void
test_cost_overflow(void)
{
    unsigned  i, bad;

    usage_set(LLMB_USAGE_INT_MAX, 0, 0, 0, 0);

    ok(llmb_price_cost(&table, &prices[M_HUGE], NULL, &usage, &cost)
       == LLMB_OVERFLOW, "T21: a product too large is an overflow");

    usage_set(600000000, 0, 0, 0, 600000000);

    ok(llmb_price_cost(&table, &prices[M_HUGE], NULL, &usage, &cost)
       == LLMB_OVERFLOW, "T21: a sum too large is an overflow");

    bad = 0;

    for (i = 0; i < LLMB_USAGE_FIELDS; i++) {
        usage_set(100, 10, 10, 10, 100);
        usage.counts.n[i] = (i & 1) ? -1 : INT64_MIN;

        bad += llmb_price_cost(&table, &prices[C_STD], NULL, &usage, &cost)
               != LLMB_OVERFLOW;
    }

    is_int(bad, 0, "T21: no negative count is priced");
}


/* a chat request of so many bytes of text */

static void
request_set(uint64_t text_bytes)
{
    llmb_request_init(&req, LLMB_DIALECT_CHAT);

    req.text_bytes = text_bytes;
    req.messages = 1;
}


static void
ceiling_set(llmb_request_int_t *ceiling, int64_t value)
{
    ceiling->value = value;
    ceiling->is_set = 1;
}


static void
estimate_is(int price, int64_t ceiling, int64_t input, int64_t output,
    int64_t nusd, const char *title)
{
    llmb_rc_e  rc;

    rc = llmb_price_estimate(&conf, &prices[price], &req, ceiling, &est);

    if (!ok(rc == LLMB_OK && est.input == input && est.output == output
            && est.nusd == nusd, "%s", title))
    {
        printf("# rc %d input %lld output %lld nusd %lld\n"
               "# expected %lld %lld %lld\n", (int) rc,
               (long long) est.input, (long long) est.output,
               (long long) est.nusd, (long long) input, (long long) output,
               (long long) nusd);
    }
}


static void
test_estimate(void)
{
    request_set(400);
    estimate_is(M_STD, -1, 100, 1024, 10490000,
                "T20: no ceiling is the configured default");
    is_int(est.bounded, 0, "a default that the provider does not know");

    conf.assume_default = 0;
    estimate_is(M_STD, -1, 100, 16384, 250000 + 16384 * 10000,
                "the model's maximum is taken unless told otherwise");
    is_int(est.bounded, 1, "the model's maximum is kept by the provider");

    estimate_is(M_NOMAX, -1, 100, 1024, 10490000,
                "the default is taken when the model has no maximum");
    is_int(est.bounded, 0, "which bounds nothing");
    conf.assume_default = 1;

    ceiling_set(&req.max_tokens, 999999999);
    estimate_is(M_STD, -1, 100, 16384, 250000 + 16384 * 10000,
                "T20: a huge ceiling is the model's maximum");
    is_int(est.bounded, 1, "a ceiling of the request bounds");

    ceiling_set(&req.max_completion_tokens, 50);
    estimate_is(M_STD, -1, 100, 16384, 250000 + 16384 * 10000,
                "T20: the larger of two ceilings counts");

    ceiling_set(&req.max_tokens, 20);
    estimate_is(M_STD, -1, 100, 50, 750000, "whichever it is");
    estimate_is(M_STD, 20, 100, 20, 450000, "a ceiling given is taken");
    estimate_is(M_STD, 0, 100, 0, 250000, "a ceiling of zero costs input");
    estimate_is(M_STD, 99999, 100, 16384, 250000 + 16384 * 10000,
                "a ceiling given is lowered to the model's maximum");

    ceiling_set(&req.n, 8);
    estimate_is(M_STD, -1, 100, 400, 250000 + 400 * 10000,
                "T20: n answers, n times the output");
    is_int(est.ceiling, 50, "the ceiling is that of one answer");
    is_int(est.answers, 8, "and the answers are told");

    request_set(401);
    ceiling_set(&req.max_tokens, 0);
    estimate_is(M_STD, -1, 101, 0, 252500, "a part of a token is a token");

    req.token_ids = 7;
    estimate_is(M_STD, -1, 108, 0, 270000, "token ids are a token each");

    request_set(400);
    req.dialect = LLMB_DIALECT_EMBEDDINGS;
    estimate_is(M_STD, -1, 100, 0, 250000, "embeddings have no output");
    is_int(est.bounded, 1, "which is bounded");

    request_set(400);
    req.dialect = LLMB_DIALECT_COMPLETIONS;
    req.prompts = 3;
    ceiling_set(&req.best_of, 2);
    estimate_is(M_STD, -1, 100, 16 * 6, 250000 + 96 * 10000,
                "completions have 16 tokens, best_of times prompts");

    request_set(400);
    req.dialect = LLMB_DIALECT_MESSAGES;
    ceiling_set(&req.max_tokens, 1000);
    ceiling_set(&req.thinking_budget, 4000);
    estimate_is(C_STD, -1, 100, 4000, 300000 + 4000 * 15000,
                "T20: a thinking budget above max_tokens counts");

    request_set(400);
    estimate_is(M_FREE, -1, 100, 1024, 0, "a free model holds nothing");
}


static void
test_estimate_bound(void)
{
    request_set(400);
    ceiling_set(&req.max_tokens, 0);
    req.messages = 3;
    conf.bytes_per_token = 1;

    estimate_is(M_STD, -1, 400 + 3 * 16 + 64, 0, 512 * 2500,
                "one byte a token is a true bound, with the chat template");

    req.remote_input = 1;
    estimate_is(M_STD, -1, 1000000, 0, INT64_C(2500000000),
                "a true bound takes remote input for all the model reads");

    conf.bytes_per_token = 4;
    estimate_is(M_STD, -1, 100, 0, 250000,
                "else remote input is not guessed");
    estimate_is(G_STD, -1, 100, 0, 250000,
                "but it may reach any size: the dearest row counts");

    request_set(800004);
    ceiling_set(&req.max_tokens, 0);
    estimate_is(G_STD, -1, 200001, 0, INT64_C(500002500),
                "T20: the row of the estimated size counts");

    request_set(800000);
    ceiling_set(&req.max_tokens, 0);
    estimate_is(G_STD, -1, 200000, 0, INT64_C(250000000),
                "T20: a size not reached does not");
}


static void
test_estimate_rates(void)
{
    llmb_price_t  price;

    request_set(400);
    ceiling_set(&req.max_tokens, 100);
    estimate_is(M_TIER, -1, 100, 100, 1250000, "no tier asked is default");

    req.tier_len = 4;
    memcpy(req.tier, "flex", 4);
    estimate_is(M_TIER, -1, 100, 100, 1250000,
                "a cheaper tier asked is not counted on");

    req.tier_len = 8;
    memcpy(req.tier, "priority", 8);
    estimate_is(M_TIER, -1, 100, 100, 2125000, "T17: a dearer tier is");
    estimate_is(M_STD, -1, 100, 100, 1250000,
                "a tier without prices is the dearest known");

    req.tier_len = 5;
    memcpy(req.tier, "warp9", 5);
    estimate_is(M_TIER, -1, 100, 100, 2125000,
                "an unknown tier is the dearest known");

    request_set(400);
    req.dialect = LLMB_DIALECT_MESSAGES;
    ceiling_set(&req.max_tokens, 0);
    estimate_is(C_STD, -1, 100, 0, 300000,
                "without cache_control nothing is written");

    req.cache_control = 1;
    estimate_is(C_STD, -1, 100, 0, 375000,
                "T20: with cache_control all may be written");

    req.cache_1h = 1;
    estimate_is(C_STD, -1, 100, 0, 600000, "T14: for one hour");

    request_set(400);
    ceiling_set(&req.max_tokens, 0);
    estimate_is(C_STD, -1, 100, 0, 375000,
                "other providers write to the cache unasked");

    request_set(400);
    ceiling_set(&req.max_tokens, 10);
    req.audios = 2;
    estimate_is(M_AUDIO, -1, 4100, 10, 250000 + 4000 * 40000 + 10 * 80000,
                "audio parts cost the constant at the audio rate");

    request_set(400);
    ceiling_set(&req.max_tokens, 0);
    req.hosted_tools = 1;
    req.hosted_searches = 1;
    estimate_is(M_STD, -1, 100, 0, 250000 + 10 * 10000000,
                "T18: searches without a price cost the usual");

    price = prices[M_FREE];
    price.free = 1;
    ok(llmb_price_estimate(&conf, &price, &req, -1, &est) == LLMB_OK
       && est.nusd == 0, "unless the model is free");

    estimate_is(M_SEARCH, -1, 100, 0, 250000 + 10 * 10000000,
                "T18: a search tool is held at a constant");

    req.hosted_max_uses = 2;
    estimate_is(M_SEARCH, -1, 100, 0, 250000 + 2 * 10000000,
                "T18: or at its max_uses");
}


static void
test_estimate_image(void)
{
    unsigned char      *data;
    llmb_rc_e           rc;

    static const char   head[] =
        "{\"model\":\"m-std\",\"max_tokens\":1,\"messages\":[{\"role\":"
        "\"user\",\"content\":[{\"type\":\"text\",\"text\":\"What is it?\"},"
        "{\"type\":\"image_url\",\"image_url\":{\"url\":"
        "\"data:image/png;base64,";
    static const char   tail[] = "\"}}]}]}";

    data = malloc(IMAGE_BYTES);

    if (data == NULL) {
        ok(0, "no memory");
        return;
    }

    memset(data, 'A', IMAGE_BYTES);

    llmb_request_init(&req, LLMB_DIALECT_CHAT);

    (void) llmb_request_feed(&req, (const unsigned char *) head,
                             sizeof(head) - 1);
    (void) llmb_request_feed(&req, data, IMAGE_BYTES);
    (void) llmb_request_feed(&req, (const unsigned char *) tail,
                             sizeof(tail) - 1);
    rc = llmb_request_end(&req);

    free(data);

    ok(rc == LLMB_OK, "a request with an image of 3 MiB is read");

    rc = llmb_price_estimate(&conf, &prices[M_STD], &req, -1, &est);

    ok(rc == LLMB_OK && est.input >= conf.image_tokens + 3
       && est.input < conf.image_tokens + 100,
       "T20: an image of 3 MiB costs the constant, not its bytes");

    request_set(0);
    ceiling_set(&req.max_tokens, 0);
    req.images = 2;
    req.files = 1;
    req.media_bytes = IMAGE_BYTES;
    estimate_is(M_STD, -1, 2 * 765 + 5000, 0, (2 * 765 + 5000) * 2500,
                "images and files have constants of their own");
}


static void
test_estimate_overflow(void)
{
    request_set(UINT64_MAX);
    conf.bytes_per_token = 1;
    ok(llmb_price_estimate(&conf, &prices[M_STD], &req, -1, &est)
       == LLMB_OVERFLOW, "T21: too much text is an overflow");
    conf.bytes_per_token = 4;

    ok(llmb_price_estimate(&conf, &prices[M_STD], &req, -1, &est)
       == LLMB_OVERFLOW, "T21: so is its price");

    request_set(4);
    req.images = UINT64_MAX / 2;
    ok(llmb_price_estimate(&conf, &prices[M_STD], &req, -1, &est)
       == LLMB_OVERFLOW, "T21: so are too many images");

    request_set(4);
    req.dialect = LLMB_DIALECT_COMPLETIONS;
    ceiling_set(&req.n, LLMB_REQUEST_INT_MAX);
    req.prompts = 4000000000u;
    ceiling_set(&req.max_tokens, LLMB_REQUEST_INT_MAX);
    ok(llmb_price_estimate(&conf, &prices[M_NOMAX], &req, -1, &est)
       == LLMB_OVERFLOW, "T21: so are too many answers");

    ceiling_set(&req.n, 1);
    req.prompts = 1000000;
    ok(llmb_price_estimate(&conf, &prices[M_NOMAX], &req, -1, &est)
       == LLMB_OVERFLOW, "T21: so is the price of their output");
}


static void
fit_is(int price, int64_t nusd, int64_t output, int64_t tokens,
    int64_t want, const char *title)
{
    int64_t    got;
    llmb_rc_e  rc;

    got = -1;
    rc = llmb_price_fit(&conf, &prices[price], &req, nusd, output, tokens,
                        &got);

    if (!ok(want < 0 ? rc == LLMB_DECLINED : rc == LLMB_OK && got == want,
            "%s", title))
    {
        printf("# rc %d ceiling %lld expected %lld\n", (int) rc,
               (long long) got, (long long) want);
    }
}


static void
test_fit(void)
{
    request_set(400);

    fit_is(M_STD, 10490000, INT64_MAX, INT64_MAX, 1024,
           "the ceiling that fits is the inverse of the estimate");
    fit_is(M_STD, 10489999, INT64_MAX, INT64_MAX, 1023, "to the nano-USD");
    fit_is(M_STD, 10499999, INT64_MAX, INT64_MAX, 1024, "on both sides");
    fit_is(M_STD, 250000, INT64_MAX, INT64_MAX, 0, "it may be zero");
    fit_is(M_STD, 249999, INT64_MAX, INT64_MAX, -1,
           "less than the input fits not at all");
    fit_is(M_STD, -1, INT64_MAX, INT64_MAX, -1, "nor does a debt");
    fit_is(M_STD, INT64_MAX, INT64_MAX, INT64_MAX, 16384,
           "it is at most the model's maximum");
    fit_is(M_NOMAX, INT64_MAX, INT64_MAX, INT64_MAX, LLMB_REQUEST_INT_MAX,
           "or what a request may say");
    fit_is(M_STD, INT64_MAX, 77, INT64_MAX, 77, "output tokens bound it");
    fit_is(M_STD, INT64_MAX, INT64_MAX, 177, 77, "all tokens bound it");
    fit_is(M_STD, INT64_MAX, INT64_MAX, 99, -1,
           "the input alone may be too many tokens");
    fit_is(M_STD, INT64_MAX, -1, INT64_MAX, -1, "output may be used up");
    fit_is(M_FREE, 0, INT64_MAX, INT64_MAX, 16384,
           "a free model fits into nothing");

    ceiling_set(&req.n, 8);
    fit_is(M_STD, 10490000, INT64_MAX, INT64_MAX, 128,
           "n answers share what is left");
    fit_is(M_STD, INT64_MAX, 77, INT64_MAX, 9, "and the output tokens");

    ceiling_set(&req.max_tokens, 5);
    fit_is(M_STD, INT64_MAX, INT64_MAX, INT64_MAX, 5,
           "it is at most the request's own ceiling");

    request_set(UINT64_MAX);
    fit_is(M_STD, INT64_MAX, INT64_MAX, INT64_MAX, -1,
           "what cannot be estimated does not fit");
}


/* is a ceiling within all that is left? */

static int
fits(const llmb_price_t *price, int64_t ceiling, int64_t nusd, int64_t output,
    int64_t tokens)
{
    return llmb_price_estimate(&conf, price, &req, ceiling, &est) == LLMB_OK
           && est.nusd <= nusd && est.output <= output
           && (tokens == INT64_MAX || est.input + est.output <= tokens);
}


static void
test_fit_random(void)
{
    int64_t              nusd, output, tokens, ceiling, max;
    unsigned             i, k, fitted, refused, bad;
    llmb_price_t         price;
    llmb_price_row_t     row[3];
    const llmb_price_t  *p;

    fitted = 0;
    refused = 0;
    bad = 0;

    for (i = 0; i < RANDOM_RUNS && bad == 0; i++) {
        price = prices[M_STD];
        p = &price;

        for (k = 0; k < 3; k++) {
            row[k] = m_tier[k];
            row[k].above = (k == 1) ? random_to(3000) : 0;
            row[k].tier = (k == 2) ? LLMB_TIER_PRIORITY : LLMB_TIER_DEFAULT;
            row[k].inclusive = (unsigned) random_to(1);
            row[k].rate[LLMB_RATE_INPUT] = random_to(100000000);
            row[k].rate[LLMB_RATE_OUTPUT] = random_to(100000000);
        }

        price.row = row;
        price.n_rows = 3;
        price.max_output = random_to(1) ? 0 : random_to(200000);

        request_set((uint64_t) random_to(100000));
        req.images = (uint64_t) random_to(3);
        req.remote_input = (unsigned) random_to(1);
        conf.bytes_per_token = 1 + random_to(7);

        max = price.max_output > 0 ? price.max_output : LLMB_REQUEST_INT_MAX;

        if (random_to(1)) {
            ceiling_set(&req.max_tokens, random_to(100000));
            max = (req.max_tokens.value < max) ? req.max_tokens.value : max;
        }

        if (random_to(1)) {
            ceiling_set(&req.n, 1 + random_to(100));
        }

        nusd = random_to(9) ? random_to(INT64_C(10000000000000)) : INT64_MAX;
        output = random_to(3) ? INT64_MAX : random_to(1000000);
        tokens = random_to(3) ? INT64_MAX : random_to(1000000);

        if (llmb_price_fit(&conf, p, &req, nusd, output, tokens, &ceiling)
            != LLMB_OK)
        {
            refused++;
            bad += fits(p, 0, nusd, output, tokens);
            continue;
        }

        fitted++;
        bad += !fits(p, ceiling, nusd, output, tokens);
        bad += ceiling > max;
        bad += ceiling < max && fits(p, ceiling + 1, nusd, output, tokens);
    }

    conf.bytes_per_token = 4;

    ok(bad == 0, "the ceiling fits and one more does not, at random");
    ok(fitted > RANDOM_RUNS / 10 && refused > RANDOM_RUNS / 100,
       "both outcomes were tried");
}


static void
guess_is(uint64_t bytes, uint64_t deltas, int64_t input, int64_t output,
    const char *title)
{
    llmb_price_guess(&conf, &req, &est, bytes, deltas, &usage);

    if (!ok(usage.counts.n[LLMB_USAGE_INPUT] == input
            && usage.counts.n[LLMB_USAGE_OUTPUT] == output
            && usage.counts.n[LLMB_USAGE_TOTAL] == input + output,
            "%s", title))
    {
        printf("# input %lld output %lld\n",
               (long long) usage.counts.n[LLMB_USAGE_INPUT],
               (long long) usage.counts.n[LLMB_USAGE_OUTPUT]);
    }
}


static void
test_guess(void)
{
    request_set(400);
    req.images = 1;
    ceiling_set(&req.max_tokens, 200);
    (void) llmb_price_estimate(&conf, &prices[M_STD], &req, -1, &est);

    guess_is(0, 0, 865, 0, "T47: nothing generated is no output");
    guess_is(0, 50, 865, 0, "T47: not even with empty deltas");
    guess_is(40, 50, 865, 50, "T03: fifty deltas are fifty tokens");
    guess_is(401, 50, 865, 101, "long deltas have more");
    guess_is(UINT64_MAX, 50, 865, 200, "T47: never above the estimate");
    guess_is(40, UINT64_MAX, 865, 200, "T47: in deltas either");

    req.remote_input = 1;
    guess_is(40, 50, est.input, 50,
             "T03: context that is not in the body is all of the estimate");
    req.remote_input = 0;

    est.input = 7;
    guess_is(0, 0, 7, 0, "nor is the input");

    ok(usage.counts.present == (1u << LLMB_USAGE_INPUT
                                | 1u << LLMB_USAGE_OUTPUT
                                | 1u << LLMB_USAGE_TOTAL)
       && usage.model_len == 0 && usage.n_extra == 0,
       "the guess is a usage in the normal form");
}


int
main(void)
{
    table.prices = prices;
    table.n = N_PRICES;
    table.slots = slots;
    table.mask = 31;

    llmb_price_index(&table);

    test_find();
    test_tier();
    test_cost();
    test_cost_kinds();
    test_cost_extras();
    test_cost_overflow();
    test_estimate();
    test_estimate_bound();
    test_estimate_rates();
    test_estimate_image();
    test_estimate_overflow();
    test_fit();
    test_fit_random();
    test_guess();

    return test_done();
}
