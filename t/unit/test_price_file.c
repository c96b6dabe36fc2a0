
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The price file: entries, rows and what is refused, with its message.
 */


#include "llmb_test.h"

#include "core/llmb_price_file.h"


#define ROOM  (8 * 1024 * 1024)
#define MANY  3000


typedef struct {
    const char  *title;
    const char  *text;
    int          line;
    const char  *error;     /* a part of it */
} refused_case_t;


typedef struct {
    const char  *literal;
    int64_t      pusd;
} decimal_case_t;


static unsigned char      *room;
static size_t              room_used;
static size_t              room_size = ROOM;
static llmb_price_table_t  table;
static llmb_price_error_t  error;


static const refused_case_t  refused_cases[] = {

    { "an empty file is refused", "", 1, "not JSON" },
    { "a broken file is refused with its line",
      "{\n\"a\": {\"mode\": \"chat\",\n}}", 3, "not JSON" },
    { "an array is refused", "[]", 1, "not an object" },
    { "an empty object is refused", "{}", 1, "not an object" },
    { "trailing data is refused", "{} {}", 1, "not JSON" },
    { "NaN is refused",
      "{\"a\": {\"input_cost_per_token\": NaN}}", 1, "not JSON" },
    { "a number that is no double is refused",
      "{\"a\": {\"input_cost_per_token\": 1e400}}", 1, "not JSON" },
    { "a model that stands twice is refused",
      "{\n\"a\": {},\n\"a\": {}}", 3, "duplicate object key" },
    { "a member that stands twice is refused",
      "{\"a\": {\"input_cost_per_token\": 1,"
      " \"input_cost_per_token\": 0}}", 1, "duplicate object key" },
    { "an entry that is no object is refused",
      "{\n\"a\": 1}", 2, "model \"a\": the entry is not an object" },
    { "an empty name is refused", "{\"\": {}}", 1, "1 to 256 bytes" },
    { "deep nesting is refused",
      "{\"a\": {\"x\":"
      "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
      "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
      "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"
      "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"
      "}}", 1, "nested too deep" },

    { "a file without priced entries is refused",
      "{\"a\": {\"mode\": \"chat\"}}", 1, "no entry has" },
    { "the documentation is no entry",
      "{\"sample_spec\": {\"input_cost_per_token\": 1e-6,"
      " \"output_cost_per_token\": 1e-6}}", 1, "no entry has" },

    { "a negative price is refused",
      "{\"a\": {\n\"input_cost_per_token\": -1e-06,\n"
      "\"output_cost_per_token\": 1e-06}}", 2,
      "model \"a\": \"input_cost_per_token\" is negative" },
    { "a negative price below the scale is refused",
      "{\"a\": {\"input_cost_per_token\": -1e-30}}", 1, "is negative" },
    { "a negative price in a string is refused",
      "{\"a\": {\"input_cost_per_token\": \"-1e-06\"}}", 1, "is negative" },
    { "a negative price of a tier is refused",
      "{\"a\": {\"output_cost_per_token_flex\": -1}}", 1,
      "\"output_cost_per_token_flex\" is negative" },
    { "true is no price",
      "{\"a\": {\"input_cost_per_token\": true}}", 1, "is not a number" },
    { "an object is no price",
      "{\"a\": {\"input_cost_per_token\": {}}}", 1, "is not a number" },
    { "an array is no price",
      "{\"a\": {\"cache_read_input_token_cost\": [1]}}", 1,
      "is not a number" },
    { "a word is no price",
      "{\"a\": {\"input_cost_per_token\": \"free\"}}", 1,
      "is not a number: give USD per token" },
    { "an empty string is no price",
      "{\"a\": {\"input_cost_per_token\": \"\"}}", 1, "is not a number" },
    { "nan in a string is no price",
      "{\"a\": {\"input_cost_per_token\": \"nan\"}}", 1, "is not a number" },
    { "a price that fits nothing is refused",
      "{\"a\": {\"input_cost_per_token\": 1e30}}", 1, "out of range" },

    { "T56: a price per million in a price per token is refused",
      "{\"a\": {\"output_cost_per_token\": 0.00001,\n"
      "\"input_cost_per_token\": 2.5}}", 2,
      "model \"a\": \"input_cost_per_token\" is over 1 USD per token" },
    { "T56: also in an entry that is not metered",
      "{\"a\": {\"input_cost_per_token\": 2.5}}", 1, "over 1 USD" },
    { "T56: also in tiered_pricing",
      "{\"a\": {\"tiered_pricing\": [{\"range\": [0, 1000],"
      " \"output_cost_per_token\": 10}]}}", 1,
      "\"output_cost_per_token\" is over 1 USD" },
    { "a price per thousand searches is refused",
      "{\"a\": {\"input_cost_per_token\": 0, \"output_cost_per_token\": 1e-6,"
      " \"search_context_cost_per_query\": 10}}", 1, "over 1 USD: give USD" },
    { "implausible_ok is true or false",
      "{\"a\": {\"implausible_ok\": 1}}", 1, "neither true nor false" },

    { "free is true or false",
      "{\"a\": {\"free\": \"yes\"}}", 1, "\"free\" is neither" },
    { "T31: free with a price is refused",
      "{\"a\": {\"free\": true, \"output_cost_per_token\": 1e-06}}", 1,
      "\"free\": true and a price" },
    { "T31: free with the price of a tier is refused",
      "{\"a\": {\"free\": true, \"output_cost_per_token_flex\": 1e-06}}", 1,
      "\"free\": true and a price" },
    { "T31: free with a price of another unit is refused",
      "{\"a\": {\"free\": true, \"output_cost_per_image\": 0.01}}", 1,
      "\"free\": true and a price" },
    { "T56: zero prices that are not free are refused",
      "{\"a\": {\"free\": false, \"input_cost_per_token\": 0,"
      " \"output_cost_per_token\": 0}}", 1, "\"free\": false and zero" },

    { "a maximum is a number",
      "{\"a\": {\"max_output_tokens\": \"many\"}}", 1,
      "\"max_output_tokens\" is not a number of tokens" },
    { "a maximum is not negative",
      "{\"a\": {\"max_input_tokens\": -1}}", 1, "not a number of tokens" },
    { "a maximum fits a request",
      "{\"a\": {\"max_tokens\": 2147483648}}", 1, "not a number of tokens" },

    { "tiered_pricing is an array",
      "{\"a\": {\"tiered_pricing\": {}}}", 1, "is not an array" },
    { "of objects",
      "{\"a\": {\"tiered_pricing\": [1]}}", 1, "that is not an object" },
    { "with a range",
      "{\"a\": {\"tiered_pricing\": [{\"input_cost_per_token\": 1e-6}]}}", 1,
      "without \"range\"" },
    { "of numbers",
      "{\"a\": {\"tiered_pricing\": [{\"range\": [\"x\", 1]}]}}", 1,
      "\"range\" does not begin with a number" },
    { "not negative",
      "{\"a\": {\"tiered_pricing\": [{\"range\": [-1, 1]}]}}", 1,
      "\"range\" does not begin with a number" }
};


