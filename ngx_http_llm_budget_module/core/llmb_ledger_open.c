
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Opening a hold: first find out whether it can be done as a whole, and only
 * then write.
 */


#include "core/llmb_ledger_table.h"
#include "core/llmb_money.h"


/* the legs of an open by account: those with the same key are one */

typedef struct {
    unsigned                n;
    unsigned                missing;    /* accounts to make */
    unsigned                nvictims;
    unsigned char           of[LLMB_LEDGER_LEGS];       /* by leg */
    unsigned char           leg[LLMB_LEDGER_LEGS];      /* the first of each */
    int64_t                 amount[LLMB_LEDGER_LEGS];
    int64_t                 limit[LLMB_LEDGER_LEGS];    /* the lowest */
    uint32_t                account[LLMB_LEDGER_LEGS];  /* 0: is to be made */
    uint32_t                victim[LLMB_LEDGER_LEGS];   /* to be freed first */
} llmb_ledger_plan_t;


static llmb_ledger_rc_e llmb_ledger_plan(llmb_ledger_plan_t *plan,
    const llmb_ledger_open_t *op);
static llmb_ledger_rc_e llmb_ledger_plan_leg(llmb_ledger_plan_t *plan,
    const llmb_ledger_open_t *op, unsigned i);
static llmb_ledger_rc_e llmb_ledger_admit(llmb_ledger_table_t *t,
    llmb_ledger_plan_t *plan, llmb_ledger_open_t *op, int64_t now_ms);
static llmb_ledger_rc_e llmb_ledger_replay(const llmb_ledger_table_t *t,
    llmb_ledger_open_t *op);
static llmb_ledger_rc_e llmb_ledger_look(const llmb_ledger_table_t *t,
    llmb_ledger_plan_t *plan, llmb_ledger_open_t *op);
static llmb_ledger_rc_e llmb_ledger_decide(const llmb_ledger_plan_t *plan,
    llmb_ledger_open_t *op);
static int llmb_ledger_fits(const llmb_ledger_leg_t *leg, int64_t amount);
static llmb_ledger_rc_e llmb_ledger_room(llmb_ledger_table_t *t,
    llmb_ledger_plan_t *plan, int64_t now_ms);
static void llmb_ledger_victims(llmb_ledger_table_t *t,
    llmb_ledger_plan_t *plan, llmb_ledger_heap_e heap, unsigned want,
    int64_t now_ms);
static int llmb_ledger_planned(const llmb_ledger_plan_t *plan, uint32_t i);
static void llmb_ledger_commit(llmb_ledger_table_t *t,
    llmb_ledger_plan_t *plan, const llmb_ledger_open_t *op,
    int64_t deadline_ms);


llmb_ledger_rc_e
llmb_ledger_open(llmb_ledger_t *ledger, llmb_ledger_open_t *op,
    int64_t now_ms, int64_t deadline_ms)
{
    llmb_ledger_rc_e     rc;
    llmb_ledger_plan_t   plan;
    llmb_ledger_table_t  t;

    op->denied = 0;
    op->replayed = 0;

    rc = llmb_ledger_plan(&plan, op);

    if (rc != LLMB_LEDGER_OK) {
        return rc;
    }

    llmb_ledger_begin(&t, ledger);

    (void) llmb_ledger_sweep(&t, now_ms, LLMB_LEDGER_SWEEP);

    rc = llmb_ledger_admit(&t, &plan, op, now_ms);

    if (rc == LLMB_LEDGER_OK && !op->replayed) {
        llmb_ledger_commit(&t, &plan, op, deadline_ms);
    }

    llmb_ledger_end(&t);

    return rc;
}


static llmb_ledger_rc_e
llmb_ledger_plan(llmb_ledger_plan_t *plan, const llmb_ledger_open_t *op)
{
    unsigned          i;
    llmb_ledger_rc_e  rc;

    plan->n = 0;
    plan->missing = 0;
    plan->nvictims = 0;

    if (op->n > LLMB_LEDGER_LEGS) {
        return LLMB_LEDGER_BAD;
    }

    for (i = 0; i < op->n; i++) {
        rc = llmb_ledger_plan_leg(plan, op, i);

        if (rc != LLMB_LEDGER_OK) {
            return rc;
        }
    }

    return LLMB_LEDGER_OK;
}


