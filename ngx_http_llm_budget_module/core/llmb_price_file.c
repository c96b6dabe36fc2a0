
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Reads the LiteLLM price map.  jansson judges the document (form, duplicate
 * keys) and words the error; the entries are then read with our own scanner,
 * which gives prices as their decimal text.
 */


#include <string.h>

#include <jansson.h>

#include "core/llmb_price_file.h"
#include "core/llmb_json.h"
#include "core/llmb_money.h"
#include "core/llmb_out.h"


/* significant digits that a double keeps; more are its artefact */
#define LLMB_PRICE_DIGITS       15

/* no price needs a greater exponent; bounds the sum */
#define LLMB_PRICE_EXPONENT     1000

#define LLMB_PRICE_MEMBER_LEN   128

/* of a model's name in a message, so that the cure has room */
#define LLMB_PRICE_NAME_SHOWN   96


typedef enum {
    LLMB_MEMBER_OTHER = 0,
    LLMB_MEMBER_COST,           /* a price of a unit that is not metered */
    LLMB_MEMBER_RATE,
    LLMB_MEMBER_PROVIDER,
    LLMB_MEMBER_MODE,
    LLMB_MEMBER_MAX_INPUT,
    LLMB_MEMBER_MAX_OUTPUT,
    LLMB_MEMBER_MAX_TOKENS,
    LLMB_MEMBER_FREE,
    LLMB_MEMBER_IMPLAUSIBLE_OK,
    LLMB_MEMBER_SEARCH,
    LLMB_MEMBER_TIERED
} llmb_member_e;


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
    const char             *mode;
    llmb_dialect_e          dialect;
} llmb_mode_name_t;


/* the member at hand: what it is, and for a rate, which */

typedef struct {
    llmb_member_e           member;
    llmb_rate_e             rate;
    llmb_tier_e             tier;
    int64_t                 above;
    size_t                  len;        /* of name, for messages */
    unsigned char           name[LLMB_PRICE_MEMBER_LEN];
} llmb_price_member_t;


typedef struct {
    llmb_price_table_t     *table;
    const llmb_str_t       *text;
    llmb_price_alloc_pt     alloc;
    void                   *data;
    llmb_price_error_t     *error;
    llmb_price_t           *prices;     /* n filled */
    unsigned                n;
    unsigned                n_entries;  /* allocated */
    unsigned                implausible;    /* entries left out as such */
    size_t                  first_len;      /* name of the first */
    unsigned char           first[LLMB_MODEL_LEN];

    /* the entry at hand */

    unsigned                skip;
    unsigned                other_cost; /* a positive price not metered */
    unsigned                free_set;
    unsigned                free;
    unsigned                implausible_ok;
    uint64_t                start;      /* offset of its name */
    size_t                  name_len;
    unsigned char           name[LLMB_MODEL_LEN];
    size_t                  provider_len;
    unsigned char           provider[LLMB_NAME_LEN];
    llmb_dialect_e          dialect;
    int64_t                 max_input;
    int64_t                 max_output;
    int64_t                 max_tokens;
    int64_t                 search;
    uint64_t                search_start;
    int64_t                 worst;      /* greatest price per token */
    uint64_t                worst_start;
    llmb_price_member_t     worst_member;
    llmb_price_member_t     at;         /* member of depth 2 */
    unsigned                n_rows;
    llmb_price_row_t        row[LLMB_PRICE_ROWS];

    /* the element of tiered_pricing at hand */

    unsigned                in_range;
    unsigned                n_range;    /* bounds of the range read */
    unsigned                has_rates;
    llmb_price_member_t     tiered;     /* member of depth 4 */
    llmb_price_row_t        item;
} llmb_price_reader_t;


static llmb_rc_e llmb_price_file_json(llmb_price_reader_t *reader);
static llmb_rc_e llmb_price_file_index(llmb_price_reader_t *reader);
static llmb_rc_e llmb_price_token(void *data, const llmb_json_token_t *token);
static llmb_rc_e llmb_price_entry_begin(llmb_price_reader_t *reader,
    const llmb_json_token_t *token);
static llmb_rc_e llmb_price_entry_token(llmb_price_reader_t *reader,
    const llmb_json_token_t *token);
static llmb_rc_e llmb_price_entry_text(llmb_price_reader_t *reader,
    const llmb_json_token_t *token);
static llmb_rc_e llmb_price_rate(llmb_price_reader_t *reader,
    const llmb_json_token_t *token);
static llmb_rc_e llmb_price_search(llmb_price_reader_t *reader,
    const llmb_json_token_t *token);
static llmb_rc_e llmb_price_tiered(llmb_price_reader_t *reader,
    const llmb_json_token_t *token);
static llmb_rc_e llmb_price_tiered_member(llmb_price_reader_t *reader,
    const llmb_json_token_t *token);
static llmb_rc_e llmb_price_tiered_end(llmb_price_reader_t *reader,
    const llmb_json_token_t *token);

static void llmb_price_member(llmb_price_member_t *at,
    const llmb_json_token_t *token);