/* the input price of a priced entry */

static const decimal_case_t  decimal_cases[] = {
    { "2.5e-06", 2500000 },
    { "2.5E-6", 2500000 },
    { "0.0000025", 2500000 },
    { "\"1.5e-07\"", 150000 },
    { "\"0.00000015\"", 150000 },
    { "3e-7", 300000 },
    { "0", 0 },
    { "0.0", 0 },
    { "-0.0", 0 },
    { "1e-12", 1 },
    { "1.1e-12", 2 },
    { "1e-300", 1 },
    { "8.056640625e-09", 8057 },
    { "0.01", INT64_C(10000000000) },

    /* artefacts of doubles */

    { "1.5000020000000002e-05", 15000020 },
    { "2.9999900000000002e-06", 2999990 },
    { "9.999990000000002e-06", 9999990 },
    { "2.1429999999999996e-06", 2143000 },
    { "1.5000999999999998e-07", 150010 },
    { "0.0000015000300000000002", 1500030 },
    { "0.00000999999999999999999999", 10000000 },
    { "0.000002500000000000000000000", 2500000 },
    { "\"2.9999900000000002e-06\"", 2999990 },

    /* fifteen digits are meant */

    { "1.00000000000001e-05", 10000001 },
    { "1.23456789012345e-06", 1234568 },
    { "1.000000000000001e-05", 10000000 },
    { "1.000000000000009e-05", 10000001 }
};


