
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The region of the ledger, private to the llmb_ledger files: the records,
 * their pools, the two hash tables, the heaps and the list of closed holds.
 * Records are numbered from 1; 0 is none.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_LEDGER_TABLE_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_LEDGER_TABLE_H_INCLUDED_


#include "core/llmb_ledger.h"


/* records of one kind: never used ones above top, given back ones in a list */

typedef struct {
    uint32_t                max;
    uint32_t                top;
    uint32_t                free;
    uint32_t                used;
} llmb_ledger_pool_t;


typedef enum {
    LLMB_LEDGER_DUE = 0,        /* pending holds, by deadline */
    LLMB_LEDGER_IDLE,           /* accounts without pending holds, by end */
    LLMB_LEDGER_EMPTY,          /* of these, those with nothing spent, by the
                                   time they became so */
    LLMB_LEDGER_HEAPS
} llmb_ledger_heap_e;


/* the start of the region */

struct llmb_ledger_s {
    uint64_t                magic;
    uint64_t                layout;
    uint64_t                size;

    uint32_t                busy;       /* inside a call */
    uint32_t                torn;       /* a call was never finished */
    uint32_t                charge;     /* policy of expiry */
    uint32_t                oldest;     /* closed holds, in order of closing */
    uint32_t                newest;
    uint32_t                closed;

    llmb_ledger_pool_t      accounts;
    llmb_ledger_pool_t      holds;
    llmb_ledger_pool_t      legs;

    uint32_t                heap[LLMB_LEDGER_HEAPS];    /* records in each */
    uint32_t                reserved;

    uint64_t                seq;        /* breaks ties of the heaps */
    uint64_t                opened;
    uint64_t                posted;
    uint64_t                voided;
    uint64_t                expired;
    uint64_t                denied;
    uint64_t                full;
};


typedef struct {
    uint64_t                key[2];
    uint64_t                seq;        /* when it became idle */
    int64_t                 end_ms;
    int64_t                 limit;
    int64_t                 spent;
    int64_t                 held;
    uint32_t                pending;    /* holds on it */
    uint32_t                next;       /* of the bucket, or free */
    uint32_t                place[2];   /* in the idle and the empty heap */
    uint16_t                unit;
    uint16_t                len;
    uint32_t                live;
    unsigned char           name[LLMB_LEDGER_NAME];
} llmb_ledger_arec_t;


typedef struct {
    unsigned char           id[LLMB_LEDGER_ID];
    uint64_t                seq;        /* when it was opened */
    int64_t                 at_ms;      /* deadline, or when it was closed */
    uint32_t                next;       /* of the bucket, or free */
    uint32_t                link;       /* place in the heap; next closed one */
    uint32_t                legs;       /* the first; none once closed */
    uint16_t                n;
    uint8_t                 state;
    uint8_t                 live;
} llmb_ledger_hrec_t;


typedef struct {
    int64_t                 amount;
    uint32_t                account;
    uint32_t                next;       /* of the hold, or free */
} llmb_ledger_lrec_t;


/* where things are in this mapping of the region */

typedef struct {
    llmb_ledger_t          *head;
    llmb_ledger_arec_t     *accounts;
    llmb_ledger_hrec_t     *holds;
    llmb_ledger_lrec_t     *legs;
    uint32_t               *account_buckets;
    uint32_t               *hold_buckets;
    uint32_t               *heap[LLMB_LEDGER_HEAPS];
} llmb_ledger_table_t;


/*
 * Closes overdue holds, forgets closed ones and frees dead accounts, max of
 * each; the number of holds closed.  Between begin and end.
 */
unsigned llmb_ledger_sweep(llmb_ledger_table_t *t, int64_t now_ms,
    unsigned max);

/* Readers, which have a const ledger, do not write through the table. */
void llmb_ledger_table(llmb_ledger_table_t *t, const llmb_ledger_t *ledger);

/*
 * Around everything that writes: a writer that dies in between leaves a mark,
 * which llmb_ledger_check() finds.
 */
void llmb_ledger_begin(llmb_ledger_table_t *t, llmb_ledger_t *ledger);
void llmb_ledger_end(llmb_ledger_table_t *t);

uint32_t llmb_ledger_account_find(const llmb_ledger_table_t *t,
    const uint64_t key[2]);
uint32_t llmb_ledger_account_bucket(const llmb_ledger_table_t *t,
    const uint64_t key[2]);

/* The caller knows that there is room; the new account is in no heap. */
uint32_t llmb_ledger_account_new(llmb_ledger_table_t *t,
    const llmb_ledger_leg_t *leg);
void llmb_ledger_account_free(llmb_ledger_table_t *t, uint32_t i);

/* After its last pending hold was closed, and before the first is opened. */
void llmb_ledger_account_idle(llmb_ledger_table_t *t, uint32_t i);
void llmb_ledger_account_wake(llmb_ledger_table_t *t, uint32_t i);

uint32_t llmb_ledger_hold_find(const llmb_ledger_table_t *t,
    const unsigned char *id);
uint32_t llmb_ledger_hold_bucket(const llmb_ledger_table_t *t,
    const unsigned char *id);

/* The caller knows that there is room; a new hold is pending, without legs. */
uint32_t llmb_ledger_hold_new(llmb_ledger_table_t *t,
    const unsigned char *id, int64_t deadline_ms);

/* Takes a pending hold, its legs given back, to the closed ones. */
void llmb_ledger_hold_close(llmb_ledger_table_t *t, uint32_t i,
    llmb_hold_e state, int64_t now_ms);

/* The closed hold that was closed first; there is one. */
void llmb_ledger_hold_forget(llmb_ledger_table_t *t);

/* Adds a leg in front; the caller knows that there is room. */
void llmb_ledger_leg_new(llmb_ledger_table_t *t, uint32_t hold,
    uint32_t account, int64_t amount);
void llmb_ledger_leg_free(llmb_ledger_table_t *t, uint32_t i);

uint32_t llmb_ledger_pool_room(const llmb_ledger_pool_t *pool);

/* The first of a heap, 0 when it is empty. */
uint32_t llmb_ledger_heap_top(const llmb_ledger_table_t *t,
    llmb_ledger_heap_e heap);
void llmb_ledger_heap_add(llmb_ledger_table_t *t, llmb_ledger_heap_e heap,
    uint32_t i);
void llmb_ledger_heap_remove(llmb_ledger_table_t *t, llmb_ledger_heap_e heap,
    uint32_t i);

/* The record has got later. */
void llmb_ledger_heap_later(llmb_ledger_table_t *t, llmb_ledger_heap_e heap,
    uint32_t i);

/* Whether record a comes before b. */
int llmb_ledger_heap_before(const llmb_ledger_table_t *t,
    llmb_ledger_heap_e heap, uint32_t a, uint32_t b);

/* Where the record is in the heap, from 1; 0: it is not. */
uint32_t *llmb_ledger_heap_place(const llmb_ledger_table_t *t,
    llmb_ledger_heap_e heap, uint32_t i);


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_LEDGER_TABLE_H_INCLUDED_ */