static unsigned llmb_price_member_rate(llmb_price_member_t *at,
    const llmb_str_t *name);
static unsigned llmb_price_member_suffix(llmb_price_member_t *at,
    const llmb_str_t *name, size_t pos);
static size_t llmb_price_above(const llmb_str_t *name, size_t pos,
    int64_t *above);
static size_t llmb_price_prefix(const llmb_str_t *name, size_t pos,
    const char *prefix);
static unsigned llmb_price_has(const llmb_str_t *name, const char *word);

static llmb_rc_e llmb_price_flag(llmb_price_reader_t *reader,
    const llmb_json_token_t *token, unsigned *flag);
static llmb_rc_e llmb_price_count(llmb_price_reader_t *reader,
    const llmb_json_token_t *token, int64_t *n);
static llmb_rc_e llmb_price_per_token(llmb_price_reader_t *reader,
    const llmb_json_token_t *token, const llmb_price_member_t *at,
    int64_t *pusd);
static llmb_rc_e llmb_price_value(llmb_price_reader_t *reader,
    const llmb_json_token_t *token, const llmb_price_member_t *at,
    int64_t *pusd);
static llmb_rc_e llmb_price_decimal(const llmb_str_t *text, int64_t *pusd);
static llmb_rc_e llmb_price_row_get(llmb_price_reader_t *reader,
    llmb_tier_e tier, int64_t above, llmb_price_row_t **row);
static void llmb_price_row_set(llmb_price_row_t *row, llmb_rate_e rate,
    int64_t pusd);
static void llmb_price_row_clear(llmb_price_row_t *row);

static llmb_rc_e llmb_price_entry_end(llmb_price_reader_t *reader);
static llmb_rc_e llmb_price_plausible(llmb_price_reader_t *reader);
static llmb_rc_e llmb_price_metered(llmb_price_reader_t *reader);
static unsigned llmb_price_any(const llmb_price_reader_t *reader);
static llmb_rc_e llmb_price_rows(llmb_price_reader_t *reader);
static void llmb_price_rows_sort(llmb_price_reader_t *reader);
static void llmb_price_inherit(llmb_price_row_t *row,
    const llmb_price_row_t *from, const int64_t own[LLMB_RATES]);
static int64_t llmb_price_scale(int64_t pusd, int64_t num, int64_t den);
static llmb_rc_e llmb_price_entry_keep(llmb_price_reader_t *reader);

static llmb_rc_e llmb_price_fail(llmb_price_reader_t *reader, uint64_t start,
    const llmb_price_member_t *at, const char *what);
static void llmb_price_warn(llmb_price_reader_t *reader);
static size_t llmb_price_shown(size_t len);


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


static const llmb_mode_name_t  llmb_price_modes[] = {
    { "chat", LLMB_DIALECT_CHAT },
    { "completion", LLMB_DIALECT_COMPLETIONS },
    { "responses", LLMB_DIALECT_RESPONSES },
    { "embedding", LLMB_DIALECT_EMBEDDINGS }
};


/* entries of the map that are not models */

static const char  *const llmb_price_skipped[] = {
    "sample_spec",
    "fallback_generalizations"
};


llmb_rc_e
llmb_price_file_read(llmb_price_table_t *table, const llmb_str_t *text,
    llmb_price_alloc_pt alloc, void *data, llmb_price_error_t *error)
{
    llmb_rc_e            rc;
    llmb_json_t          json;
    llmb_price_reader_t  reader;

    memset(error, 0, sizeof(llmb_price_error_t));
    memset(&reader, 0, sizeof(llmb_price_reader_t));

    table->prices = NULL;
    table->n = 0;
    table->slots = NULL;
    table->mask = 0;
    table->not_metered = 0;

    reader.table = table;
    reader.text = text;
    reader.alloc = alloc;
    reader.data = data;
    reader.error = error;

    rc = llmb_price_file_json(&reader);

    if (rc != LLMB_OK) {
        return rc;
    }

    llmb_json_init(&json, 0, LLMB_ANSWER_DEPTH, llmb_price_token, &reader);

    rc = llmb_json_feed(&json, text->data, text->len);

    if (rc == LLMB_OK || rc == LLMB_AGAIN) {
        rc = llmb_json_end(&json);
    }

    if (rc == LLMB_OK) {
        return llmb_price_file_index(&reader);
    }

    if (rc == LLMB_NOSPACE || error->text[0] != '\0') {
        return rc;
    }

    /* the scanner is the stricter of the two */

    return llmb_price_fail(&reader, json.offset, NULL,
                           rc == LLMB_LIMIT ? "nested too deep"
                                            : "not strict JSON");
}


