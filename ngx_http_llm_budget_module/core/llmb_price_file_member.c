
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The price map: what a member of an entry is, by its name, and what its value
 * says.
 */


#include "core/llmb_price_file_reader.h"

#include <string.h>

#include "core/llmb_money.h"
#include "core/llmb_out.h"


/* significant digits that a double keeps; more are its artefact */
#define LLMB_PRICE_DIGITS       15

/* no price needs a greater exponent; bounds the sum */
#define LLMB_PRICE_EXPONENT     1000


typedef struct {
    const char             *name;
    llmb_member_e           member;
} llmb_member_name_t;


typedef struct {
    const char             *name;
    llmb_rate_e             rate;
} llmb_rate_name_t;


typedef struct {
    const char             *name;
    llmb_tier_e             tier;
} llmb_tier_suffix_t;


typedef struct {
    size_t                  len;        /* up to the exponent */
    int64_t                 digits;     /* the first LLMB_PRICE_DIGITS */
    int64_t                 up;         /* 1: the next one rounds up */
    int64_t                 seen;       /* from the first that is not zero */
    int64_t                 significant;    /* up to the last that is not */
    int64_t                 fraction;   /* behind the point */
} llmb_price_digits_t;


static unsigned llmb_price_member_rate(llmb_price_member_t *at,
    const llmb_str_t *name);
static unsigned llmb_price_member_suffix(llmb_price_member_t *at,
    const llmb_str_t *name, size_t pos);
static size_t llmb_price_above(const llmb_str_t *name, size_t pos,
    int64_t *above);
static unsigned llmb_price_has(const llmb_str_t *name, const char *word);
static size_t llmb_price_file_prefix(const llmb_str_t *name, size_t pos,
    const char *prefix);
static void llmb_price_digits(const llmb_str_t *text,
    llmb_price_digits_t *d);


static const llmb_member_name_t  llmb_price_members[] = {
    { "litellm_provider", LLMB_MEMBER_PROVIDER },
    { "mode", LLMB_MEMBER_MODE },
    { "max_input_tokens", LLMB_MEMBER_MAX_INPUT },
    { "max_output_tokens", LLMB_MEMBER_MAX_OUTPUT },
    { "max_tokens", LLMB_MEMBER_MAX_TOKENS },
    { "free", LLMB_MEMBER_FREE },
    { "implausible_ok", LLMB_MEMBER_IMPLAUSIBLE_OK },
    { "search_context_cost_per_query", LLMB_MEMBER_SEARCH },
    { "tiered_pricing", LLMB_MEMBER_TIERED }
};


/* several names of one rate: the dearest counts */

static const llmb_rate_name_t  llmb_price_rate_names[] = {
    { "input_cost_per_token", LLMB_RATE_INPUT },
    { "output_cost_per_token", LLMB_RATE_OUTPUT },
    { "output_cost_per_reasoning_token", LLMB_RATE_OUTPUT },
    { "cache_read_input_token_cost", LLMB_RATE_CACHED_READ },
    { "input_cost_per_token_cache_hit", LLMB_RATE_CACHED_READ },
    { "cache_creation_input_token_cost", LLMB_RATE_CACHE_WRITE_5M },
    { "cache_creation_input_token_cost_above_1hr", LLMB_RATE_CACHE_WRITE_1H },
    { "input_cost_per_audio_token", LLMB_RATE_AUDIO_INPUT },
    { "output_cost_per_audio_token", LLMB_RATE_AUDIO_OUTPUT }
};


static const llmb_tier_suffix_t  llmb_price_suffixes[] = {
    { "_flex", LLMB_TIER_FLEX },
    { "_priority", LLMB_TIER_PRIORITY },
    { "_fast", LLMB_TIER_PRIORITY },
    { "_batches", LLMB_TIER_BATCH }
};


void
llmb_price_file_member(llmb_price_member_t *at, const llmb_json_token_t *token)
{
    size_t             i;
    const llmb_str_t  *name;

    name = &token->text;

    at->member = LLMB_MEMBER_OTHER;
    at->len = (name->len < LLMB_PRICE_MEMBER_LEN) ? name->len
                                                  : LLMB_PRICE_MEMBER_LEN;
    memcpy(at->name, name->data, at->len);

    if (token->text_len > name->len || name->len == 0) {
        return;
    }

    for (i = 0; i < sizeof(llmb_price_members) / sizeof(llmb_price_members[0]);
         i++)
    {
        if (llmb_price_file_is(token, llmb_price_members[i].name)) {
            at->member = llmb_price_members[i].member;
            return;
        }
    }

    if (llmb_price_member_rate(at, name)) {
        at->member = LLMB_MEMBER_RATE;

    } else if (llmb_price_has(name, "cost")) {
        at->member = LLMB_MEMBER_COST;
    }
}