static llmb_ledger_rc_e
llmb_ledger_plan_leg(llmb_ledger_plan_t *plan, const llmb_ledger_open_t *op,
    unsigned i)
{
    unsigned                  k;
    const llmb_ledger_leg_t  *leg, *first;

    leg = &op->leg[i];

    if ((unsigned) leg->unit >= LLMB_UNITS || leg->amount < 0
        || leg->limit < 0)
    {
        return LLMB_LEDGER_BAD;
    }

    for (k = 0; k < plan->n; k++) {
        first = &op->leg[plan->leg[k]];

        if (first->key[0] == leg->key[0] && first->key[1] == leg->key[1]) {
            break;
        }
    }

    plan->of[i] = (unsigned char) k;

    if (k == plan->n) {
        plan->n++;
        plan->leg[k] = (unsigned char) i;
        plan->amount[k] = leg->amount;
        plan->limit[k] = leg->limit;

        return LLMB_LEDGER_OK;
    }

    if (op->leg[plan->leg[k]].unit != leg->unit
        || llmb_money_add(plan->amount[k], leg->amount, &plan->amount[k])
           != LLMB_OK)
    {
        return LLMB_LEDGER_BAD;
    }

    if (plan->limit[k] > leg->limit) {
        plan->limit[k] = leg->limit;
    }

    return LLMB_LEDGER_OK;
}


/* Whether to open; nothing is written but the counters of refusals. */

static llmb_ledger_rc_e
llmb_ledger_admit(llmb_ledger_table_t *t, llmb_ledger_plan_t *plan,
    llmb_ledger_open_t *op, int64_t now_ms)
{
    llmb_ledger_rc_e  rc;

    rc = llmb_ledger_look(t, plan, op);

    if (rc != LLMB_LEDGER_OK) {
        return rc;
    }

    rc = llmb_ledger_replay(t, op);

    if (op->replayed) {
        return rc;
    }

    rc = llmb_ledger_decide(plan, op);

    if (rc != LLMB_LEDGER_OK) {
        t->head->denied += (rc == LLMB_LEDGER_DENIED);
        return rc;
    }

    rc = llmb_ledger_room(t, plan, now_ms);

    t->head->full += (rc == LLMB_LEDGER_FULL);

    return rc;
}


static llmb_ledger_rc_e
llmb_ledger_look(const llmb_ledger_table_t *t, llmb_ledger_plan_t *plan,
    llmb_ledger_open_t *op)
{
    uint32_t                   account;
    unsigned                   i;
    llmb_ledger_leg_t         *leg;
    const llmb_ledger_arec_t  *a;

    for (i = 0; i < plan->n; i++) {
        leg = &op->leg[plan->leg[i]];
        account = llmb_ledger_account_find(t, leg->key);

        if (account != 0
            && t->accounts[account].unit != (unsigned) leg->unit)
        {
            return LLMB_LEDGER_BAD;
        }

        plan->account[i] = account;
        plan->missing += (account == 0);
    }

    for (i = 0; i < op->n; i++) {
        leg = &op->leg[i];
        account = plan->account[plan->of[i]];

        leg->spent = 0;
        leg->held = 0;

        if (account != 0) {
            a = &t->accounts[account];
            leg->spent = a->spent;
            leg->held = a->held;
        }
    }

    return LLMB_LEDGER_OK;
}


static llmb_ledger_rc_e
llmb_ledger_replay(const llmb_ledger_table_t *t, llmb_ledger_open_t *op)
{
    uint32_t  i;

    i = llmb_ledger_hold_find(t, op->id);

    if (i == 0) {
        return LLMB_LEDGER_UNKNOWN;
    }

    op->replayed = 1;

    return (t->holds[i].state == LLMB_HOLD_PENDING) ? LLMB_LEDGER_OK
                                                    : LLMB_LEDGER_CLOSED;
}


/* No room anywhere comes before a threshold anywhere. */

static llmb_ledger_rc_e
llmb_ledger_decide(const llmb_ledger_plan_t *plan, llmb_ledger_open_t *op)
{
    int64_t                   used;
    unsigned                  i;
    const llmb_ledger_leg_t  *leg;

    for (i = 0; i < op->n; i++) {

        if (!llmb_ledger_fits(&op->leg[i], plan->amount[plan->of[i]])) {
            op->denied = i;
            return LLMB_LEDGER_DENIED;
        }
    }

    for (i = 0; i < op->n; i++) {
        leg = &op->leg[i];

        if (leg->degrade_at == INT64_MAX) {
            continue;
        }

        if (llmb_money_add(leg->spent, leg->held, &used) != LLMB_OK
            || used >= leg->degrade_at)
        {
            op->denied = i;
            return LLMB_LEDGER_DEGRADE;
        }
    }

    return LLMB_LEDGER_OK;
}


