
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The price map: the tokens inside an entry.
 */


#include "core/llmb_price_file_reader.h"

#include <string.h>


typedef struct {
    const char             *mode;
    llmb_dialect_e          dialect;
} llmb_mode_name_t;


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
llmb_price_file_entry_begin(llmb_price_reader_t *reader,
    const llmb_json_token_t *token)
{
    size_t  i;

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
    llmb_price_file_row_clear(&reader->row[0]);

    for (i = 0; i < sizeof(llmb_price_skipped) / sizeof(char *); i++) {

        if (llmb_price_file_is(token, llmb_price_skipped[i])) {
            reader->skip = 1;
            return LLMB_OK;
        }
    }

    if (token->text_len == 0 || token->text_len > LLMB_MODEL_LEN) {
        return llmb_price_file_fail(reader, token->start, NULL,
                                    "the name of a model has 1 to 256 bytes");
    }

    reader->name_len = token->text.len;
    memcpy(reader->name, token->text.data, token->text.len);

    return LLMB_OK;
}


llmb_rc_e
llmb_price_file_entry_token(llmb_price_reader_t *reader,
    const llmb_json_token_t *token)
{
    int64_t        pusd;
    llmb_member_e  member;

    if (token->depth == 2 && token->type == LLMB_JSON_KEY) {
        llmb_price_file_member(&reader->at, token);
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
            && llmb_price_file_decimal(&token->text, &pusd) == LLMB_OK
            && pusd > 0)
        {
            reader->other_cost = 1;
        }

        return LLMB_OK;
    }

    if (member == LLMB_MEMBER_FREE) {
        reader->free_set = 1;
        return llmb_price_file_flag(reader, token, &reader->free);
    }

    if (member == LLMB_MEMBER_IMPLAUSIBLE_OK) {
        return llmb_price_file_flag(reader, token, &reader->implausible_ok);
    }

    if (member == LLMB_MEMBER_MAX_INPUT) {
        return llmb_price_file_count(reader, token, &reader->max_input);
    }

    if (member == LLMB_MEMBER_MAX_OUTPUT) {
        return llmb_price_file_count(reader, token, &reader->max_output);
    }

    if (member == LLMB_MEMBER_MAX_TOKENS) {
        return llmb_price_file_count(reader, token, &reader->max_tokens);
    }

    return llmb_price_entry_text(reader, token);
}


static llmb_rc_e
llmb_price_entry_text(llmb_price_reader_t *reader,
    const llmb_json_token_t *token)
{
    size_t  i;

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
        if (llmb_price_file_is(token, llmb_price_modes[i].mode)) {
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

    rc = llmb_price_file_per_token(reader, token, &reader->at, &pusd);

    if (rc != LLMB_OK) {
        return (rc == LLMB_DECLINED) ? LLMB_OK : rc;
    }

    rc = llmb_price_file_row_get(reader, reader->at.tier, reader->at.above,
                                 &row);

    if (rc != LLMB_OK) {
        return rc;
    }

    llmb_price_file_row_set(row, reader->at.rate, pusd);

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

    rc = llmb_price_file_value(reader, token, &reader->at, &pusd);

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

        return llmb_price_file_fail(reader, token->start, &reader->at,
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
        llmb_price_file_row_clear(&reader->item);

        return LLMB_OK;
    }

    if (token->type == LLMB_JSON_OBJECT_END) {
        return llmb_price_tiered_end(reader, token);
    }

    return llmb_price_file_fail(reader, token->start, &reader->at,
                                "has an element that is not an object");
}


static llmb_rc_e
llmb_price_tiered_member(llmb_price_reader_t *reader,
    const llmb_json_token_t *token)
{
    int64_t    pusd;
    llmb_rc_e  rc;

    if (token->depth == 4 && token->type == LLMB_JSON_KEY) {
        llmb_price_file_member(&reader->tiered, token);

        reader->in_range = llmb_price_file_is(token, "range");

        return LLMB_OK;
    }

    if (reader->in_range && token->depth == 5) {

        if (reader->n_range == 0
            && (token->type != LLMB_JSON_NUMBER
                || llmb_json_int(token, &reader->item.above) != LLMB_OK
                || reader->item.above < 0))
        {
            return llmb_price_file_fail(reader, token->start, &reader->tiered,
                                        "does not begin with a number of"
                                        " tokens");
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

    rc = llmb_price_file_per_token(reader, token, &reader->tiered, &pusd);

    if (rc != LLMB_OK) {
        return (rc == LLMB_DECLINED) ? LLMB_OK : rc;
    }

    llmb_price_file_row_set(&reader->item, reader->tiered.rate, pusd);
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
        return llmb_price_file_fail(reader, token->start, &reader->at,
                                    "has an element without \"range\": give"
                                    " [lowest, highest] tokens");
    }

    /* "from 1" is from the start */

    above = (reader->item.above > 1) ? reader->item.above : 0;

    rc = llmb_price_file_row_get(reader, LLMB_TIER_DEFAULT, above, &row);

    if (rc != LLMB_OK) {
        return rc;
    }

    for (i = 0; i < LLMB_RATES; i++) {
        llmb_price_file_row_set(row, (llmb_rate_e) i, reader->item.rate[i]);
    }

    return LLMB_OK;
}
