
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The region of the ledger: its layout, pools and hash tables.  Knows what the
 * records are linked to, not what the numbers in them mean.
 */


#include "core/llmb_ledger_table.h"

#include <string.h>


/* "llmbldgr", which also tells the byte order */
#define LLMB_LEDGER_MAGIC       UINT64_C(0x6c6c6d626c646772)
#define LLMB_LEDGER_VERSION     1

#define LLMB_LEDGER_LAYOUT                                                    \
    ((uint64_t) LLMB_LEDGER_VERSION << 32                                     \
     ^ (uint64_t) sizeof(struct llmb_ledger_s) << 20                          \
     ^ (uint64_t) sizeof(llmb_ledger_arec_t) << 12                            \
     ^ (uint64_t) sizeof(llmb_ledger_hrec_t) << 5                             \
     ^ (uint64_t) sizeof(llmb_ledger_lrec_t))

/* shares of the region, per cent */
#define LLMB_LEDGER_ACCOUNTS    45
#define LLMB_LEDGER_HOLDS       25
#define LLMB_LEDGER_LEGS_SHARE  30

/* a record with its bucket and its slots in the heaps */
#define LLMB_LEDGER_ACCOUNT_LEN (sizeof(llmb_ledger_arec_t)                   \
                                 + 3 * sizeof(uint32_t))
#define LLMB_LEDGER_HOLD_LEN    (sizeof(llmb_ledger_hrec_t)                   \
                                 + 2 * sizeof(uint32_t))

/* as many records of one kind as indexes are sure to reach */
#define LLMB_LEDGER_RECORDS     0x7fffffff


static uint32_t llmb_ledger_capacity(size_t size, unsigned share,
    size_t record);
static uint32_t llmb_ledger_pool_take(llmb_ledger_pool_t *pool,
    uint32_t free_next);
static uint32_t llmb_ledger_slot(uint64_t a, uint64_t b, uint32_t n);
static void llmb_ledger_unlink_account(llmb_ledger_table_t *t, uint32_t i);
static void llmb_ledger_unlink_hold(llmb_ledger_table_t *t, uint32_t i);


llmb_ledger_t *
llmb_ledger_create(void *region, size_t size)
{
    llmb_ledger_t        *ledger;
    llmb_ledger_table_t   t;

    if (region == NULL || size < LLMB_LEDGER_MIN
        || (uintptr_t) region % sizeof(uint64_t) != 0)
    {
        return NULL;
    }

    ledger = region;

    memset(ledger, 0, sizeof(llmb_ledger_t));

    ledger->layout = LLMB_LEDGER_LAYOUT;
    ledger->size = size;
    ledger->charge = 1;
    ledger->accounts.max = llmb_ledger_capacity(size, LLMB_LEDGER_ACCOUNTS,
                                                LLMB_LEDGER_ACCOUNT_LEN);
    ledger->holds.max = llmb_ledger_capacity(size, LLMB_LEDGER_HOLDS,
                                             LLMB_LEDGER_HOLD_LEN);
    ledger->legs.max = llmb_ledger_capacity(size, LLMB_LEDGER_LEGS_SHARE,
                                            sizeof(llmb_ledger_lrec_t));

    llmb_ledger_table(&t, ledger);

    memset(t.account_buckets, 0, ledger->accounts.max * sizeof(uint32_t));
    memset(t.hold_buckets, 0, ledger->holds.max * sizeof(uint32_t));

    ledger->magic = LLMB_LEDGER_MAGIC;

    return ledger;
}


llmb_ledger_t *
llmb_ledger_adopt(void *region, size_t size)
{
    llmb_ledger_t  *ledger;

    if (region == NULL || size < LLMB_LEDGER_MIN
        || (uintptr_t) region % sizeof(uint64_t) != 0)
    {
        return NULL;
    }

    ledger = region;

    if (ledger->magic != LLMB_LEDGER_MAGIC
        || ledger->layout != LLMB_LEDGER_LAYOUT
        || ledger->size != size
        || ledger->accounts.max
           != llmb_ledger_capacity(size, LLMB_LEDGER_ACCOUNTS,
                                   LLMB_LEDGER_ACCOUNT_LEN)
        || ledger->holds.max
           != llmb_ledger_capacity(size, LLMB_LEDGER_HOLDS,
                                   LLMB_LEDGER_HOLD_LEN)
        || ledger->legs.max
           != llmb_ledger_capacity(size, LLMB_LEDGER_LEGS_SHARE,
                                   sizeof(llmb_ledger_lrec_t)))
    {
        return NULL;
    }

    return ledger;
}


/* The record number 0 is there but not used. */

static uint32_t
llmb_ledger_capacity(size_t size, unsigned share, size_t record)
{
    size_t  n;

    n = (size - sizeof(llmb_ledger_t)) / 100 * share / record - 1;

    return (n > LLMB_LEDGER_RECORDS) ? LLMB_LEDGER_RECORDS : (uint32_t) n;
}