static llmb_rc_e
llmb_price_file_json(llmb_price_reader_t *reader)
{
    size_t        n;
    json_t       *root;
    llmb_out_t    out;
    json_error_t  err;

    if (reader->text->len > LLMB_PRICE_FILE_MAX) {
        return llmb_price_fail(reader, 0, NULL, "larger than 64 megabytes");
    }

    root = json_loadb((const char *) reader->text->data, reader->text->len,
                      JSON_REJECT_DUPLICATES, &err);

    if (root == NULL) {
        llmb_out_init(&out, (unsigned char *) reader->error->text,
                      LLMB_PRICE_ERROR_LEN - 1);
        llmb_out_text(&out, "not JSON: ");
        llmb_out_text(&out, err.text);

        reader->error->line = err.line;

        return LLMB_INVALID;
    }

    n = json_is_object(root) ? json_object_size(root) : 0;

    json_decref(root);

    if (n == 0) {
        return llmb_price_fail(reader, 0, NULL,
                               "not an object with an entry for each model");
    }

    if (n > LLMB_PRICE_ENTRIES) {
        return llmb_price_fail(reader, 0, NULL, "more than 65536 entries");
    }

    reader->prices = reader->alloc(reader->data, n * sizeof(llmb_price_t));

    if (reader->prices == NULL) {
        return LLMB_NOSPACE;
    }

    reader->n_entries = (unsigned) n;

    return LLMB_OK;
}


static llmb_rc_e
llmb_price_file_index(llmb_price_reader_t *reader)
{
    uint32_t             n;
    llmb_price_table_t  *table;

    table = reader->table;

    if (reader->n == 0) {
        return llmb_price_fail(reader, 0, NULL, "no entry has plausible"
                               " \"input_cost_per_token\" and"
                               " \"output_cost_per_token\"");
    }

    for (n = 8; n < 2 * reader->n; n *= 2) { /* void */ }

    table->slots = reader->alloc(reader->data, n * sizeof(uint32_t));

    if (table->slots == NULL) {
        return LLMB_NOSPACE;
    }

    table->mask = n - 1;
    table->prices = reader->prices;
    table->n = reader->n;

    llmb_price_index(table);

    if (reader->implausible > 0) {
        llmb_price_warn(reader);
    }

    return LLMB_OK;
}


static llmb_rc_e
llmb_price_token(void *data, const llmb_json_token_t *token)
{
    llmb_price_reader_t  *reader;

    reader = data;

    /* jansson has seen to it that the top level is an object */

    if (token->depth == 0) {
        return LLMB_OK;
    }

    if (token->depth == 1 && token->type == LLMB_JSON_KEY) {
        return llmb_price_entry_begin(reader, token);
    }

    if (reader->skip) {
        return LLMB_OK;
    }

    if (token->depth > 1) {
        return llmb_price_entry_token(reader, token);
    }

    if (token->type == LLMB_JSON_OBJECT) {
        return LLMB_OK;
    }

    if (token->type == LLMB_JSON_OBJECT_END) {
        return llmb_price_entry_end(reader);
    }

    return llmb_price_fail(reader, token->start, NULL,
                           "the entry is not an object");
}


static llmb_rc_e
llmb_price_entry_begin(llmb_price_reader_t *reader,
    const llmb_json_token_t *token)
{
    size_t       i;
    const char  *name;

    reader->skip = 0;
    reader->other_cost = 0;
    reader->free_set = 0;
    reader->free = 0;
    reader->implausible_ok = 0;
    reader->start = token->start;
    reader->name_len = 0;
    reader->provider_len = 0;
    reader->dialect = LLMB_DIALECT_CHAT;
    reader->max_input = 0;
    reader->max_output = 0;
    reader->max_tokens = 0;
    reader->search = LLMB_PRICE_NONE;
    reader->search_start = 0;
    reader->worst = 0;
    reader->at.member = LLMB_MEMBER_OTHER;
    reader->n_rows = 1;
    reader->row[0].tier = LLMB_TIER_DEFAULT;
    reader->row[0].above = 0;
    llmb_price_row_clear(&reader->row[0]);

    for (i = 0; i < sizeof(llmb_price_skipped) / sizeof(char *); i++) {
        name = llmb_price_skipped[i];

        if (token->text_len == strlen(name)
            && llmb_price_prefix(&token->text, 0, name) == token->text.len)
        {
            reader->skip = 1;
            return LLMB_OK;
        }
    }

    if (token->text_len == 0 || token->text_len > LLMB_MODEL_LEN) {
        return llmb_price_fail(reader, token->start, NULL,
                               "the name of a model has 1 to 256 bytes");
    }

    reader->name_len = token->text.len;
    memcpy(reader->name, token->text.data, token->text.len);

    return LLMB_OK;
}


/* Everything inside an entry. */

