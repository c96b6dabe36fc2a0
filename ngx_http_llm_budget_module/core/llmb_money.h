
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Checked integer money.  An amount is int64_t nano-USD (1e-9), a price is
 * int64_t pico-USD (1e-12) per unit.  A cost is the sum of exact products,
 * rounded once, upward.  No floating point anywhere.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_MONEY_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_MONEY_H_INCLUDED_


#include "core/llmb.h"


/* decimal places of the two scales */
#define LLMB_MONEY_NUSD         9
#define LLMB_MONEY_PUSD         12

/* enough for any formatted amount, sign and point included */
#define LLMB_MONEY_LEN          24

/*
 * The greatest limit of one account: 9,000,000 USD in nano-USD, so that a
 * store computing in doubles stays exact (2^53, T53).
 */
#define LLMB_MONEY_LIMIT_NUSD   INT64_C(9000000000000000)


/*
 * Reads decimal text ("5", "0.25", "1.5e-07", "+3") as an integer count of
 * 10^-places.  Digits below the scale round the result away from zero, so
 * a price is never read as less than it is.  LLMB_INVALID: not a decimal
 * number (also: empty, space, "inf", "nan", hex, a lone sign or point);
 * LLMB_OVERFLOW: does not fit int64_t.  *out is written on LLMB_OK only.
 * Negative numbers are read; whoever wants none tests for it.
 */
llmb_rc_e llmb_money_parse(const llmb_str_t *text, unsigned places,
    int64_t *out);

/* LLMB_OVERFLOW leaves *sum unchanged; a, b may have any sign. */
llmb_rc_e llmb_money_add(int64_t a, int64_t b, int64_t *sum);

/*
 * *sum_pusd += count * price_pusd.  LLMB_INVALID when count or price_pusd is
 * negative, LLMB_OVERFLOW when it does not fit; *sum_pusd is then unchanged.
 */
llmb_rc_e llmb_money_charge(int64_t *sum_pusd, int64_t count,
    int64_t price_pusd);

/* The one rounding: pico-USD (>= 0) to nano-USD, upward. */
int64_t llmb_money_round(int64_t sum_pusd);

/*
 * Writes an amount of nano-USD as decimal USD with nine places, as
 * "0.002700000"; returns the length.  buf holds LLMB_MONEY_LEN bytes; no
 * terminating zero.  Every int64_t has a text, INT64_MIN included.
 */
size_t llmb_money_format(unsigned char *buf, int64_t nusd);


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_MONEY_H_INCLUDED_ */
