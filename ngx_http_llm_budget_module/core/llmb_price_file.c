
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Reads the LiteLLM price map.  jansson judges the document (form, duplicate
 * keys) and words the error; the entries are then read with our own scanner,
 * which gives prices as their decimal text.  Here is the file as a whole, and
 * what becomes of an entry that is complete.
 */


#include "core/llmb_price_file_reader.h"

#include <string.h>

#include <jansson.h>

#include "core/llmb_out.h"


/* of a model's name in a message, so that the cure has room */
#define LLMB_PRICE_NAME_SHOWN   96


static llmb_rc_e llmb_price_file_json(llmb_price_reader_t *reader);
static llmb_rc_e llmb_price_file_index(llmb_price_reader_t *reader);
static llmb_rc_e llmb_price_file_token(void *data,
    const llmb_json_token_t *token);
static llmb_rc_e llmb_price_file_entry_end(llmb_price_reader_t *reader);
static llmb_rc_e llmb_price_plausible(llmb_price_reader_t *reader);
static llmb_rc_e llmb_price_metered(llmb_price_reader_t *reader);
static unsigned llmb_price_any(const llmb_price_reader_t *reader);
static llmb_rc_e llmb_price_entry_keep(llmb_price_reader_t *reader);
static void llmb_price_warn(llmb_price_reader_t *reader);
static size_t llmb_price_shown(size_t len);
static void llmb_price_file_compare(llmb_price_t *price);


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

    llmb_json_init(&json, 0, LLMB_ANSWER_DEPTH, llmb_price_file_token, &reader);

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

    return llmb_price_file_fail(&reader, json.offset, NULL,
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
        return llmb_price_file_fail(reader, 0, NULL,
                                    "larger than 64 megabytes");
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
        return llmb_price_file_fail(reader, 0, NULL,
                                    "not an object with an entry for each"
                                    " model");
    }

    if (n > LLMB_PRICE_ENTRIES) {
        return llmb_price_file_fail(reader, 0, NULL, "more than 65536 entries");
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

        /* this is of the whole file, not of its last entry */

        reader->name_len = 0;

        return llmb_price_file_fail(reader, 0, NULL, "no entry has plausible"
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
llmb_price_file_token(void *data, const llmb_json_token_t *token)
{
    llmb_price_reader_t  *reader;

    reader = data;

    /* jansson has seen to it that the top level is an object */

    if (token->depth == 0) {
        return LLMB_OK;
    }

    if (token->depth == 1 && token->type == LLMB_JSON_KEY) {
        return llmb_price_file_entry_begin(reader, token);
    }

    if (reader->skip) {
        return LLMB_OK;
    }

    if (token->depth > 1) {
        return llmb_price_file_entry_token(reader, token);
    }

    if (token->type == LLMB_JSON_OBJECT) {
        return LLMB_OK;
    }

    if (token->type == LLMB_JSON_OBJECT_END) {
        return llmb_price_file_entry_end(reader);
    }

    return llmb_price_file_fail(reader, token->start, NULL,
                                "the entry is not an object");
}


static llmb_rc_e
llmb_price_file_entry_end(llmb_price_reader_t *reader)
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

    rc = llmb_price_file_rows(reader);

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
        return llmb_price_file_fail(reader, reader->worst_start,
                                    &reader->worst_member,
                                    "is over 1 USD per token: give USD per"
                                    " token, not per million, or"
                                    " \"implausible_ok\": true");
    }

    if (reader->search > LLMB_PRICE_ABSURD) {
        return llmb_price_file_fail(reader, reader->search_start, NULL,
                                    "a search is over 1 USD: give USD per"
                                    " search, not per thousand, or"
                                    " \"implausible_ok\": true");
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
            return llmb_price_file_fail(reader, reader->start, NULL,
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
        return llmb_price_file_fail(reader, reader->start, NULL,
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

    llmb_price_file_compare(price);

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


/*
 * Google and OpenAI charge the dearer rates strictly above a size, xAI at it
 * or above (T16).
 */

static void
llmb_price_file_compare(llmb_price_t *price)
{
    unsigned  i;

    static const llmb_str_t  xai = llmb_string("xai");

    if (price->provider.len != xai.len
        || memcmp(price->provider.data, xai.data, xai.len) != 0)
    {
        return;
    }

    for (i = 0; i < price->n_rows; i++) {
        price->row[i].inclusive = (price->row[i].above > 0);
    }
}


llmb_rc_e
llmb_price_file_fail(llmb_price_reader_t *reader, uint64_t start,
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