static llmb_rc_e
llmb_price_entry_token(llmb_price_reader_t *reader,
    const llmb_json_token_t *token)
{
    int64_t        pusd;
    llmb_member_e  member;

    if (token->depth == 2 && token->type == LLMB_JSON_KEY) {
        llmb_price_member(&reader->at, token);
        return LLMB_OK;
    }

    member = reader->at.member;

    if (member == LLMB_MEMBER_TIERED) {
        return llmb_price_tiered(reader, token);
    }

    if (member == LLMB_MEMBER_SEARCH) {
        return llmb_price_search(reader, token);
    }

    if (token->depth > 2 || token->type == LLMB_JSON_OBJECT_END
        || token->type == LLMB_JSON_ARRAY_END)
    {
        return LLMB_OK;
    }

    if (member == LLMB_MEMBER_RATE) {
        return llmb_price_rate(reader, token);
    }

    if (member == LLMB_MEMBER_COST) {

        if ((token->type == LLMB_JSON_NUMBER || token->type == LLMB_JSON_STRING)
            && llmb_price_decimal(&token->text, &pusd) == LLMB_OK && pusd > 0)
        {
            reader->other_cost = 1;
        }

        return LLMB_OK;
    }

    if (member == LLMB_MEMBER_FREE) {
        reader->free_set = 1;
        return llmb_price_flag(reader, token, &reader->free);
    }

    if (member == LLMB_MEMBER_IMPLAUSIBLE_OK) {
        return llmb_price_flag(reader, token, &reader->implausible_ok);
    }

    if (member == LLMB_MEMBER_MAX_INPUT) {
        return llmb_price_count(reader, token, &reader->max_input);
    }

    if (member == LLMB_MEMBER_MAX_OUTPUT) {
        return llmb_price_count(reader, token, &reader->max_output);
    }

    if (member == LLMB_MEMBER_MAX_TOKENS) {
        return llmb_price_count(reader, token, &reader->max_tokens);
    }

    return llmb_price_entry_text(reader, token);
}


static llmb_rc_e
llmb_price_entry_text(llmb_price_reader_t *reader,
    const llmb_json_token_t *token)
{
    size_t       i;
    const char  *mode;

    if (token->type != LLMB_JSON_STRING) {
        return LLMB_OK;
    }

    if (reader->at.member == LLMB_MEMBER_PROVIDER
        && token->text_len <= LLMB_NAME_LEN)
    {
        reader->provider_len = token->text.len;
        memcpy(reader->provider, token->text.data, token->text.len);
    }

    if (reader->at.member != LLMB_MEMBER_MODE) {
        return LLMB_OK;
    }

    for (i = 0; i < sizeof(llmb_price_modes) / sizeof(llmb_price_modes[0]);
         i++)
    {
        mode = llmb_price_modes[i].mode;

        if (token->text_len == strlen(mode)
            && llmb_price_prefix(&token->text, 0, mode) == token->text.len)
        {
            reader->dialect = llmb_price_modes[i].dialect;
        }
    }

    return LLMB_OK;
}


static llmb_rc_e
llmb_price_rate(llmb_price_reader_t *reader, const llmb_json_token_t *token)
{
    int64_t            pusd;
    llmb_rc_e          rc;
    llmb_price_row_t  *row;

    rc = llmb_price_per_token(reader, token, &reader->at, &pusd);

    if (rc != LLMB_OK) {
        return (rc == LLMB_DECLINED) ? LLMB_OK : rc;
    }

    rc = llmb_price_row_get(reader, reader->at.tier, reader->at.above, &row);

    if (rc != LLMB_OK) {
        return rc;
    }

    llmb_price_row_set(row, reader->at.rate, pusd);

    return LLMB_OK;
}


/* A number, or an object with one for each context size: the dearest. */

static llmb_rc_e
llmb_price_search(llmb_price_reader_t *reader, const llmb_json_token_t *token)
{
    int64_t    pusd;
    llmb_rc_e  rc;

    if (token->type == LLMB_JSON_KEY || token->type == LLMB_JSON_OBJECT_END
        || (token->type == LLMB_JSON_OBJECT && token->depth == 2))
    {
        return LLMB_OK;
    }

    rc = llmb_price_value(reader, token, &reader->at, &pusd);

    if (rc != LLMB_OK) {
        return (rc == LLMB_DECLINED) ? LLMB_OK : rc;
    }

    if (pusd > reader->search) {
        reader->search = pusd;
        reader->search_start = token->start;
    }

    return LLMB_OK;
}


/*
 * Elements: { "range": [lo, hi], rates }: the row above lo.  An element
 * without rates of tokens is of another kind (search results) and is ignored.
 */

static llmb_rc_e
llmb_price_tiered(llmb_price_reader_t *reader, const llmb_json_token_t *token)
{
    if (token->depth == 2) {

        if (token->type == LLMB_JSON_ARRAY || token->type == LLMB_JSON_ARRAY_END
            || token->type == LLMB_JSON_NULL)
        {
            return LLMB_OK;
        }

        return llmb_price_fail(reader, token->start, &reader->at,
                               "is not an array");
    }

    if (token->depth > 3) {
        return llmb_price_tiered_member(reader, token);
    }

    if (token->type == LLMB_JSON_OBJECT) {
        reader->in_range = 0;
        reader->n_range = 0;
        reader->has_rates = 0;
        reader->tiered.member = LLMB_MEMBER_OTHER;
        reader->item.above = 0;
        llmb_price_row_clear(&reader->item);

        return LLMB_OK;
    }

    if (token->type == LLMB_JSON_OBJECT_END) {
        return llmb_price_tiered_end(reader, token);
    }

    return llmb_price_fail(reader, token->start, &reader->at,
                           "has an element that is not an object");
}


