
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The price table: which entry prices a model, what a usage cost, and the
 * worst case before the call.  Prices are pico-USD per unit (CONVENTIONS: the
 * LiteLLM price map); a table is built once and then read only.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_PRICE_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_PRICE_H_INCLUDED_


#include "core/llmb_request.h"
#include "core/llmb_usage.h"


#define LLMB_PRICE_NONE         INT64_C(-1)     /* not priced */

/* searches set aside for a hosted search tool without max_uses (T18) */
#define LLMB_PRICE_SEARCH_USES  10

/* pico-USD a search costs where the price names none and is not free: the
   usual list price, 10 USD per 1000 */
#define LLMB_PRICE_SEARCH_DEFAULT   INT64_C(10000000000)

/* with one byte a token the estimate is a true bound: what the chat template
   adds to every message, and to the whole */
#define LLMB_PRICE_MESSAGE_TOKENS   16
#define LLMB_PRICE_TEMPLATE_TOKENS  64


typedef enum {
    LLMB_TIER_DEFAULT = 0,      /* default, standard, auto, on demand */
    LLMB_TIER_FLEX,
    LLMB_TIER_PRIORITY,         /* priority, fast */
    LLMB_TIER_BATCH,
    LLMB_TIERS
} llmb_tier_e;


/* pico-USD per token (per call for searches); LLMB_PRICE_NONE: not given */

typedef enum {
    LLMB_RATE_INPUT = 0,
    LLMB_RATE_CACHED_READ,      /* not given: the input rate (T13) */
    LLMB_RATE_CACHE_WRITE_5M,   /* not given: the input rate */
    LLMB_RATE_CACHE_WRITE_1H,   /* not given: the greater of 5m and input x 2
                                   if 5m is given, else the input rate */
    LLMB_RATE_OUTPUT,
    LLMB_RATE_AUDIO_INPUT,      /* not given: the input rate */
    LLMB_RATE_AUDIO_OUTPUT,     /* not given: the output rate */
    LLMB_RATES
} llmb_rate_e;


/*
 * One row of rates: for a service tier and prompts above a size.  A request
 * whose whole input (cache included) is above "above" tokens moves as a
 * whole to the row with the greatest such "above" (T16); above == 0 is base.
 */

typedef struct {
    llmb_tier_e             tier;
    int64_t                 above;
    unsigned                inclusive;  /* at or above, instead of above */
    int64_t                 rate[LLMB_RATES];
} llmb_price_row_t;


typedef struct {
    llmb_str_t              name;       /* key in the price map */
    llmb_str_t              provider;   /* litellm_provider */
    llmb_dialect_e          dialect;    /* by mode, for information */
    int64_t                 max_input;  /* tokens; 0: unknown */
    int64_t                 max_output; /* tokens; 0: unknown */
    int64_t                 search;     /* pico-USD per web search: the
                                           dearest context size; NONE: at
                                           LLMB_PRICE_SEARCH_DEFAULT, or 0
                                           if free */
    unsigned                free;       /* "free": true, or an explicit zero
                                           for input and output (T31) */
    unsigned                n_rows;     /* row[0] is default tier, base */
    llmb_price_row_t       *row;
} llmb_price_t;


typedef struct {
    const llmb_price_t     *prices;     /* n entries */
    unsigned                n;
    uint32_t               *slots;      /* open addressing, 0: empty, i + 1 */
    uint32_t                mask;       /* slots - 1 */
    unsigned                n_aliases;
    const llmb_str_t       *aliases;    /* pairs: from, to */
    unsigned                not_metered;    /* entries left out: no token
                                               prices */
    unsigned char           version[64];    /* SHA-256 of the file, hex; set
                                               by the caller */
} llmb_price_table_t;


/*
 * Enters the prices into the slots, which the caller has allocated: zeros, a
 * power of two, more than there are prices; mask is set.
 */
void llmb_price_index(llmb_price_table_t *table);

/*
 * Finds what prices a model (T19): the exact name; the name behind one
 * provider prefix ("openai/gpt-4o"), given or added ("provider/name", when
 * provider is not NULL); either with a trailing date cut ("-2026-07-09",
 * "-20260709", "@20260709", "-latest"); or an alias of any of these.  Never a
 * fuzzy prefix.  NULL: unknown, which is never free (T06).
 */
const llmb_price_t *llmb_price_find(const llmb_price_table_t *table,
    const llmb_str_t *model, const llmb_str_t *provider);

