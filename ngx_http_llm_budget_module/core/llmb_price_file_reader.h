
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What the parts of the price map's reader share (private to
 * llmb_price_file*.c).  Where llmb_rc_e is returned, LLMB_INVALID has set the
 * error, and ends the reading.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_PRICE_FILE_READER_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_PRICE_FILE_READER_H_INCLUDED_


#include "core/llmb_price_file.h"


#define LLMB_PRICE_MEMBER_LEN   128


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


llmb_rc_e llmb_price_file_entry_begin(llmb_price_reader_t *reader,
    const llmb_json_token_t *token);

/* Everything inside an entry. */
llmb_rc_e llmb_price_file_entry_token(llmb_price_reader_t *reader,
    const llmb_json_token_t *token);

/* What a member is. */
void llmb_price_file_member(llmb_price_member_t *at,
    const llmb_json_token_t *token);

/* Is the whole text of the token this? */
unsigned llmb_price_file_is(const llmb_json_token_t *token, const char *word);

llmb_rc_e llmb_price_file_flag(llmb_price_reader_t *reader,
    const llmb_json_token_t *token, unsigned *flag);

/* A number of tokens, "2000000.0" included; null is unknown, as 0. */
llmb_rc_e llmb_price_file_count(llmb_price_reader_t *reader,
    const llmb_json_token_t *token, int64_t *n);

/* A price; LLMB_DECLINED: null, which is not given. */
llmb_rc_e llmb_price_file_value(llmb_price_reader_t *reader,
    const llmb_json_token_t *token, const llmb_price_member_t *at,
    int64_t *pusd);

/* The same of one token; the greatest is kept in the reader. */
llmb_rc_e llmb_price_file_per_token(llmb_price_reader_t *reader,
    const llmb_json_token_t *token, const llmb_price_member_t *at,
    int64_t *pusd);

/* Decimal text as pico-USD; sets no error. */
llmb_rc_e llmb_price_file_decimal(const llmb_str_t *text, int64_t *pusd);

/* Every tier in every size of the default tier, sorted, nothing missing. */
llmb_rc_e llmb_price_file_rows(llmb_price_reader_t *reader);

/* The row of a tier and a size, which is added if there is none. */
llmb_rc_e llmb_price_file_row_get(llmb_price_reader_t *reader,
    llmb_tier_e tier, int64_t above, llmb_price_row_t **row);

/* The dearest of all that was said. */
void llmb_price_file_row_set(llmb_price_row_t *row, llmb_rate_e rate,
    int64_t pusd);

void llmb_price_file_row_clear(llmb_price_row_t *row);

/* The message: model, member if not NULL, what is wrong; and the line. */
llmb_rc_e llmb_price_file_fail(llmb_price_reader_t *reader, uint64_t start,
    const llmb_price_member_t *at, const char *what);


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_PRICE_FILE_READER_H_INCLUDED_ */