static void *
room_alloc(void *data, size_t size)
{
    void  *p;

    size = (size + 15) & ~(size_t) 15;

    if (room_size - room_used < size) {
        return NULL;
    }

    p = room + room_used;
    room_used += size;

    return p;
}


static llmb_rc_e
load(const char *text)
{
    llmb_str_t  s;

    memset(room, 0, room_used);
    room_used = 0;

    memset(&table, 0, sizeof(table));

    s.data = (unsigned char *) text;
    s.len = strlen(text);

    return llmb_price_file_read(&table, &s, room_alloc, NULL, &error);
}


static const llmb_price_t *
find(const char *name)
{
    llmb_str_t  s;

    s.data = (unsigned char *) name;
    s.len = strlen(name);

    return llmb_price_find(&table, &s, NULL);
}


static void
loads(const char *text, unsigned priced, unsigned not_metered,
    const char *title)
{
    llmb_rc_e  rc;

    rc = load(text);

    if (!ok(rc == LLMB_OK && table.n == priced
            && table.not_metered == not_metered, "%s", title))
    {
        printf("# rc %d priced %u not metered %u: %s\n", (int) rc, table.n,
               table.not_metered, error.text);
    }
}


/* a row as "tier above: in read 5m 1h out ain aout", "-" for none */

static void
row_is(const char *model, unsigned i, const char *want, const char *title)
{
    int                      n;
    char                     buf[256];
    unsigned                 k;
    const llmb_price_t      *price;
    const llmb_price_row_t  *row;

    price = find(model);

    if (price == NULL || i >= price->n_rows) {
        ok(0, "%s", title);
        return;
    }

    row = &price->row[i];
    n = snprintf(buf, sizeof(buf), "%d %lld:", (int) row->tier,
                 (long long) row->above);

    for (k = 0; k < LLMB_RATES; k++) {

        if (row->rate[k] == LLMB_PRICE_NONE) {
            n += snprintf(buf + n, sizeof(buf) - (size_t) n, " -");

        } else {
            n += snprintf(buf + n, sizeof(buf) - (size_t) n, " %lld",
                          (long long) row->rate[k]);
        }
    }

    is_str(buf, (size_t) n, want, title);
}


static void
test_refused(void)
{
    size_t                 i;
    llmb_rc_e              rc;
    const refused_case_t  *c;

    for (i = 0; i < sizeof(refused_cases) / sizeof(refused_cases[0]); i++) {
        c = &refused_cases[i];
        rc = load(c->text);

        if (!ok(rc == LLMB_INVALID && strstr(error.text, c->error) != NULL
                && error.line == c->line, "%s", c->title))
        {
            printf("# rc %d line %d: %s\n", (int) rc, error.line, error.text);
        }
    }
}


static void
test_decimals(void)
{
    char                   text[256];
    size_t                 i;
    int64_t                got;
    llmb_rc_e              rc;
    const llmb_price_t    *price;
    const decimal_case_t  *c;

    for (i = 0; i < sizeof(decimal_cases) / sizeof(decimal_cases[0]); i++) {
        c = &decimal_cases[i];

        snprintf(text, sizeof(text), "{\"a\": {\"input_cost_per_token\": %s,"
                 " \"output_cost_per_token\": 1e-06}}", c->literal);

        rc = load(text);
        price = find("a");
        got = price ? price->row[0].rate[LLMB_RATE_INPUT] : -1;

        if (!ok(rc == LLMB_OK && got == c->pusd, "%s is %lld pico-USD",
                c->literal, (long long) c->pusd))
        {
            printf("# got %lld: %s\n", (long long) got, error.text);
        }
    }
}


