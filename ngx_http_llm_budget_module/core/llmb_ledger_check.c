
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The check of a ledger.  It writes nothing and takes nothing for granted
 * but the size: every index is tested before use and every walk is bounded,
 * so it may be given a region that a dead writer or a bad disk left.
 */


#include "core/llmb_ledger_table.h"


/*
 * What must be equal for every account, and for every leg, is compared as one
 * sum, each item times the mix of its number: there is no room to count in.
 */

typedef struct {
    uint64_t                held;       /* amounts by account */
    uint64_t                pending;    /* holds by account */
    uint64_t                legs;       /* legs, in use or free */
} llmb_ledger_sums_t;


static int llmb_ledger_check_head(const llmb_ledger_table_t *t);
static int llmb_ledger_check_accounts(const llmb_ledger_table_t *t,
    llmb_ledger_sums_t *sums);
static int llmb_ledger_check_account(const llmb_ledger_table_t *t,
    uint32_t i);
static int llmb_ledger_check_account_chains(const llmb_ledger_table_t *t);
static int llmb_ledger_check_holds(const llmb_ledger_table_t *t,
    llmb_ledger_sums_t *sums);
static int llmb_ledger_check_hold(const llmb_ledger_table_t *t, uint32_t i,
    llmb_ledger_sums_t *sums);
static int llmb_ledger_check_hold_chains(const llmb_ledger_table_t *t);
static int llmb_ledger_check_closed(const llmb_ledger_table_t *t);
static int llmb_ledger_check_legs(const llmb_ledger_table_t *t,
    llmb_ledger_sums_t *sums);
static int llmb_ledger_check_heap(const llmb_ledger_table_t *t,
    llmb_ledger_heap_e heap, uint32_t top);
static int llmb_ledger_check_place(const llmb_ledger_table_t *t,
    llmb_ledger_heap_e heap, uint32_t i, int in);
static uint64_t llmb_ledger_mix(uint64_t n);


int
llmb_ledger_check(const llmb_ledger_t *ledger)
{
    int                  line;
    llmb_ledger_sums_t   found, want;
    llmb_ledger_table_t  t;

    llmb_ledger_table(&t, ledger);

    line = llmb_ledger_check_head(&t);

    if (line != 0) {
        return line;
    }

    found.held = 0;
    found.pending = 0;
    found.legs = 0;
    want = found;

    line = llmb_ledger_check_accounts(&t, &want);

    if (line == 0) {
        line = llmb_ledger_check_holds(&t, &found);
    }

    if (line == 0) {
        line = llmb_ledger_check_legs(&t, &want);
    }

    if (line != 0) {
        return line;
    }

    /* the free legs were taken off what is wanted */

    if (found.legs != want.legs) {
        return __LINE__;
    }

    if (found.pending != want.pending) {
        return __LINE__;
    }

    if (found.held != want.held) {
        return __LINE__;
    }

    return 0;
}


static int
llmb_ledger_check_head(const llmb_ledger_table_t *t)
{
    int             line;
    llmb_ledger_t  *head;

    head = t->head;

    if (llmb_ledger_adopt(head, (size_t) head->size) == NULL) {
        return __LINE__;
    }

    if (head->busy || head->torn) {
        return __LINE__;
    }

    if (head->accounts.used > head->accounts.top
        || head->accounts.top > head->accounts.max)
    {
        return __LINE__;
    }

    if (head->holds.used > head->holds.top
        || head->holds.top > head->holds.max)
    {
        return __LINE__;
    }

    if (head->legs.used > head->legs.top || head->legs.top > head->legs.max) {
        return __LINE__;
    }

    line = llmb_ledger_check_heap(t, LLMB_LEDGER_DUE, head->holds.top);

    if (line == 0) {
        line = llmb_ledger_check_heap(t, LLMB_LEDGER_IDLE,
                                      head->accounts.top);
    }

    if (line == 0) {
        line = llmb_ledger_check_heap(t, LLMB_LEDGER_EMPTY,
                                      head->accounts.top);
    }

    return line;
}