void
llmb_ledger_table(llmb_ledger_table_t *t, const llmb_ledger_t *ledger)
{
    uint32_t  *p;

    t->head = (llmb_ledger_t *) (uintptr_t) ledger;

    t->accounts = (llmb_ledger_arec_t *) (t->head + 1);
    t->holds = (llmb_ledger_hrec_t *)
                   (t->accounts + (size_t) ledger->accounts.max + 1);
    t->legs = (llmb_ledger_lrec_t *)
                  (t->holds + (size_t) ledger->holds.max + 1);

    p = (uint32_t *) (t->legs + (size_t) ledger->legs.max + 1);

    t->account_buckets = p;
    p += ledger->accounts.max;

    t->hold_buckets = p;
    p += ledger->holds.max;

    t->heap[LLMB_LEDGER_DUE] = p;
    p += ledger->holds.max;

    t->heap[LLMB_LEDGER_IDLE] = p;
    p += ledger->accounts.max;

    t->heap[LLMB_LEDGER_EMPTY] = p;
}


/* The fences are for the compiler: the writer may die, not the machine. */

void
llmb_ledger_begin(llmb_ledger_table_t *t, llmb_ledger_t *ledger)
{
    if (ledger->busy) {
        ledger->torn = 1;
    }

    ledger->busy = 1;

    __atomic_signal_fence(__ATOMIC_SEQ_CST);

    llmb_ledger_table(t, ledger);
}


void
llmb_ledger_end(llmb_ledger_table_t *t)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);

    t->head->busy = 0;
}


uint32_t
llmb_ledger_pool_room(const llmb_ledger_pool_t *pool)
{
    return pool->max - pool->used;
}


/* The first of the list, with free_next behind it, or else a new one. */

static uint32_t
llmb_ledger_pool_take(llmb_ledger_pool_t *pool, uint32_t free_next)
{
    uint32_t  i;

    i = pool->free;

    if (i != 0) {
        pool->free = free_next;

    } else {
        i = ++pool->top;
    }

    pool->used++;

    return i;
}


/* Identities are well mixed already, ids of holds perhaps not. */

static uint32_t
llmb_ledger_slot(uint64_t a, uint64_t b, uint32_t n)
{
    a ^= b * UINT64_C(0x9e3779b97f4a7c15);
    a ^= a >> 30;
    a *= UINT64_C(0xbf58476d1ce4e5b9);
    a ^= a >> 27;
    a *= UINT64_C(0x94d049bb133111eb);
    a ^= a >> 31;

    return (uint32_t) (a % n);
}


uint32_t
llmb_ledger_account_bucket(const llmb_ledger_table_t *t,
    const uint64_t key[2])
{
    return llmb_ledger_slot(key[0], key[1], t->head->accounts.max);
}


uint32_t
llmb_ledger_account_find(const llmb_ledger_table_t *t, const uint64_t key[2])
{
    uint32_t  i;

    i = t->account_buckets[llmb_ledger_account_bucket(t, key)];

    while (i != 0 && (t->accounts[i].key[0] != key[0]
                      || t->accounts[i].key[1] != key[1]))
    {
        i = t->accounts[i].next;
    }

    return i;
}


uint32_t
llmb_ledger_account_new(llmb_ledger_table_t *t, const llmb_ledger_leg_t *leg)
{
    size_t               len;
    uint32_t             i, *bucket;
    llmb_ledger_pool_t  *pool;
    llmb_ledger_arec_t  *a;

    pool = &t->head->accounts;

    i = llmb_ledger_pool_take(pool, t->accounts[pool->free].next);
    a = &t->accounts[i];

    memset(a, 0, sizeof(llmb_ledger_arec_t));

    len = leg->name.len;

    if (len > LLMB_LEDGER_NAME) {
        len = LLMB_LEDGER_NAME;
    }

    if (len != 0) {
        memcpy(a->name, leg->name.data, len);
    }

    a->key[0] = leg->key[0];
    a->key[1] = leg->key[1];
    a->end_ms = leg->end_ms;
    a->unit = (uint16_t) leg->unit;
    a->len = (uint16_t) len;
    a->live = 1;

    bucket = &t->account_buckets[llmb_ledger_account_bucket(t, a->key)];
    a->next = *bucket;
    *bucket = i;

    return i;
}


void
llmb_ledger_account_free(llmb_ledger_table_t *t, uint32_t i)
{
    llmb_ledger_pool_t  *pool;

    llmb_ledger_account_wake(t, i);
    llmb_ledger_unlink_account(t, i);

    pool = &t->head->accounts;

    t->accounts[i].live = 0;
    t->accounts[i].next = pool->free;
    pool->free = i;
    pool->used--;
}