static void
test_entry(void)
{
    const llmb_price_t  *price;

    loads("{\"sample_spec\": {\"max_tokens\": \"documentation\"},"
          " \"fallback_generalizations\": [1],"
          " \"a/b\\u00e9\": {\"litellm_provider\": \"a\","
          "  \"mode\": \"responses\","
          "  \"max_input_tokens\": 2000000.0, \"max_output_tokens\": \"100\","
          "  \"max_tokens\": 7, \"unknown\": {\"input_cost_per_token\": -1},"
          "  \"supported\": [true, {\"free\": 1}], \"source\": null,"
          "  \"regional_processing_uplift_multiplier_eu\": 1.1,"
          "  \"input_cost_per_token\": 1e-6, \"output_cost_per_token\": 2e-6,"
          "  \"cache_read_input_token_cost\": null,"
          "  \"output_cost_per_image\": -4, \"free\": false}}", 1, 0,
          "what is not known is passed over");

    price = find("a/b\xc3\xa9");

    ok(price != NULL, "names are decoded");
    row_is("a/b\xc3\xa9", 0, "0 0: 1000000 - - - 2000000 - -",
           "null is not given");

    if (price == NULL) {
        return;
    }

    is_str(price->provider.data, price->provider.len, "a",
           "the provider is kept");
    is_int(price->dialect, LLMB_DIALECT_RESPONSES, "and the dialect");
    is_int(price->max_input, 2000000, "a maximum may be a decimal");
    is_int(price->max_output, 100, "or a string");
    is_int(price->search, LLMB_PRICE_NONE, "no search price is none");
    is_int(price->free, 0, "a price is not free");
    ok(error.text[0] == '\0', "there is nothing to warn of");

    load("{\"a\": {\"input_cost_per_token\": 1e-6, \"max_tokens\": 7,"
         " \"output_cost_per_token\": 2e-6}}");
    price = find("a");
    ok(price != NULL && price->max_input == 7 && price->max_output == 7,
       "max_tokens alone is the whole context");

    load("{\"a\": {\"input_cost_per_token\": 1e-6, \"max_tokens\": 7,"
         " \"max_output_tokens\": 5, \"output_cost_per_token\": 2e-6}}");
    price = find("a");
    ok(price != NULL && price->max_input == 0 && price->max_output == 5,
       "max_tokens beside the output's maximum says nothing of the input");

    load("{\"a\": {\"input_cost_per_token\": 1e-6, \"max_tokens\": 7,"
         " \"max_input_tokens\": 9, \"output_cost_per_token\": 2e-6}}");
    price = find("a");
    ok(price != NULL && price->max_input == 9 && price->max_output == 7,
       "max_tokens stands for the output's maximum");
}