static int
llmb_ledger_check_accounts(const llmb_ledger_table_t *t,
    llmb_ledger_sums_t *sums)
{
    int                        line;
    uint32_t                   i, live, idle, empty;
    uint64_t                   mix;
    const llmb_ledger_arec_t  *a;

    line = llmb_ledger_check_account_chains(t);

    if (line != 0) {
        return line;
    }

    live = 0;
    idle = 0;
    empty = 0;

    for (i = 1; i <= t->head->accounts.top; i++) {
        a = &t->accounts[i];

        if (!a->live) {
            continue;
        }

        line = llmb_ledger_check_account(t, i);

        if (line != 0) {
            return line;
        }

        live++;
        idle += (a->pending == 0);
        empty += (a->pending == 0 && a->spent == 0);

        mix = llmb_ledger_mix(i);
        sums->held += (uint64_t) a->held * mix;
        sums->pending += a->pending * mix;
    }

    if (live != t->head->accounts.used) {
        return __LINE__;
    }

    if (idle != t->head->heap[LLMB_LEDGER_IDLE]) {
        return __LINE__;
    }

    if (empty != t->head->heap[LLMB_LEDGER_EMPTY]) {
        return __LINE__;
    }

    return 0;
}


static int
llmb_ledger_check_account(const llmb_ledger_table_t *t, uint32_t i)
{
    int                        line;
    const llmb_ledger_arec_t  *a;

    a = &t->accounts[i];

    if (a->live != 1 || a->unit >= LLMB_UNITS || a->len > LLMB_LEDGER_NAME) {
        return __LINE__;
    }

    if (a->spent < 0 || a->held < 0 || a->limit < 0) {
        return __LINE__;
    }

    if (a->pending == 0 && a->held != 0) {
        return __LINE__;
    }

    /* the chains are good by now */

    if (llmb_ledger_account_find(t, a->key) != i) {
        return __LINE__;
    }

    line = llmb_ledger_check_place(t, LLMB_LEDGER_IDLE, i, a->pending == 0);

    if (line != 0) {
        return line;
    }

    return llmb_ledger_check_place(t, LLMB_LEDGER_EMPTY, i,
                                   a->pending == 0 && a->spent == 0);
}


/* A chain that ends within the count has no loop. */

static int
llmb_ledger_check_account_chains(const llmb_ledger_table_t *t)
{
    uint32_t                   i, n, bucket;
    const llmb_ledger_pool_t  *pool;

    pool = &t->head->accounts;
    i = pool->free;

    for (n = pool->top - pool->used; n != 0; n--) {

        if (i == 0 || i > pool->top || t->accounts[i].live) {
            return __LINE__;
        }

        i = t->accounts[i].next;
    }

    if (i != 0) {
        return __LINE__;
    }

    n = pool->used;

    for (bucket = 0; bucket < pool->max; bucket++) {
        i = t->account_buckets[bucket];

        for ( /* void */ ; i != 0; i = t->accounts[i].next) {

            if (n-- == 0 || i > pool->top || !t->accounts[i].live) {
                return __LINE__;
            }

            if (llmb_ledger_account_bucket(t, t->accounts[i].key) != bucket) {
                return __LINE__;
            }
        }
    }

    return (n != 0) ? __LINE__ : 0;
}


static int
llmb_ledger_check_holds(const llmb_ledger_table_t *t,
    llmb_ledger_sums_t *sums)
{
    int                        line;
    uint32_t                   i, live, pending;
    const llmb_ledger_hrec_t  *hold;

    line = llmb_ledger_check_hold_chains(t);

    if (line != 0) {
        return line;
    }

    live = 0;
    pending = 0;

    for (i = 1; i <= t->head->holds.top; i++) {
        hold = &t->holds[i];

        if (!hold->live) {
            continue;
        }

        if (llmb_ledger_hold_find(t, hold->id) != i) {
            return __LINE__;
        }

        line = llmb_ledger_check_hold(t, i, sums);

        if (line != 0) {
            return line;
        }

        live++;
        pending += (hold->state == LLMB_HOLD_PENDING);
    }

    if (live != t->head->holds.used
        || pending != t->head->heap[LLMB_LEDGER_DUE]
        || live - pending != t->head->closed)
    {
        return __LINE__;
    }

    return llmb_ledger_check_closed(t);
}