/* "flex", "priority", "fast", "batch", ...: an unknown one is LLMB_DECLINED */
llmb_rc_e llmb_price_tier(const llmb_str_t *text, llmb_tier_e *tier);


/* why a cost is not the plain product; flags of a usage line */

#define LLMB_COST_TIER_UNPRICED     0x01    /* tier without prices: the dearest
                                               known tier was taken (T17) */
#define LLMB_COST_SEARCH_UNPRICED   0x02    /* searches without a price: at
                                               LLMB_PRICE_SEARCH_DEFAULT */
#define LLMB_COST_EXTRA_UNPRICED    0x04    /* an extra's model is unknown: at
                                               the main model's rates */


/* nano-USD; output and tools are rounded down, input takes the rest, so that
   input + output + tools == total */

typedef struct {
    int64_t                 total;      /* rounded once, upward */
    int64_t                 input;
    int64_t                 output;
    int64_t                 tools;      /* searches */
    unsigned                flags;
} llmb_cost_t;


/*
 * The cost of a usage in the normal form at price; extras at their own
 * models through table (may be NULL).  tier: as served (or as asked, if the
 * answer said none); NULL or empty: default.  LLMB_OK, or LLMB_OVERFLOW
 * (charge the hold; cost has the flags only).
 */
llmb_rc_e llmb_price_cost(const llmb_price_table_t *table,
    const llmb_price_t *price, const llmb_str_t *tier,
    const llmb_usage_t *usage, llmb_cost_t *cost);


/* the worst case before the call */

typedef struct {
    int64_t                 bytes_per_token;    /* >= 1; of text (T20) */
    int64_t                 image_tokens;       /* constants per part */
    int64_t                 audio_tokens;
    int64_t                 file_tokens;
    int64_t                 default_output;     /* when neither the request
                                                   nor the price has a bound */
    unsigned                assume_default;     /* take default_output even if
                                                   the price has a bound */
} llmb_estimate_conf_t;


typedef struct {
    int64_t                 input;      /* tokens */
    int64_t                 output;     /* tokens, all answers */
    int64_t                 ceiling;    /* tokens, one answer; what bounds it */
    int64_t                 answers;
    unsigned                bounded;    /* the ceiling is one the provider
                                           will keep: given by the request or
                                           the model's own maximum */
    int64_t                 nusd;       /* the whole at the dearest rate */
} llmb_estimate_t;


/*
 * Estimates a request at price, with the output ceiling given (tokens of one
 * answer; -1: as the request says, or the model's own maximum, or the
 * default).  Rates are the dearest the request could reach: the dearer of
 * the default and the asked tier, the row that the estimated input (or, with
 * remote input, any input) could reach, the dearest of the input-side rates
 * when the body asks for cache writes (T20) or, outside of LLMB_DIALECT_
 * MESSAGES, the price has a rate for them: such providers write unasked.
 * Declared search tools count by max_uses, else LLMB_PRICE_SEARCH_USES each, at
 * the price of a search or the default of it.  With bytes_per_token 1, remote
 * input counts as max_input tokens.  A ceiling given is lowered to max_output.
 * A free price whose every rate is zero gives 0.
 * LLMB_OK or LLMB_OVERFLOW (refuse).
 */
llmb_rc_e llmb_price_estimate(const llmb_estimate_conf_t *conf,
    const llmb_price_t *price, const llmb_request_t *req, int64_t ceiling,
    llmb_estimate_t *estimate);

/*
 * The greatest ceiling (tokens of one answer, >= 0) whose estimate costs at
 * most left nano-USD, and whose output is at most left_output tokens and
 * whose input + output is at most left_tokens; each INT64_MAX: no bound.
 * Never above the request's own ceiling, the model's maximum, or
 * LLMB_REQUEST_INT_MAX.  LLMB_DECLINED: not even a ceiling of zero fits.
 */
llmb_rc_e llmb_price_fit(const llmb_estimate_conf_t *conf,
    const llmb_price_t *price, const llmb_request_t *req, int64_t left_nusd,
    int64_t left_output, int64_t left_tokens, int64_t *ceiling);

/*
 * A usage guessed from what passed (T03, T47): input from the request's text
 * at 4 bytes a token plus media constants, output from content_bytes and
 * content_deltas, in the normal form; never above the estimate's tokens.
 */
void llmb_price_guess(const llmb_estimate_conf_t *conf,
    const llmb_request_t *req, const llmb_estimate_t *estimate,
    uint64_t content_bytes, uint64_t content_deltas, llmb_usage_t *usage);


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_PRICE_H_INCLUDED_ */
