
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Reads the LiteLLM price map (the one core file using jansson, at
 * configuration time only).  Numbers are read from their decimal text, never
 * through a double.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_PRICE_FILE_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_PRICE_FILE_H_INCLUDED_


#include "core/llmb_price.h"


/*
 * A price per token above 0.01 USD is of a wrong unit.  The public map has a
 * dozen such entries, so one does not spoil the file: it is left out, thus
 * unknown and refused, with a warning.  Above 1 USD it is a per-million value
 * in a per-token field (T56), and the file is refused; so is a search above 1
 * USD.  An entry may say "implausible_ok": true.
 */
#define LLMB_PRICE_PLAUSIBLE    INT64_C(10000000000)
#define LLMB_PRICE_ABSURD       INT64_C(1000000000000)

/* entries of one file, and its size in bytes */
#define LLMB_PRICE_ENTRIES      65536
#define LLMB_PRICE_FILE_MAX     (64 * 1024 * 1024)

/* rows of one entry: service tiers x sizes */
#define LLMB_PRICE_ROWS         32

#define LLMB_PRICE_ERROR_LEN    256


/* The caller's memory: zero-filled, aligned; NULL when there is no more. */
typedef void *(*llmb_price_alloc_pt)(void *data, size_t size);


typedef struct {
    int                     line;       /* 0: not known */
    char                    text[LLMB_PRICE_ERROR_LEN];     /* zero-ended; what
                                           is wrong, where, and the cure */
} llmb_price_error_t;


/*
 * Reads a whole file's text into table; aliases and version stay as they are.
 * LLMB_OK: error->text is empty or a warning (entries left out as
 * implausible).  LLMB_INVALID: error says why (bad JSON, a duplicate key, a
 * negative or non-numeric or absurd price, a bad "free" flag, no priced entry
 * at all), with the line; LLMB_NOSPACE; the table is then of no use.
 *
 * Priced is an entry that gives both input and output, zeros included
 * (embeddings: input suffices); the rest are counted in table->not_metered
 * and are not found by llmb_price_find().  All rates explicitly zero make it
 * "free" (T31), unless it has a price of another unit (per query, per image):
 * then it is not metered.  "free": true contradicts a price, "free": false
 * contradicts zeros; both are refused.
 *
 * Rows: a rate that a row does not give is the dearest of those of the next
 * smaller size in its own tier and of the default tier at its size, each
 * raised in the proportion of the input rates where the row's own is dearer:
 * never less than known, and a discount not written down is not given.  Every
 * tier gets all sizes of the default tier.  A separate price of reasoning
 * counts as that of output if it is dearer.  Prices of media other than audio
 * tokens, regional factors and unknown members are ignored.
 */
llmb_rc_e llmb_price_file_read(llmb_price_table_t *table,
    const llmb_str_t *text, llmb_price_alloc_pt alloc, void *data,
    llmb_price_error_t *error);


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_PRICE_FILE_H_INCLUDED_ */