static llmb_rc_e
llmb_price_tiered_member(llmb_price_reader_t *reader,
    const llmb_json_token_t *token)
{
    int64_t    pusd;
    llmb_rc_e  rc;

    if (token->depth == 4 && token->type == LLMB_JSON_KEY) {
        llmb_price_member(&reader->tiered, token);

        reader->in_range = token->text_len == sizeof("range") - 1
                           && llmb_price_prefix(&token->text, 0, "range");

        return LLMB_OK;
    }

    if (reader->in_range && token->depth == 5) {

        if (reader->n_range == 0
            && (token->type != LLMB_JSON_NUMBER
                || llmb_json_int(token, &reader->item.above) != LLMB_OK
                || reader->item.above < 0))
        {
            return llmb_price_fail(reader, token->start, &reader->tiered,
                                   "does not begin with a number of tokens");
        }

        reader->n_range++;

        return LLMB_OK;
    }

    if (token->depth != 4 || reader->tiered.member != LLMB_MEMBER_RATE
        || reader->tiered.tier != LLMB_TIER_DEFAULT
        || reader->tiered.above != 0)
    {
        return LLMB_OK;
    }

    rc = llmb_price_per_token(reader, token, &reader->tiered, &pusd);

    if (rc != LLMB_OK) {
        return (rc == LLMB_DECLINED) ? LLMB_OK : rc;
    }

    llmb_price_row_set(&reader->item, reader->tiered.rate, pusd);
    reader->has_rates = 1;

    return LLMB_OK;
}


static llmb_rc_e
llmb_price_tiered_end(llmb_price_reader_t *reader,
    const llmb_json_token_t *token)
{
    int64_t            above;
    unsigned           i;
    llmb_rc_e          rc;
    llmb_price_row_t  *row;

    if (!reader->has_rates) {
        return LLMB_OK;
    }

    if (reader->n_range == 0) {
        return llmb_price_fail(reader, token->start, &reader->at,
                               "has an element without \"range\": give"
                               " [lowest, highest] tokens");
    }

    /* "from 1" is from the start */

    above = (reader->item.above > 1) ? reader->item.above : 0;

    rc = llmb_price_row_get(reader, LLMB_TIER_DEFAULT, above, &row);

    if (rc != LLMB_OK) {
        return rc;
    }

    for (i = 0; i < LLMB_RATES; i++) {
        llmb_price_row_set(row, (llmb_rate_e) i, reader->item.rate[i]);
    }

    return LLMB_OK;
}


/* What a member is. */

static void
llmb_price_member(llmb_price_member_t *at, const llmb_json_token_t *token)
{
    size_t             i;
    const char        *known;
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
        known = llmb_price_members[i].name;

        if (llmb_price_prefix(name, 0, known) == name->len) {
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
        pos = llmb_price_prefix(name, 0, llmb_price_rate_names[i].name);

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
            len = llmb_price_prefix(name, pos, llmb_price_suffixes[i].name);

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

    len = llmb_price_prefix(name, pos, "_above_");

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

    len = llmb_price_prefix(name, i, "k_tokens");

    if (n == 0 || len == 0) {
        return 0;
    }

    *above = n * 1000;

    return i + len - pos;
}


/* The length of prefix if it stands at pos, else 0. */

static size_t
llmb_price_prefix(const llmb_str_t *name, size_t pos, const char *prefix)
{
    size_t  len;

    len = strlen(prefix);

    if (name->len - pos < len || memcmp(name->data + pos, prefix, len) != 0) {
        return 0;
    }

    return len;
}


static unsigned
llmb_price_has(const llmb_str_t *name, const char *word)
{
    size_t  pos;

    for (pos = 0; pos < name->len; pos++) {

        if (llmb_price_prefix(name, pos, word) > 0) {
            return 1;
        }
    }

    return 0;
}


static llmb_rc_e
llmb_price_flag(llmb_price_reader_t *reader, const llmb_json_token_t *token,
    unsigned *flag)
{
    if (token->type != LLMB_JSON_TRUE && token->type != LLMB_JSON_FALSE) {
        return llmb_price_fail(reader, token->start, &reader->at,
                               "is neither true nor false");
    }

    *flag = (token->type == LLMB_JSON_TRUE);

    return LLMB_OK;
}


/* A number of tokens, "2000000.0" included; null is unknown, as 0. */

static llmb_rc_e
llmb_price_count(llmb_price_reader_t *reader, const llmb_json_token_t *token,
    int64_t *n)
{
    if (token->type == LLMB_JSON_NULL) {
        return LLMB_OK;
    }

    if ((token->type != LLMB_JSON_NUMBER && token->type != LLMB_JSON_STRING)
        || token->text_len != token->text.len
        || llmb_money_parse(&token->text, 0, n) != LLMB_OK
        || *n < 0 || *n > LLMB_REQUEST_INT_MAX)
    {
        return llmb_price_fail(reader, token->start, &reader->at,
                               "is not a number of tokens");
    }

    return LLMB_OK;
}


static llmb_rc_e
llmb_price_per_token(llmb_price_reader_t *reader,
    const llmb_json_token_t *token, const llmb_price_member_t *at,
    int64_t *pusd)
{
    llmb_rc_e  rc;

    rc = llmb_price_value(reader, token, at, pusd);

    if (rc == LLMB_OK && *pusd > reader->worst) {
        reader->worst = *pusd;
        reader->worst_start = token->start;
        reader->worst_member = *at;
    }

    return rc;
}


/* LLMB_DECLINED: null, which is not given. */

static llmb_rc_e
llmb_price_value(llmb_price_reader_t *reader, const llmb_json_token_t *token,
    const llmb_price_member_t *at, int64_t *pusd)
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
        rc = llmb_price_decimal(&token->text, pusd);
    }

    if (rc == LLMB_OVERFLOW) {
        return llmb_price_fail(reader, token->start, at,
                               "is out of range: give USD per token");
    }

    if (rc != LLMB_OK) {
        return llmb_price_fail(reader, token->start, at,
                               "is not a number: give USD per token,"
                               " as 2.5e-06");
    }

    if (*pusd < 0) {
        return llmb_price_fail(reader, token->start, at,
                               "is negative: give USD per token, 0 or more");
    }

    return LLMB_OK;
}