static void
test_metered(void)
{
    const llmb_price_t  *price;

#define GOOD  "\"z\": {\"input_cost_per_token\": 1e-6,"                       \
              " \"output_cost_per_token\": 1e-6}"

    loads("{" GOOD ", \"a\": {\"mode\": \"image_generation\","
          " \"output_cost_per_image\": 0.04}}", 1, 1,
          "an entry without token prices is not metered");
    ok(find("a") == NULL, "and is not found");

    loads("{" GOOD ", \"a\": {\"input_cost_per_token\": 1e-6}}", 1, 1,
          "nor is one without the output's");
    loads("{" GOOD ", \"a\": {\"output_cost_per_token\": 0.0,"
          " \"input_cost_per_pixel\": 1e-8}}", 1, 1,
          "nor one without the input's");
    loads("{" GOOD ", \"a\": {\"mode\": \"rerank\","
          " \"input_cost_per_query\": 0.002, \"input_cost_per_token\": 0,"
          " \"output_cost_per_token\": 0}}", 1, 1,
          "T31: zeros beside a price of another unit are not free");
    loads("{" GOOD ", \"a\": {\"mode\": \"embedding\","
          " \"input_cost_per_token\": 0}}", 1, 1,
          "T31: a zero alone is not free");

    loads("{\"a\": {\"mode\": \"embedding\","
          " \"input_cost_per_token\": 1e-7}}", 1, 0,
          "the input's suffices for embeddings");
    row_is("a", 0, "0 0: 100000 - - - 0 - -", "their output costs nothing");

    loads("{\"a\": {\"input_cost_per_token\": 0,"
          " \"output_cost_per_token\": 1e-6}}", 1, 0, "one may be zero");
    price = find("a");
    ok(price != NULL && !price->free, "which is not free");

    loads("{\"a\": {\"input_cost_per_token\": 0.0,"
          " \"output_cost_per_token\": 0, \"output_cost_per_image\": 0}}",
          1, 0, "both may be zero");
    price = find("a");
    ok(price != NULL && price->free, "T31: which is free");

    loads("{\"a\": {\"input_cost_per_token\": 0, \"output_cost_per_token\": 0,"
          " \"input_cost_per_audio_token\": 1e-6}}", 1, 0,
          "zeros beside a price of audio tokens are a price");
    price = find("a");
    ok(price != NULL && !price->free, "which is not free");

    loads("{\"a\": {\"free\": true}}", 1, 0, "free may be said alone");
    price = find("a");
    ok(price != NULL && price->free, "and is free");
    row_is("a", 0, "0 0: 0 - - - 0 - -", "at prices of zero");

    loads("{\"a\": {\"free\": true}, \"b\": {\"max_tokens\": 1},"
          " \"c\": {\"input_cost_per_token\": 0,"
          " \"output_cost_per_token\": 1e-6}}", 2, 1,
          "free is said of one entry");
    price = find("c");
    ok(price != NULL && !price->free && price->max_output == 0,
       "nothing is left over from the entry before");

    loads("{\"a\": {\"free\": true}, \"b\": {\"input_cost_per_token\": 0,"
          " \"output_cost_per_token\": 0}}", 2, 0,
          "zeros behind a free entry are free on their own");
}


static void
test_implausible(void)
{
    loads("{" GOOD ", \"w/x\": {\"input_cost_per_token\": 0.015,"
          " \"output_cost_per_token\": 0.06}}", 1, 1,
          "T56: a price over 0.01 USD is left out");
    ok(find("w/x") == NULL, "it is unknown, not free");
    ok(strstr(error.text, "1 entries") != NULL
       && strstr(error.text, "\"w/x\"") != NULL
       && strstr(error.text, "implausible_ok") != NULL,
       "and warned of by name");

    loads("{" GOOD ", \"a\": {\"input_cost_per_token\": 0.01,"
          " \"output_cost_per_token\": 0.01}}", 2, 0, "0.01 USD is fine");
    ok(error.text[0] == '\0', "without a warning");

    loads("{\"a\": {\"input_cost_per_token\": 2.5,"
          " \"output_cost_per_token\": 10, \"implausible_ok\": true}}", 1, 0,
          "implausible_ok lets any price pass");
    row_is("a", 0, "0 0: 2500000000000 - - - 10000000000000 - -",
           "as it is given");

    ok(load("{\"a\": {\"input_cost_per_token\": 2.5,"
            " \"output_cost_per_token\": 10, \"implausible_ok\": true},"
            " \"b\": {\"input_cost_per_token\": 2.5}}") == LLMB_INVALID
       && strstr(error.text, "model \"b\"") != NULL,
       "but not in the next entry");
}