/* A name of a rate, and behind it only suffixes that we know. */

static unsigned
llmb_price_member_rate(llmb_price_member_t *at, const llmb_str_t *name)
{
    size_t    pos;
    unsigned  i;

    for (i = 0;
         i < sizeof(llmb_price_rate_names) / sizeof(llmb_price_rate_names[0]);
         i++)
    {
        pos = llmb_price_file_prefix(name, 0, llmb_price_rate_names[i].name);

        if (pos > 0 && llmb_price_member_suffix(at, name, pos)) {
            at->rate = llmb_price_rate_names[i].rate;
            return 1;
        }
    }

    return 0;
}


static unsigned
llmb_price_member_suffix(llmb_price_member_t *at, const llmb_str_t *name,
    size_t pos)
{
    size_t    len;
    unsigned  i;

    at->tier = LLMB_TIER_DEFAULT;
    at->above = 0;

    while (pos < name->len) {
        len = (at->above == 0) ? llmb_price_above(name, pos, &at->above) : 0;

        for (i = 0; len == 0 && at->tier == LLMB_TIER_DEFAULT
                    && i < sizeof(llmb_price_suffixes)
                           / sizeof(llmb_price_suffixes[0]);
             i++)
        {
            len = llmb_price_file_prefix(name, pos,
                                         llmb_price_suffixes[i].name);

            if (len > 0) {
                at->tier = llmb_price_suffixes[i].tier;
                break;
            }
        }

        if (len == 0) {
            return 0;
        }

        pos += len;
    }

    return 1;
}


/* "_above_200k_tokens": its length, or 0. */

static size_t
llmb_price_above(const llmb_str_t *name, size_t pos, int64_t *above)
{
    size_t   i, len;
    int64_t  n;

    len = llmb_price_file_prefix(name, pos, "_above_");

    if (len == 0) {
        return 0;
    }

    n = 0;

    for (i = pos + len;
         i < name->len && name->data[i] >= '0' && name->data[i] <= '9'
         && n < LLMB_USAGE_INT_MAX / 1000;
         i++)
    {
        n = n * 10 + (name->data[i] - '0');
    }

    len = llmb_price_file_prefix(name, i, "k_tokens");

    if (n == 0 || len == 0) {
        return 0;
    }

    *above = n * 1000;

    return i + len - pos;
}


static unsigned
llmb_price_has(const llmb_str_t *name, const char *word)
{
    size_t  pos;

    for (pos = 0; pos < name->len; pos++) {

        if (llmb_price_file_prefix(name, pos, word) > 0) {
            return 1;
        }
    }

    return 0;
}


unsigned
llmb_price_file_is(const llmb_json_token_t *token, const char *word)
{
    return token->text_len == strlen(word)
           && llmb_price_file_prefix(&token->text, 0, word) == token->text_len;
}


/* The length of prefix if it stands at pos, else 0. */

static size_t
llmb_price_file_prefix(const llmb_str_t *name, size_t pos, const char *prefix)
{
    size_t  len;

    len = strlen(prefix);

    if (name->len - pos < len || memcmp(name->data + pos, prefix, len) != 0) {
        return 0;
    }

    return len;
}


llmb_rc_e
llmb_price_file_flag(llmb_price_reader_t *reader,
    const llmb_json_token_t *token, unsigned *flag)
{
    if (token->type != LLMB_JSON_TRUE && token->type != LLMB_JSON_FALSE) {
        return llmb_price_file_fail(reader, token->start, &reader->at,
                                    "is neither true nor false");
    }

    *flag = (token->type == LLMB_JSON_TRUE);

    return LLMB_OK;
}


llmb_rc_e
llmb_price_file_count(llmb_price_reader_t *reader,
    const llmb_json_token_t *token, int64_t *n)
{
    if (token->type == LLMB_JSON_NULL) {
        return LLMB_OK;
    }

    if ((token->type != LLMB_JSON_NUMBER && token->type != LLMB_JSON_STRING)
        || token->text_len != token->text.len
        || llmb_money_parse(&token->text, 0, n) != LLMB_OK
        || *n < 0 || *n > LLMB_REQUEST_INT_MAX)
    {
        return llmb_price_file_fail(reader, token->start, &reader->at,
                                    "is not a number of tokens");
    }

    return LLMB_OK;
}