/* What does not fit int64_t is above every limit. */

static int
llmb_ledger_fits(const llmb_ledger_leg_t *leg, int64_t amount)
{
    int64_t  used;

    if (llmb_money_add(leg->spent, leg->held, &used) != LLMB_OK) {
        return amount == 0 && !leg->postpaid;
    }

    if (leg->postpaid && used >= leg->limit) {
        return 0;
    }

    if (amount == 0) {
        return 1;
    }

    return llmb_money_add(used, amount, &used) == LLMB_OK
           && used <= leg->limit;
}


/*
 * Closed holds make room for a new one.  Accounts without pending holds make
 * room when they have nothing spent, which is as good as absent, or else when
 * their period has ended.
 */

static llmb_ledger_rc_e
llmb_ledger_room(llmb_ledger_table_t *t, llmb_ledger_plan_t *plan,
    int64_t now_ms)
{
    uint32_t  room;
    unsigned  want;

    if (llmb_ledger_pool_room(&t->head->legs) < plan->n
        || (llmb_ledger_pool_room(&t->head->holds) == 0
            && t->head->closed == 0))
    {
        return LLMB_LEDGER_FULL;
    }

    room = llmb_ledger_pool_room(&t->head->accounts);

    if (room >= plan->missing) {
        return LLMB_LEDGER_OK;
    }

    want = plan->missing - (unsigned) room;

    llmb_ledger_victims(t, plan, LLMB_LEDGER_EMPTY, want, now_ms);
    llmb_ledger_victims(t, plan, LLMB_LEDGER_IDLE, want, now_ms);

    return (plan->nvictims == want) ? LLMB_LEDGER_OK : LLMB_LEDGER_FULL;
}


/*
 * What is taken off the heap is put back: there may not be enough.  No more
 * than the accounts of the plan and their victims are taken, and these are
 * LLMB_LEDGER_LEGS at most.
 */

static void
llmb_ledger_victims(llmb_ledger_table_t *t, llmb_ledger_plan_t *plan,
    llmb_ledger_heap_e heap, unsigned want, int64_t now_ms)
{
    int64_t   end_ms;
    uint32_t  i, taken[LLMB_LEDGER_LEGS];
    unsigned  n;

    n = 0;

    while (plan->nvictims < want && n < LLMB_LEDGER_LEGS) {
        i = llmb_ledger_heap_top(t, heap);

        if (i == 0) {
            break;
        }

        end_ms = t->accounts[i].end_ms;

        if (heap == LLMB_LEDGER_IDLE
            && (end_ms == INT64_MAX || end_ms > now_ms))
        {
            break;
        }

        llmb_ledger_heap_remove(t, heap, i);
        taken[n++] = i;

        if (!llmb_ledger_planned(plan, i)) {
            plan->victim[plan->nvictims++] = i;
        }
    }

    while (n != 0) {
        llmb_ledger_heap_add(t, heap, taken[--n]);
    }
}


static int
llmb_ledger_planned(const llmb_ledger_plan_t *plan, uint32_t i)
{
    unsigned  k;

    for (k = 0; k < plan->n; k++) {

        if (plan->account[k] == i) {
            return 1;
        }
    }

    for (k = 0; k < plan->nvictims; k++) {

        if (plan->victim[k] == i) {
            return 1;
        }
    }

    return 0;
}


static void
llmb_ledger_commit(llmb_ledger_table_t *t, llmb_ledger_plan_t *plan,
    const llmb_ledger_open_t *op, int64_t deadline_ms)
{
    uint32_t             hold, i;
    unsigned             k;
    llmb_ledger_arec_t  *a;

    for (k = 0; k < plan->nvictims; k++) {
        llmb_ledger_account_free(t, plan->victim[k]);
    }

    if (llmb_ledger_pool_room(&t->head->holds) == 0) {
        llmb_ledger_hold_forget(t);
    }

    hold = llmb_ledger_hold_new(t, op->id, deadline_ms);

    /* backward, since each leg is put in front */

    for (k = plan->n; k-- != 0; /* void */) {
        i = plan->account[k];

        if (i == 0) {
            i = llmb_ledger_account_new(t, &op->leg[plan->leg[k]]);

        } else {
            llmb_ledger_account_wake(t, i);
        }

        a = &t->accounts[i];
        a->limit = plan->limit[k];

        /* no overflow: it fits below the limit, or is 0 */

        a->held += plan->amount[k];
        a->pending++;

        llmb_ledger_leg_new(t, hold, i, plan->amount[k]);
    }

    t->head->opened++;
}