static void
test_rows(void)
{
    const llmb_price_t  *price;

    load("{\"a\": {\"input_cost_per_token\": 3e-6,"
         " \"output_cost_per_token\": 15e-6,"
         " \"cache_read_input_token_cost\": 3e-7,"
         " \"cache_creation_input_token_cost\": 3.75e-6,"
         " \"cache_creation_input_token_cost_above_1hr\": 6e-6,"
         " \"input_cost_per_audio_token\": 1e-5,"
         " \"output_cost_per_audio_token\": 2e-5,"
         " \"input_cost_per_token_above_200k_tokens\": 6e-6,"
         " \"output_cost_per_token_above_200k_tokens\": 2.25e-5,"
         " \"cache_creation_input_token_cost_above_1hr_above_200k_tokens\":"
         " 1.3e-5}}");
    row_is("a", 0, "0 0: 3000000 300000 3750000 6000000 15000000 10000000"
           " 20000000", "every rate of the base row");
    row_is("a", 1, "0 200000: 6000000 600000 7500000 13000000 22500000"
           " 20000000 40000000",
           "what a size does not give grows with its input");

    price = find("a");
    ok(price && !price->row[0].inclusive && !price->row[1].inclusive,
       "a size is strictly above at most providers (T16)");

    load("{\"a\": {\"litellm_provider\": \"xai\","
         " \"input_cost_per_token\": 3e-6,"
         " \"output_cost_per_token\": 15e-6,"
         " \"input_cost_per_token_above_128k_tokens\": 6e-6,"
         " \"output_cost_per_token_above_128k_tokens\": 3e-5}}");
    price = find("a");
    ok(price && !price->row[0].inclusive && price->row[1].inclusive,
       "at xAI a size is at or above (T16)");

    load("{\"a\": {\"input_cost_per_token\": 4e-6,"
         " \"output_cost_per_token\": 8e-6,"
         " \"cache_read_input_token_cost\": 1e-6,"
         " \"input_cost_per_token_flex\": 2e-6,"
         " \"output_cost_per_token_flex\": 4e-6,"
         " \"input_cost_per_token_fast\": 8e-6,"
         " \"output_cost_per_token_priority\": 2e-5,"
         " \"input_cost_per_token_batches\": 1e-6,"
         " \"output_cost_per_token_batches\": 2e-6,"
         " \"cache_read_input_token_cost_batches\": 5e-7}}");
    row_is("a", 0, "0 0: 4000000 1000000 - - 8000000 - -",
           "the default tier is first");
    row_is("a", 1, "1 0: 2000000 1000000 - - 4000000 - -",
           "a discount not written down is not given");
    row_is("a", 2, "2 0: 8000000 2000000 - - 20000000 - -",
           "a dearer tier is dearer in what it does not give");
    row_is("a", 3, "3 0: 1000000 500000 - - 2000000 - -", "batches");

    load("{\"a\": {\"input_cost_per_token\": 2e-6,"
         " \"output_cost_per_token\": 4e-6,"
         " \"output_cost_per_token_above_272k_tokens\": 6e-6,"
         " \"input_cost_per_token_above_272k_tokens\": 3e-6,"
         " \"input_cost_per_token_priority\": 4e-6,"
         " \"output_cost_per_token_priority\": 8e-6,"
         " \"input_cost_per_token_flex\": 1e-6,"
         " \"output_cost_per_token_flex\": 2e-6,"
         " \"input_cost_per_token_above_272k_tokens_flex\": 1.5e-6,"
         " \"output_cost_per_token_flex_above_272k_tokens\": 3e-6}}");
    price = find("a");
    is_int(price ? price->n_rows : 0, 6, "every tier has every size");
    row_is("a", 3, "1 272000: 1500000 - - - 3000000 - -",
           "size and tier are combined in either order");
    row_is("a", 5, "2 272000: 4000000 - - - 8000000 - -",
           "a combination not given is the dearest of its two");

    load("{\"a\": {\"input_cost_per_token\": 1e-6,"
         " \"output_cost_per_token\": 2e-6,"
         " \"output_cost_per_reasoning_token\": 3e-6,"
         " \"input_cost_per_token_cache_hit\": 1e-7,"
         " \"input_cost_per_token_ultra\": 9e-6,"
         " \"input_cost_per_token_above_k_tokens\": 9e-6,"
         " \"input_cost_per_token_above_9k_words\": 9e-6,"
         " \"input_cost_per_token_flex_flex\": 9e-6,"
         " \"input_cost_per_tokens\": 9e-6}}");
    price = find("a");
    is_int(price ? price->n_rows : 0, 1, "unknown suffixes make no row");
    row_is("a", 0, "0 0: 1000000 100000 - - 3000000 - -",
           "reasoning that is dearer is the output's rate");

    load("{\"a\": {\"input_cost_per_token\": 1e-6,"
         " \"output_cost_per_token\": 8e-6,"
         " \"output_cost_per_reasoning_token\": 3e-6}}");
    row_is("a", 0, "0 0: 1000000 - - - 8000000 - -",
           "reasoning that is cheaper is not");
}


