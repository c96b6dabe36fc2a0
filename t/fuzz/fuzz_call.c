
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Any bytes as an answer, cut at line feeds, and as a line of a journal, as it
 * is and with a checksum that fits: nothing breaks, and what was read is
 * written the same.  The first byte is the number of legs.
 */


#include "core/llmb_call.h"

#include <stdlib.h>
#include <string.h>


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static void fuzz_answer(unsigned char *data, size_t size, unsigned legs);
static void fuzz_record(const unsigned char *data, size_t size);
static void fuzz_line(const unsigned char *data, size_t size);
static void fuzz_check(int fine);


#define FUZZ_ITEMS  256
#define FUZZ_SUM    16


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char  *p;

    if (size < 2) {
        return 0;
    }

    p = malloc(size - 1);
    fuzz_check(p != NULL);
    memcpy(p, data + 1, size - 1);

    fuzz_answer(p, size - 1, data[0] % (LLMB_LEDGER_LEGS + 1));
    fuzz_record(p, size - 1);

    free(p);

    return 0;
}


static void
fuzz_answer(unsigned char *data, size_t size, unsigned legs)
{
    size_t                        i;
    int64_t                       now_ms;
    unsigned                      n, late;
    llmb_str_t                    item[FUZZ_ITEMS], cursor;
    llmb_hold_e                   state;
    llmb_answer_t                 answer;
    llmb_ledger_rc_e              rc;
    llmb_ledger_stat_t            stat;
    llmb_ledger_account_t         accounts[LLMB_CALL_PORTION];
    static llmb_ledger_open_t     op;

    answer.n = 0;
    answer.item = item;
    item[0].data = data;
    item[0].len = 0;

    for (i = 0; i < size; i++) {

        if (data[i] != '\n') {
            item[answer.n].len++;
            continue;
        }

        if (++answer.n == FUZZ_ITEMS) {
            break;
        }

        item[answer.n].data = data + i + 1;
        item[answer.n].len = 0;
    }

    op.n = legs;

    if (llmb_answer_open(&answer, &op, &rc, &now_ms, &late) == LLMB_OK) {
        fuzz_check(now_ms >= 0);
        fuzz_check(op.denied < (legs ? legs : 1) && op.replayed < 2);

        for (i = 0; i < legs && !late && rc != LLMB_LEDGER_BAD; i++) {
            fuzz_check(op.leg[i].spent >= 0 && op.leg[i].held >= 0);
        }
    }

    state = LLMB_HOLD_PENDING;

    if (llmb_answer_close(&answer, &rc, &now_ms, &state) == LLMB_OK) {
        fuzz_check((unsigned) state <= LLMB_HOLD_EXPIRED);
    }

    n = LLMB_CALL_PORTION;

    if (llmb_answer_read(&answer, &stat, &now_ms, &cursor, accounts, &n)
        == LLMB_OK)
    {
        fuzz_check(n <= LLMB_CALL_PORTION && cursor.len != 0);

        for (i = 0; i < n; i++) {
            fuzz_check((unsigned) accounts[i].unit < LLMB_UNITS);
            fuzz_check(accounts[i].spent >= 0 && accounts[i].held >= 0);
        }
    }
}


static void
fuzz_record(const unsigned char *data, size_t size)
{
    size_t          i;
    uint64_t        key[2];
    llmb_str_t      part;
    unsigned char  *p;

    fuzz_line(data, size);

    p = malloc(size + FUZZ_SUM);
    fuzz_check(p != NULL);
    memcpy(p, data, size);

    part.data = p;
    part.len = size;
    llmb_ledger_key(key, &part, 1);

    for (i = 0; i < FUZZ_SUM; i++) {
        p[size + i] = (unsigned char)
            "0123456789abcdef"[key[0] >> (60 - 4 * i) & 15];
    }

    fuzz_line(p, size + FUZZ_SUM);
    free(p);
}


static void
fuzz_line(const unsigned char *data, size_t size)
{
    size_t                len;
    llmb_str_t            line;
    unsigned char         out[LLMB_RECORD_LEN];
    static llmb_record_t  record;

    line.data = (unsigned char *) (uintptr_t) data;
    line.len = size;

    if (llmb_record_read(&line, &record) != LLMB_OK) {
        return;
    }

    len = llmb_record_write(out, &record);

    fuzz_check(len == size);
    fuzz_check(memcmp(out, data, size) == 0);
}


static void
fuzz_check(int fine)
{
    if (!fine) {
        abort();
    }
}
