
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The price map: the rows of an entry, and those that it does not spell out.
 */


#include "core/llmb_price_file_reader.h"

#include <string.h>

#include "core/llmb_money.h"


static void llmb_price_rows_sort(llmb_price_reader_t *reader);
static void llmb_price_inherit(llmb_price_row_t *row,
    const llmb_price_row_t *from, const int64_t own[LLMB_RATES]);
static int64_t llmb_price_scale(int64_t pusd, int64_t num, int64_t den);


llmb_rc_e
llmb_price_file_rows(llmb_price_reader_t *reader)
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

            rc = llmb_price_file_row_get(reader, reader->row[i].tier,
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

        llmb_price_file_row_set(row, (llmb_rate_e) i, pusd);
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


llmb_rc_e
llmb_price_file_row_get(llmb_price_reader_t *reader, llmb_tier_e tier,
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
        return llmb_price_file_fail(reader, reader->start, NULL,
                                    "has more than 32 service tiers and sizes");
    }

    *row = &reader->row[reader->n_rows++];
    (*row)->tier = tier;
    (*row)->above = above;
    llmb_price_file_row_clear(*row);

    return LLMB_OK;
}


void
llmb_price_file_row_clear(llmb_price_row_t *row)
{
    unsigned  i;

    row->inclusive = 0;

    for (i = 0; i < LLMB_RATES; i++) {
        row->rate[i] = LLMB_PRICE_NONE;
    }
}


/* The dearest of all that was said; LLMB_PRICE_NONE is below any price. */

void
llmb_price_file_row_set(llmb_price_row_t *row, llmb_rate_e rate, int64_t pusd)
{
    if (pusd > row->rate[rate]) {
        row->rate[rate] = pusd;
    }
}