static int
llmb_ledger_check_hold(const llmb_ledger_table_t *t, uint32_t i,
    llmb_ledger_sums_t *sums)
{
    uint32_t                   leg, n;
    uint64_t                   mix;
    const llmb_ledger_hrec_t  *hold;
    const llmb_ledger_lrec_t  *l;

    hold = &t->holds[i];

    if (hold->live != 1 || hold->state > LLMB_HOLD_EXPIRED
        || hold->n > LLMB_LEDGER_LEGS)
    {
        return __LINE__;
    }

    if (hold->state != LLMB_HOLD_PENDING) {
        return (hold->n != 0 || hold->legs != 0) ? __LINE__ : 0;
    }

    leg = hold->legs;

    for (n = hold->n; n != 0; n--) {

        if (leg == 0 || leg > t->head->legs.top) {
            return __LINE__;
        }

        l = &t->legs[leg];

        if (l->account == 0 || l->account > t->head->accounts.top
            || !t->accounts[l->account].live || l->amount < 0)
        {
            return __LINE__;
        }

        mix = llmb_ledger_mix(l->account);
        sums->held += (uint64_t) l->amount * mix;
        sums->pending += mix;
        sums->legs += llmb_ledger_mix(leg);

        leg = l->next;
    }

    if (leg != 0) {
        return __LINE__;
    }

    return llmb_ledger_check_place(t, LLMB_LEDGER_DUE, i, 1);
}


static int
llmb_ledger_check_hold_chains(const llmb_ledger_table_t *t)
{
    uint32_t                   i, n, bucket;
    const llmb_ledger_pool_t  *pool;

    pool = &t->head->holds;
    i = pool->free;

    for (n = pool->top - pool->used; n != 0; n--) {

        if (i == 0 || i > pool->top || t->holds[i].live) {
            return __LINE__;
        }

        i = t->holds[i].next;
    }

    if (i != 0) {
        return __LINE__;
    }

    n = pool->used;

    for (bucket = 0; bucket < pool->max; bucket++) {
        i = t->hold_buckets[bucket];

        for ( /* void */ ; i != 0; i = t->holds[i].next) {

            if (n-- == 0 || i > pool->top || !t->holds[i].live) {
                return __LINE__;
            }

            if (llmb_ledger_hold_bucket(t, t->holds[i].id) != bucket) {
                return __LINE__;
            }
        }
    }

    return (n != 0) ? __LINE__ : 0;
}


static int
llmb_ledger_check_closed(const llmb_ledger_table_t *t)
{
    uint32_t  i, n, last;

    last = 0;
    i = t->head->oldest;

    for (n = t->head->closed; n != 0; n--) {

        if (i == 0 || i > t->head->holds.top || !t->holds[i].live
            || t->holds[i].state == LLMB_HOLD_PENDING)
        {
            return __LINE__;
        }

        last = i;
        i = t->holds[i].link;
    }

    return (i != 0 || last != t->head->newest) ? __LINE__ : 0;
}


/* Every leg is either free or of one pending hold. */

static int
llmb_ledger_check_legs(const llmb_ledger_table_t *t, llmb_ledger_sums_t *sums)
{
    uint32_t                   i, n;
    const llmb_ledger_pool_t  *pool;

    pool = &t->head->legs;

    for (i = 1; i <= pool->top; i++) {
        sums->legs += llmb_ledger_mix(i);
    }

    i = pool->free;

    for (n = pool->top - pool->used; n != 0; n--) {

        if (i == 0 || i > pool->top) {
            return __LINE__;
        }

        sums->legs -= llmb_ledger_mix(i);
        i = t->legs[i].next;
    }

    return (i != 0) ? __LINE__ : 0;
}


static int
llmb_ledger_check_heap(const llmb_ledger_table_t *t, llmb_ledger_heap_e heap,
    uint32_t top)
{
    uint32_t         i, n;
    const uint32_t  *slot;

    n = t->head->heap[heap];
    slot = t->heap[heap];

    if (n > top) {
        return __LINE__;
    }

    for (i = 0; i < n; i++) {

        if (slot[i] == 0 || slot[i] > top) {
            return __LINE__;
        }

        if (i != 0
            && llmb_ledger_heap_before(t, heap, slot[i], slot[(i - 1) / 2]))
        {
            return __LINE__;
        }
    }

    return 0;
}


static int
llmb_ledger_check_place(const llmb_ledger_table_t *t, llmb_ledger_heap_e heap,
    uint32_t i, int in)
{
    uint32_t  place;

    place = *llmb_ledger_heap_place(t, heap, i);

    if (!in) {
        return (place != 0) ? __LINE__ : 0;
    }

    if (place == 0 || place > t->head->heap[heap]
        || t->heap[heap][place - 1] != i)
    {
        return __LINE__;
    }

    return 0;
}


static uint64_t
llmb_ledger_mix(uint64_t n)
{
    n *= UINT64_C(0x9e3779b97f4a7c15);
    n ^= n >> 30;
    n *= UINT64_C(0xbf58476d1ce4e5b9);
    n ^= n >> 27;
    n *= UINT64_C(0x94d049bb133111eb);
    n ^= n >> 31;

    return n | 1;
}