static void
test_tiered(void)
{
    const llmb_price_t  *price;

    load("{\"a\": {\"tiered_pricing\": ["
         "{\"range\": [32000.0, 128000.0], \"input_cost_per_token\": 2e-6,"
         " \"output_cost_per_token\": 6e-6,"
         " \"output_cost_per_reasoning_token\": 8e-6},"
         "{\"input_cost_per_token\": 1e-6, \"output_cost_per_token\": 3e-6,"
         " \"cache_read_input_token_cost\": 5e-7, \"range\": [0, 32000.0]}"
         "]}}");
    price = find("a");
    is_int(price ? price->n_rows : 0, 2, "tiered_pricing makes rows");
    row_is("a", 0, "0 0: 1000000 500000 - - 3000000 - -",
           "a range from 0 is the base");
    row_is("a", 1, "0 32000: 2000000 1000000 - - 8000000 - -",
           "another is above its lower bound");

    load("{\"a\": {\"tiered_pricing\": ["
         "{\"range\": [1, 10], \"input_cost_per_token\": 2e-6,"
         " \"output_cost_per_token\": 6e-6}]}}");
    row_is("a", 0, "0 0: 2000000 - - - 6000000 - -",
           "a range from 1 is the base");

    loads("{" GOOD ", \"a\": {\"tiered_pricing\": ["
          "{\"max_results_range\": [0, 25], \"input_cost_per_query\": 0.005}"
          "]}}", 1, 1, "tiers of search results are not metered");

    loads("{\"a\": {\"tiered_pricing\": null, \"input_cost_per_token\": 1e-6,"
          " \"output_cost_per_token\": 1e-6}}", 1, 0,
          "no tiered_pricing may be null");
}


static void
test_search(void)
{
    const llmb_price_t  *price;

    load("{\"a\": {\"input_cost_per_token\": 1e-6,"
         " \"output_cost_per_token\": 1e-6,"
         " \"search_context_cost_per_query\": {"
         "  \"search_context_size_low\": 0.006,"
         "  \"search_context_size_high\": 0.01,"
         "  \"search_context_size_medium\": 0.008}}}");
    price = find("a");
    is_int(price ? price->search : 0, INT64_C(10000000000),
           "a search costs as the dearest context size");

    load("{\"a\": {\"input_cost_per_token\": 1e-6,"
         " \"output_cost_per_token\": 1e-6,"
         " \"search_context_cost_per_query\": 0.002}}");
    price = find("a");
    is_int(price ? price->search : 0, INT64_C(2000000000),
           "it may be one number");

    load("{\"a\": {\"input_cost_per_token\": 1e-6,"
         " \"output_cost_per_token\": 1e-6,"
         " \"search_context_cost_per_query\": null}}");
    price = find("a");
    is_int(price ? price->search : 0, LLMB_PRICE_NONE, "or null");

    ok(load("{\"a\": {\"search_context_cost_per_query\": {"
            "\"search_context_size_low\": true}}}") == LLMB_INVALID
       && strstr(error.text, "is not a number") != NULL,
       "true is no price of a search");
}


