
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The verdict: what to do with a request whose hold the ledger did not open.
 * Pure decisions over the legs of the attempt (limits and balances as the
 * ledger saw them) and the ladder of the location.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_POLICY_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_POLICY_H_INCLUDED_


#include "core/llmb_ledger.h"
#include "core/llmb_period.h"


typedef enum {
    LLMB_VERDICT_NONE = 0,
    LLMB_VERDICT_ALLOW,
    LLMB_VERDICT_WARN,          /* allowed with a smaller output ceiling */
    LLMB_VERDICT_DEGRADE,       /* allowed on a lower rung of the ladder */
    LLMB_VERDICT_DENY
} llmb_verdict_e;


/* why money or a rate refused; DESIGN section 8 has the codes */

typedef enum {
    LLMB_DENY_NONE = 0,
    LLMB_DENY_BUDGET,           /* spent: nothing left until the next period */
    LLMB_DENY_CONTENTION,       /* only holds stand in the way: wait */
    LLMB_DENY_TOO_LARGE,        /* would not fit an unused budget either */
    LLMB_DENY_RATE,             /* requests of the period are used up */
    LLMB_DENY_TOKENS,           /* tokens of the period are used up */
    LLMB_DENY_CONCURRENCY       /* too many at once */
} llmb_deny_e;


/* what is left for one request, in each unit; INT64_MAX: not limited */

typedef struct {
    int64_t                 nusd;
    int64_t                 tokens;
    int64_t                 input_tokens;
    int64_t                 output_tokens;
} llmb_left_t;


/*
 * The leg that decides a refusal: of the legs without room, the one whose
 * obstacle lasts longest.  Returns why, and its index in *leg; NONE if every
 * leg has room.
 */
llmb_deny_e llmb_policy_deny(const llmb_ledger_leg_t *legs, unsigned n,
    unsigned *leg);

/*
 * What is left over all legs.  LLMB_DECLINED when a leg refuses that no
 * smaller output could satisfy (requests, concurrency, or nothing left).
 */
llmb_rc_e llmb_policy_left(const llmb_ledger_leg_t *legs, unsigned n,
    llmb_left_t *left);

/*
 * Whether a leg is past a threshold: spent + held >= limit * percent / 100,
 * exact.  A limit of 0 is past every threshold.
 */
int llmb_policy_reached(const llmb_ledger_leg_t *leg, unsigned percent);

/* The balance from which llmb_policy_reached() is true. */
int64_t llmb_policy_threshold(int64_t limit, unsigned percent);

const char *llmb_verdict_name(llmb_verdict_e verdict);

/* the stable code of an answer: "budget_exceeded", ... */
const char *llmb_deny_code(llmb_deny_e deny);


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_POLICY_H_INCLUDED_ */