/*
 * Decimal text as pico-USD.  The map is written through doubles, so that
 * 1.500002e-05 may stand as 1.5000020000000002e-05: a text with more digits
 * than a double keeps is rounded to those first.
 */

static llmb_rc_e
llmb_price_decimal(const llmb_str_t *text, int64_t *pusd)
{
    int             up, negative;
    size_t          i;
    int64_t         digits, exponent, seen, significant, fraction;
    llmb_rc_e       rc;
    llmb_str_t      part;
    llmb_out_t      out;
    unsigned char   ch, buf[64];

    rc = llmb_money_parse(text, LLMB_MONEY_PUSD, pusd);

    if (rc == LLMB_INVALID) {
        return rc;
    }

    /* the form is known to be good */

    up = 0;
    digits = 0;
    seen = 0;
    significant = 0;
    fraction = -1;

    for (i = 0; i < text->len; i++) {
        ch = text->data[i];

        if (ch == 'e' || ch == 'E') {
            break;
        }

        if (ch == '.') {
            fraction = 0;
            continue;
        }

        if (ch < '0' || ch > '9') {
            continue;
        }

        fraction += (fraction >= 0);
        seen += (seen > 0 || ch != '0');

        if (ch != '0') {
            significant = seen;
        }

        if (seen <= LLMB_PRICE_DIGITS) {
            digits = digits * 10 + (ch - '0');

        } else if (seen == LLMB_PRICE_DIGITS + 1) {
            up = (ch >= '5');
        }
    }

    if (significant <= LLMB_PRICE_DIGITS) {
        return rc;
    }

    exponent = 0;

    if (i + 1 < text->len) {
        part.data = text->data + i + 1;
        part.len = text->len - i - 1;

        if (llmb_money_parse(&part, 0, &exponent) != LLMB_OK
            || exponent > LLMB_PRICE_EXPONENT
            || exponent < -LLMB_PRICE_EXPONENT)
        {
            return rc;
        }
    }

    exponent += seen - LLMB_PRICE_DIGITS - (fraction > 0 ? fraction : 0);
    negative = (text->data[0] == '-');

    llmb_out_init(&out, buf, sizeof(buf));
    llmb_out_int(&out, negative ? -(digits + up) : digits + up);
    llmb_out_text(&out, "e");
    llmb_out_int(&out, exponent);

    part.data = buf;
    part.len = (size_t) (out.pos - out.start);

    return llmb_money_parse(&part, LLMB_MONEY_PUSD, pusd);
}


static llmb_rc_e
llmb_price_row_get(llmb_price_reader_t *reader, llmb_tier_e tier,
    int64_t above, llmb_price_row_t **row)
{
    unsigned  i;

    for (i = 0; i < reader->n_rows; i++) {
        *row = &reader->row[i];

        if ((*row)->tier == tier && (*row)->above == above) {
            return LLMB_OK;
        }
    }

    if (reader->n_rows == LLMB_PRICE_ROWS) {
        return llmb_price_fail(reader, reader->start, NULL,
                               "has more than 32 service tiers and sizes");
    }

    *row = &reader->row[reader->n_rows++];
    (*row)->tier = tier;
    (*row)->above = above;
    llmb_price_row_clear(*row);

    return LLMB_OK;
}


static void
llmb_price_row_clear(llmb_price_row_t *row)
{
    unsigned  i;

    row->inclusive = 0;

    for (i = 0; i < LLMB_RATES; i++) {
        row->rate[i] = LLMB_PRICE_NONE;
    }
}


/* The dearest of all that was said; LLMB_PRICE_NONE is below any price. */

static void
llmb_price_row_set(llmb_price_row_t *row, llmb_rate_e rate, int64_t pusd)
{
    if (pusd > row->rate[rate]) {
        row->rate[rate] = pusd;
    }
}