/* A map of many entries, its names long enough to cross every boundary. */

static void
test_many(void)
{
    char        *text, *p, name[32];
    size_t       size;
    unsigned     i, lost;
    llmb_str_t   aliases[2];

    size = MANY * 160;
    text = malloc(size);

    if (text == NULL) {
        ok(0, "no memory");
        return;
    }

    p = text;

    for (i = 0; i < MANY; i++) {
        p += snprintf(p, size - (size_t) (p - text),
                      "%s\"prov/m-%u\": {\"input_cost_per_token\": %ue-9,"
                      " \"output_cost_per_token\": 1e-6}\n",
                      i ? "," : "{", i, i + 1);
    }

    memcpy(p, "}", 2);

    loads(text, MANY, 0, "a large map is loaded whole");
    ok(table.mask + 1 >= 2 * MANY, "its slots are at most half full");

    lost = 0;

    for (i = 0; i < MANY; i++) {
        snprintf(name, sizeof(name), "prov/m-%u", i);

        lost += find(name) == NULL
                || find(name)->row[0].rate[LLMB_RATE_INPUT]
                   != (int64_t) (i + 1) * 1000;
    }

    is_int(lost, 0, "every entry is found with its own price");
    ok(find("prov/m-3000") == NULL, "and no other");

    lost = 0;

    for (room_size = 0; room_size < ROOM / 2; room_size += 4099 * 16) {
        lost += load(text) == LLMB_NOSPACE;
    }

    ok(lost > 5, "too little memory is told");

    room_size = ROOM;
    memset(room, 0, ROOM);
    room_used = 0;
    memset(&table, 0, sizeof(table));
    memset(aliases, 0, sizeof(aliases));

    table.aliases = aliases;
    table.n_aliases = 1;
    table.version[0] = 'v';

    aliases[0].data = (unsigned char *) text;
    aliases[0].len = strlen(text);

    ok(llmb_price_file_read(&table, &aliases[0], room_alloc, NULL, &error)
       == LLMB_OK && table.n_aliases == 1 && table.version[0] == 'v',
       "aliases and version stay as they are");

    free(text);
}


/* A name of just the greatest length, and one more. */

static void
test_long(void)
{
    char  text[512], name[LLMB_MODEL_LEN + 2];

    memset(name, 'n', sizeof(name));
    name[LLMB_MODEL_LEN] = '\0';

    snprintf(text, sizeof(text), "{\"%s\": {\"input_cost_per_token\": 1e-6,"
             " \"output_cost_per_token\": 1e-6}}", name);

    loads(text, 1, 0, "a name of 256 bytes is read");
    ok(find(name) != NULL, "and found");

    snprintf(text, sizeof(text), "{\"%s\": {\"input_cost_per_token\": -1}}",
             name);

    ok(load(text) == LLMB_INVALID
       && strstr(error.text, "give USD per token, 0 or more") != NULL,
       "a long name leaves room for the cure in a message");

    name[LLMB_MODEL_LEN] = 'n';
    name[LLMB_MODEL_LEN + 1] = '\0';

    snprintf(text, sizeof(text), "{\"%s\": {}}", name);

    ok(load(text) == LLMB_INVALID
       && strstr(error.text, "1 to 256 bytes") != NULL,
       "a name of 257 bytes is refused");
}


int
main(void)
{
    room = calloc(1, ROOM);

    if (room == NULL) {
        return 1;
    }

    test_refused();
    test_decimals();
    test_entry();
    test_metered();
    test_implausible();
    test_rows();
    test_tiered();
    test_search();
    test_many();
    test_long();

    free(room);

    return test_done();
}