llmb_rc_e
llmb_price_file_per_token(llmb_price_reader_t *reader,
    const llmb_json_token_t *token, const llmb_price_member_t *at,
    int64_t *pusd)
{
    llmb_rc_e  rc;

    rc = llmb_price_file_value(reader, token, at, pusd);

    if (rc == LLMB_OK && *pusd > reader->worst) {
        reader->worst = *pusd;
        reader->worst_start = token->start;
        reader->worst_member = *at;
    }

    return rc;
}


llmb_rc_e
llmb_price_file_value(llmb_price_reader_t *reader,
    const llmb_json_token_t *token, const llmb_price_member_t *at,
    int64_t *pusd)
{
    llmb_rc_e  rc;

    if (token->type == LLMB_JSON_NULL) {
        return LLMB_DECLINED;
    }

    rc = LLMB_INVALID;

    if (token->text_len == token->text.len
        && (token->type == LLMB_JSON_NUMBER
            || token->type == LLMB_JSON_STRING))
    {
        rc = llmb_price_file_decimal(&token->text, pusd);
    }

    if (rc == LLMB_OVERFLOW) {
        return llmb_price_file_fail(reader, token->start, at,
                                    "is out of range: give USD per token");
    }

    if (rc != LLMB_OK) {
        return llmb_price_file_fail(reader, token->start, at,
                                    "is not a number: give USD per token,"
                                    " as 2.5e-06");
    }

    if (*pusd < 0) {
        return llmb_price_file_fail(reader, token->start, at,
                                    "is negative: give USD per token, 0 or"
                                    " more");
    }

    return LLMB_OK;
}


/*
 * Decimal text as pico-USD.  The map is written through doubles, so that
 * 1.500002e-05 may stand as 1.5000020000000002e-05: a text with more digits
 * than a double keeps is rounded to those first.
 */

llmb_rc_e
llmb_price_file_decimal(const llmb_str_t *text, int64_t *pusd)
{
    int64_t              exponent, value;
    llmb_rc_e            rc;
    llmb_str_t           part;
    llmb_out_t           out;
    unsigned char        buf[64];
    llmb_price_digits_t  d;

    rc = llmb_money_parse(text, LLMB_MONEY_PUSD, pusd);

    if (rc == LLMB_INVALID) {
        return rc;
    }

    /* the form is known to be good */

    llmb_price_digits(text, &d);

    if (d.significant <= LLMB_PRICE_DIGITS) {
        return rc;
    }

    exponent = 0;

    if (d.len + 1 < text->len) {
        part.data = text->data + d.len + 1;
        part.len = text->len - d.len - 1;

        if (llmb_money_parse(&part, 0, &exponent) != LLMB_OK
            || exponent > LLMB_PRICE_EXPONENT
            || exponent < -LLMB_PRICE_EXPONENT)
        {
            return rc;
        }
    }

    exponent += d.seen - LLMB_PRICE_DIGITS - d.fraction;
    value = d.digits + d.up;

    llmb_out_init(&out, buf, sizeof(buf));
    llmb_out_int(&out, (text->data[0] == '-') ? -value : value);
    llmb_out_text(&out, "e");
    llmb_out_int(&out, exponent);

    part.data = buf;
    part.len = (size_t) (out.pos - out.start);

    return llmb_money_parse(&part, LLMB_MONEY_PUSD, pusd);
}


/* The digits before an exponent. */

static void
llmb_price_digits(const llmb_str_t *text, llmb_price_digits_t *d)
{
    size_t         i;
    unsigned       point;
    unsigned char  ch;

    memset(d, 0, sizeof(llmb_price_digits_t));

    point = 0;

    for (i = 0; i < text->len; i++) {
        ch = text->data[i];

        if (ch == 'e' || ch == 'E') {
            break;
        }

        if (ch == '.') {
            point = 1;
            continue;
        }

        if (ch < '0' || ch > '9') {
            continue;
        }

        d->fraction += point;
        d->seen += (d->seen > 0 || ch != '0');

        if (ch != '0') {
            d->significant = d->seen;
        }

        if (d->seen <= LLMB_PRICE_DIGITS) {
            d->digits = d->digits * 10 + (ch - '0');

        } else if (d->seen == LLMB_PRICE_DIGITS + 1) {
            d->up = (ch >= '5');
        }
    }

    d->len = i;
}
