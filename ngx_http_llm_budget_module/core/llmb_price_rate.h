
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What costs and estimates share (private to llmb_price_*.c): the rates of a
 * price.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_PRICE_RATE_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_PRICE_RATE_H_INCLUDED_


#include "core/llmb_price.h"


#define LLMB_PRICE_PUSD_NUSD    1000


/* The row with the greatest size reached; NULL: the tier has none. */
const llmb_price_row_t *llmb_price_row(const llmb_price_t *price,
    llmb_tier_e tier, int64_t input);

/* Is the input in this row's size, or above it? */
unsigned llmb_price_reached(const llmb_price_row_t *row, int64_t input);

/*
 * Raises rate[] to the row's; what the row lacks follows llmb_rate_e.  A row
 * without input or output makes LLMB_PRICE_NONE of it, which no charge takes.
 */
void llmb_price_raise(const llmb_price_row_t *row, int64_t rate[LLMB_RATES]);

/* What a search costs, pico-USD: without a price, the default. */
int64_t llmb_price_search_rate(const llmb_price_t *price);

int64_t llmb_price_min(int64_t a, int64_t b);
int64_t llmb_price_max(int64_t a, int64_t b);


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_PRICE_RATE_H_INCLUDED_ */