static llmb_rc_e
llmb_price_entry_end(llmb_price_reader_t *reader)
{
    llmb_rc_e  rc;

    rc = llmb_price_plausible(reader);

    if (rc == LLMB_OK) {
        rc = llmb_price_metered(reader);
    }

    if (rc == LLMB_DECLINED) {
        reader->table->not_metered++;
        return LLMB_OK;
    }

    if (rc != LLMB_OK) {
        return rc;
    }

    rc = llmb_price_rows(reader);

    if (rc != LLMB_OK) {
        return rc;
    }

    return llmb_price_entry_keep(reader);
}


static llmb_rc_e
llmb_price_plausible(llmb_price_reader_t *reader)
{
    if (reader->implausible_ok) {
        return LLMB_OK;
    }

    if (reader->worst > LLMB_PRICE_ABSURD) {
        return llmb_price_fail(reader, reader->worst_start,
                               &reader->worst_member,
                               "is over 1 USD per token: give USD per token,"
                               " not per million, or \"implausible_ok\":"
                               " true");
    }

    if (reader->search > LLMB_PRICE_ABSURD) {
        return llmb_price_fail(reader, reader->search_start, NULL,
                               "a search is over 1 USD: give USD per search,"
                               " not per thousand, or \"implausible_ok\":"
                               " true");
    }

    if (reader->worst <= LLMB_PRICE_PLAUSIBLE) {
        return LLMB_OK;
    }

    if (reader->implausible++ == 0) {
        reader->first_len = reader->name_len;
        memcpy(reader->first, reader->name, reader->name_len);
    }

    return LLMB_DECLINED;
}


/* Is it priced by tokens, or free on purpose (T31)?  Unknown is not zero. */

static llmb_rc_e
llmb_price_metered(llmb_price_reader_t *reader)
{
    int64_t  *rate;

    rate = reader->row[0].rate;

    if (reader->free_set && reader->free) {

        if (llmb_price_any(reader) || reader->other_cost) {
            return llmb_price_fail(reader, reader->start, NULL,
                                   "has \"free\": true and a price: remove"
                                   " one of them");
        }

        rate[LLMB_RATE_INPUT] = 0;
        rate[LLMB_RATE_OUTPUT] = 0;

        return LLMB_OK;
    }

    if (reader->dialect == LLMB_DIALECT_EMBEDDINGS && rate[LLMB_RATE_INPUT] > 0
        && rate[LLMB_RATE_OUTPUT] == LLMB_PRICE_NONE)
    {
        rate[LLMB_RATE_OUTPUT] = 0;
    }

    if (rate[LLMB_RATE_INPUT] == LLMB_PRICE_NONE
        || rate[LLMB_RATE_OUTPUT] == LLMB_PRICE_NONE)
    {
        return LLMB_DECLINED;
    }

    if (llmb_price_any(reader)) {
        return LLMB_OK;
    }

    if (reader->other_cost) {
        return LLMB_DECLINED;
    }

    if (reader->free_set) {
        return llmb_price_fail(reader, reader->start, NULL,
                               "has \"free\": false and zero prices: give"
                               " prices, or \"free\": true");
    }

    reader->free = 1;

    return LLMB_OK;
}


/* Is there any price above zero? */

static unsigned
llmb_price_any(const llmb_price_reader_t *reader)
{
    unsigned  i, k;

    for (i = 0; i < reader->n_rows; i++) {

        for (k = 0; k < LLMB_RATES; k++) {

            if (reader->row[i].rate[k] > 0) {
                return 1;
            }
        }
    }

    return reader->search > 0;
}


/* Every tier in every size of the default tier, sorted, nothing missing. */

static llmb_rc_e
llmb_price_rows(llmb_price_reader_t *reader)
{
    int64_t            own[LLMB_RATES];
    unsigned           i, k;
    llmb_rc_e          rc;
    llmb_price_row_t  *row, *from, *added;

    for (i = 0; i < reader->n_rows; i++) {

        for (k = 0; k < reader->n_rows; k++) {

            if (reader->row[k].tier != LLMB_TIER_DEFAULT) {
                continue;
            }

            rc = llmb_price_row_get(reader, reader->row[i].tier,
                                    reader->row[k].above, &added);

            if (rc != LLMB_OK) {
                return rc;
            }
        }
    }

    llmb_price_rows_sort(reader);

    for (i = 1; i < reader->n_rows; i++) {
        row = &reader->row[i];
        memcpy(own, row->rate, sizeof(own));

        if (row[-1].tier == row->tier) {
            llmb_price_inherit(row, &row[-1], own);
        }

        if (row->tier == LLMB_TIER_DEFAULT) {
            continue;
        }

        from = &reader->row[0];

        for (k = 1; k < i; k++) {

            if (reader->row[k].tier == LLMB_TIER_DEFAULT
                && reader->row[k].above <= row->above)
            {
                from = &reader->row[k];
            }
        }

        llmb_price_inherit(row, from, own);
    }

    return LLMB_OK;
}


/* By tier and size; the default tier's base stays the first. */