static void
llmb_ledger_unlink_account(llmb_ledger_table_t *t, uint32_t i)
{
    uint32_t  *p;

    p = &t->account_buckets[llmb_ledger_account_bucket(t, t->accounts[i].key)];

    while (*p != i && *p != 0) {
        p = &t->accounts[*p].next;
    }

    *p = t->accounts[i].next;
}


void
llmb_ledger_account_idle(llmb_ledger_table_t *t, uint32_t i)
{
    t->accounts[i].seq = t->head->seq++;

    llmb_ledger_heap_add(t, LLMB_LEDGER_IDLE, i);

    if (t->accounts[i].spent == 0) {
        llmb_ledger_heap_add(t, LLMB_LEDGER_EMPTY, i);
    }
}


void
llmb_ledger_account_wake(llmb_ledger_table_t *t, uint32_t i)
{
    llmb_ledger_heap_remove(t, LLMB_LEDGER_IDLE, i);
    llmb_ledger_heap_remove(t, LLMB_LEDGER_EMPTY, i);
}


uint32_t
llmb_ledger_hold_bucket(const llmb_ledger_table_t *t, const unsigned char *id)
{
    uint64_t  part[2];

    memcpy(part, id, sizeof(part));

    return llmb_ledger_slot(part[0], part[1], t->head->holds.max);
}


uint32_t
llmb_ledger_hold_find(const llmb_ledger_table_t *t, const unsigned char *id)
{
    uint32_t  i;

    i = t->hold_buckets[llmb_ledger_hold_bucket(t, id)];

    while (i != 0 && memcmp(t->holds[i].id, id, LLMB_LEDGER_ID) != 0) {
        i = t->holds[i].next;
    }

    return i;
}


uint32_t
llmb_ledger_hold_new(llmb_ledger_table_t *t, const unsigned char *id,
    int64_t deadline_ms)
{
    uint32_t             i, *bucket;
    llmb_ledger_pool_t  *pool;
    llmb_ledger_hrec_t  *hold;

    pool = &t->head->holds;

    i = llmb_ledger_pool_take(pool, t->holds[pool->free].next);
    hold = &t->holds[i];

    memset(hold, 0, sizeof(llmb_ledger_hrec_t));
    memcpy(hold->id, id, LLMB_LEDGER_ID);

    hold->seq = t->head->seq++;
    hold->at_ms = deadline_ms;
    hold->state = LLMB_HOLD_PENDING;
    hold->live = 1;

    bucket = &t->hold_buckets[llmb_ledger_hold_bucket(t, id)];
    hold->next = *bucket;
    *bucket = i;

    llmb_ledger_heap_add(t, LLMB_LEDGER_DUE, i);

    return i;
}


void
llmb_ledger_hold_close(llmb_ledger_table_t *t, uint32_t i, llmb_hold_e state,
    int64_t now_ms)
{
    llmb_ledger_hrec_t  *hold;

    llmb_ledger_heap_remove(t, LLMB_LEDGER_DUE, i);

    hold = &t->holds[i];

    hold->state = (uint8_t) state;
    hold->at_ms = now_ms;
    hold->link = 0;

    if (t->head->closed++ == 0) {
        t->head->oldest = i;

    } else {
        t->holds[t->head->newest].link = i;
    }

    t->head->newest = i;
}


void
llmb_ledger_hold_forget(llmb_ledger_table_t *t)
{
    uint32_t             i;
    llmb_ledger_pool_t  *pool;

    pool = &t->head->holds;
    i = t->head->oldest;

    t->head->oldest = t->holds[i].link;

    if (--t->head->closed == 0) {
        t->head->newest = 0;
    }

    llmb_ledger_unlink_hold(t, i);

    t->holds[i].live = 0;
    t->holds[i].next = pool->free;
    pool->free = i;
    pool->used--;
}


static void
llmb_ledger_unlink_hold(llmb_ledger_table_t *t, uint32_t i)
{
    uint32_t  *p;

    p = &t->hold_buckets[llmb_ledger_hold_bucket(t, t->holds[i].id)];

    while (*p != i && *p != 0) {
        p = &t->holds[*p].next;
    }

    *p = t->holds[i].next;
}


void
llmb_ledger_leg_new(llmb_ledger_table_t *t, uint32_t hold, uint32_t account,
    int64_t amount)
{
    uint32_t             i;
    llmb_ledger_pool_t  *pool;

    pool = &t->head->legs;

    i = llmb_ledger_pool_take(pool, t->legs[pool->free].next);

    t->legs[i].amount = amount;
    t->legs[i].account = account;
    t->legs[i].next = t->holds[hold].legs;

    t->holds[hold].legs = i;
    t->holds[hold].n++;
}


void
llmb_ledger_leg_free(llmb_ledger_table_t *t, uint32_t i)
{
    llmb_ledger_pool_t  *pool;

    pool = &t->head->legs;

    t->legs[i].next = pool->free;
    pool->free = i;
    pool->used--;
}
