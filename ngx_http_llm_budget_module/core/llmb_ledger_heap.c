
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The heaps of the ledger: binary, of record numbers; every record knows its
 * place, so that it can be moved or taken out.
 */


#include "core/llmb_ledger_table.h"


static void llmb_ledger_heap_up(llmb_ledger_table_t *t,
    llmb_ledger_heap_e heap, uint32_t place);
static void llmb_ledger_heap_down(llmb_ledger_table_t *t,
    llmb_ledger_heap_e heap, uint32_t place);
static void llmb_ledger_heap_put(llmb_ledger_table_t *t,
    llmb_ledger_heap_e heap, uint32_t place, uint32_t i);


uint32_t
llmb_ledger_heap_top(const llmb_ledger_table_t *t, llmb_ledger_heap_e heap)
{
    return (t->head->heap[heap] != 0) ? t->heap[heap][0] : 0;
}


void
llmb_ledger_heap_add(llmb_ledger_table_t *t, llmb_ledger_heap_e heap,
    uint32_t i)
{
    uint32_t  place;

    place = ++t->head->heap[heap];

    llmb_ledger_heap_put(t, heap, place, i);
    llmb_ledger_heap_up(t, heap, place);
}


void
llmb_ledger_heap_remove(llmb_ledger_table_t *t, llmb_ledger_heap_e heap,
    uint32_t i)
{
    uint32_t  place, last;

    place = *llmb_ledger_heap_place(t, heap, i);

    if (place == 0) {
        return;
    }

    last = t->heap[heap][--t->head->heap[heap]];

    *llmb_ledger_heap_place(t, heap, i) = 0;

    if (last == i) {
        return;
    }

    llmb_ledger_heap_put(t, heap, place, last);
    llmb_ledger_heap_up(t, heap, place);
    llmb_ledger_heap_down(t, heap, *llmb_ledger_heap_place(t, heap, last));
}


void
llmb_ledger_heap_later(llmb_ledger_table_t *t, llmb_ledger_heap_e heap,
    uint32_t i)
{
    llmb_ledger_heap_down(t, heap, *llmb_ledger_heap_place(t, heap, i));
}


static void
llmb_ledger_heap_up(llmb_ledger_table_t *t, llmb_ledger_heap_e heap,
    uint32_t place)
{
    uint32_t  i, parent;

    i = t->heap[heap][place - 1];

    while (place > 1) {
        parent = t->heap[heap][place / 2 - 1];

        if (!llmb_ledger_heap_before(t, heap, i, parent)) {
            return;
        }

        llmb_ledger_heap_put(t, heap, place, parent);
        place /= 2;
        llmb_ledger_heap_put(t, heap, place, i);
    }
}


static void
llmb_ledger_heap_down(llmb_ledger_table_t *t, llmb_ledger_heap_e heap,
    uint32_t place)
{
    uint32_t  i, n, child, *slot;

    n = t->head->heap[heap];
    slot = t->heap[heap];
    i = slot[place - 1];

    while (place <= n / 2) {
        child = 2 * place;

        if (child < n
            && llmb_ledger_heap_before(t, heap, slot[child], slot[child - 1]))
        {
            child++;
        }

        if (!llmb_ledger_heap_before(t, heap, slot[child - 1], i)) {
            return;
        }

        llmb_ledger_heap_put(t, heap, place, slot[child - 1]);
        llmb_ledger_heap_put(t, heap, child, i);
        place = child;
    }
}


static void
llmb_ledger_heap_put(llmb_ledger_table_t *t, llmb_ledger_heap_e heap,
    uint32_t place, uint32_t i)
{
    t->heap[heap][place - 1] = i;
    *llmb_ledger_heap_place(t, heap, i) = place;
}


int
llmb_ledger_heap_before(const llmb_ledger_table_t *t, llmb_ledger_heap_e heap,
    uint32_t a, uint32_t b)
{
    const llmb_ledger_arec_t  *aa, *ab;
    const llmb_ledger_hrec_t  *ha, *hb;

    if (heap == LLMB_LEDGER_DUE) {
        ha = &t->holds[a];
        hb = &t->holds[b];

        return ha->at_ms < hb->at_ms
               || (ha->at_ms == hb->at_ms && ha->seq < hb->seq);
    }

    aa = &t->accounts[a];
    ab = &t->accounts[b];

    if (heap == LLMB_LEDGER_IDLE && aa->end_ms != ab->end_ms) {
        return aa->end_ms < ab->end_ms;
    }

    return aa->seq < ab->seq;
}


uint32_t *
llmb_ledger_heap_place(const llmb_ledger_table_t *t, llmb_ledger_heap_e heap,
    uint32_t i)
{
    if (heap == LLMB_LEDGER_DUE) {
        return &t->holds[i].link;
    }

    return &t->accounts[i].place[heap - LLMB_LEDGER_IDLE];
}