static void
llmb_price_rows_sort(llmb_price_reader_t *reader)
{
    unsigned           i, k;
    llmb_price_row_t   saved, *row;

    for (i = 1; i < reader->n_rows; i++) {
        saved = reader->row[i];

        for (k = i; k > 0; k--) {
            row = &reader->row[k - 1];

            if (row->tier < saved.tier
                || (row->tier == saved.tier && row->above <= saved.above))
            {
                break;
            }

            reader->row[k] = *row;
        }

        reader->row[k] = saved;
    }
}


/* own: the rates that the row gives itself */

static void
llmb_price_inherit(llmb_price_row_t *row, const llmb_price_row_t *from,
    const int64_t own[LLMB_RATES])
{
    int64_t   pusd, input, base;
    unsigned  i;

    input = own[LLMB_RATE_INPUT];
    base = from->rate[LLMB_RATE_INPUT];

    for (i = 0; i < LLMB_RATES; i++) {
        pusd = from->rate[i];

        if (own[i] != LLMB_PRICE_NONE || pusd == LLMB_PRICE_NONE) {
            continue;
        }

        if (base > 0 && input > base) {
            pusd = llmb_price_scale(pusd, input, base);
        }

        llmb_price_row_set(row, (llmb_rate_e) i, pusd);
    }
}


/* pusd * num / den, rounded up, where num > den > 0 */

static int64_t
llmb_price_scale(int64_t pusd, int64_t num, int64_t den)
{
    int64_t  product;

    product = 0;

    /* beyond this (millions of USD) it does not matter: unscaled */

    if (llmb_money_charge(&product, pusd, num) != LLMB_OK) {
        return pusd;
    }

    return product / den + (product % den != 0);
}


static llmb_rc_e
llmb_price_entry_keep(llmb_price_reader_t *reader)
{
    size_t          len;
    llmb_price_t   *price;
    unsigned char  *p;

    if (reader->n == reader->n_entries) {
        return LLMB_NOSPACE;
    }

    len = reader->n_rows * sizeof(llmb_price_row_t);

    p = reader->alloc(reader->data,
                      len + reader->name_len + reader->provider_len);

    if (p == NULL) {
        return LLMB_NOSPACE;
    }

    price = &reader->prices[reader->n++];

    price->row = (llmb_price_row_t *) (void *) p;
    price->n_rows = reader->n_rows;
    memcpy(p, reader->row, len);

    price->name.data = p + len;
    price->name.len = reader->name_len;
    memcpy(price->name.data, reader->name, reader->name_len);

    price->provider.data = price->name.data + reader->name_len;
    price->provider.len = reader->provider_len;
    memcpy(price->provider.data, reader->provider, reader->provider_len);

    price->dialect = reader->dialect;
    price->search = reader->search;
    price->free = reader->free;

    /* the older "max_tokens" is of the output if that is given, else of both */

    price->max_input = reader->max_input;
    price->max_output = reader->max_output;

    if (price->max_input == 0 && price->max_output == 0) {
        price->max_input = reader->max_tokens;
    }

    if (price->max_output == 0) {
        price->max_output = reader->max_tokens;
    }

    return LLMB_OK;
}


/* The message: model, member, what is wrong with the cure; and the line. */

static llmb_rc_e
llmb_price_fail(llmb_price_reader_t *reader, uint64_t start,
    const llmb_price_member_t *at, const char *what)
{
    uint64_t       i;
    llmb_str_t     name;
    llmb_out_t     out;
    unsigned char  member[LLMB_PRICE_MEMBER_LEN];

    llmb_out_init(&out, (unsigned char *) reader->error->text,
                  LLMB_PRICE_ERROR_LEN - 1);

    if (reader->name_len > 0) {
        name.data = reader->name;
        name.len = llmb_price_shown(reader->name_len);

        llmb_out_text(&out, "model ");
        llmb_out_json(&out, &name);
        llmb_out_text(&out, ": ");
    }

    if (at != NULL) {
        memcpy(member, at->name, at->len);
        name.data = member;
        name.len = at->len;

        llmb_out_json(&out, &name);
        llmb_out_text(&out, " ");
    }

    llmb_out_text(&out, what);

    reader->error->line = 1;

    for (i = 0; i < start && i < reader->text->len; i++) {
        reader->error->line += (reader->text->data[i] == '\n');
    }

    return LLMB_INVALID;
}


static void
llmb_price_warn(llmb_price_reader_t *reader)
{
    llmb_str_t  name;
    llmb_out_t  out;

    name.data = reader->first;
    name.len = llmb_price_shown(reader->first_len);

    llmb_out_init(&out, (unsigned char *) reader->error->text,
                  LLMB_PRICE_ERROR_LEN - 1);

    llmb_out_int(&out, (int64_t) reader->implausible);
    llmb_out_text(&out, " entries over 0.01 USD per token left out, the first "
                        "is ");
    llmb_out_json(&out, &name);
    llmb_out_text(&out, ": correct them, or say \"implausible_ok\": true");
}


static size_t
llmb_price_shown(size_t len)
{
    return (len < LLMB_PRICE_NAME_SHOWN) ? len : LLMB_PRICE_NAME_SHOWN;
}
