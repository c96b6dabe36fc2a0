
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Any bytes as an answer: nothing breaks, it is read alike whole, byte by
 * byte and cut in two, and what comes out is in the normal form.  The first
 * two bytes choose the dialect and the cut.
 */


#include "core/llmb_usage.h"

#include <stdlib.h>
#include <string.h>


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static unsigned fuzz_run(llmb_usage_reader_t *reader, llmb_dialect_e dialect,
    const uint8_t *data, size_t size, size_t first, size_t step);
static void fuzz_check(int fine);
static void fuzz_counts(const llmb_usage_counts_t *counts);
static void fuzz_same(const llmb_usage_reader_t *a,
    const llmb_usage_reader_t *b);


static llmb_usage_reader_t  fuzz_whole, fuzz_bytes, fuzz_cut;


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t          cut;
    unsigned        only;
    llmb_dialect_e  dialect;

    if (size < 3) {
        return 0;
    }

    dialect = (llmb_dialect_e) (data[0] % LLMB_DIALECT_N);
    cut = 1 + (data[1] * (size - 2)) / 256;

    data += 2;
    size -= 2;

    only = fuzz_run(&fuzz_whole, dialect, data, size, size, size);
    fuzz_check(only == fuzz_run(&fuzz_bytes, dialect, data, size, 1, 1));
    fuzz_check(only == fuzz_run(&fuzz_cut, dialect, data, size, cut, size));

    fuzz_same(&fuzz_whole, &fuzz_bytes);
    fuzz_same(&fuzz_whole, &fuzz_cut);

    return 0;
}


/* Each piece is copied, so that a sanitizer sees reads beyond its end. */

static unsigned
fuzz_run(llmb_usage_reader_t *reader, llmb_dialect_e dialect,
    const uint8_t *data, size_t size, size_t first, size_t step)
{
    size_t          n, used, piece;
    unsigned        only;
    unsigned char  *p;

    llmb_usage_init(reader, dialect);

    only = 0;
    piece = first;

    while (size) {

        if (piece > size) {
            piece = size;
        }

        p = malloc(piece);
        fuzz_check(p != NULL);
        memcpy(p, data, piece);

        for (n = 0; n < piece; n += used) {
            used = llmb_usage_feed(reader, p + n, piece - n);
            fuzz_check(used > 0 && used <= piece - n);

            if (reader->event == LLMB_EVENT_USAGE_ONLY) {
                fuzz_check(!reader->event_plain);
                only++;
            }
        }

        free(p);

        data += piece;
        size -= piece;
        piece = step;
    }

    llmb_usage_end(reader);

    return only + (reader->event == LLMB_EVENT_USAGE_ONLY);
}


static void
fuzz_check(int fine)
{
    if (!fine) {
        abort();
    }
}


static void
fuzz_counts(const llmb_usage_counts_t *counts)
{
    unsigned  i;

    for (i = 0; i < LLMB_USAGE_FIELDS; i++) {
        fuzz_check(counts->n[i] >= 0);
    }

    fuzz_check(counts->n[LLMB_USAGE_CACHE_WRITE]
               == counts->n[LLMB_USAGE_CACHE_WRITE_5M]
                  + counts->n[LLMB_USAGE_CACHE_WRITE_1H]);

    fuzz_check(counts->n[LLMB_USAGE_CACHED_READ]
               + counts->n[LLMB_USAGE_CACHE_WRITE]
               <= counts->n[LLMB_USAGE_INPUT]);
}


static void
fuzz_same(const llmb_usage_reader_t *a, const llmb_usage_reader_t *b)
{
    unsigned      i, k;
    llmb_rc_e     rc;
    llmb_usage_t  x, y;

    for (k = 0; k < 2; k++) {
        rc = llmb_usage_result(a, k, &x);

        fuzz_check(rc == llmb_usage_result(b, k, &y));
        fuzz_check(a->seen == b->seen);
        fuzz_check(a->content_bytes == b->content_bytes);
        fuzz_check(a->content_deltas == b->content_deltas);

        fuzz_check(x.flags == y.flags);
        fuzz_check(memcmp(&x.counts.n, &y.counts.n, sizeof(x.counts.n)) == 0);
        fuzz_check(x.model_len == y.model_len);
        fuzz_check(memcmp(x.model, y.model, x.model_len) == 0);
        fuzz_check(x.tier_len == y.tier_len);
        fuzz_check(memcmp(x.tier, y.tier, x.tier_len) == 0);
        fuzz_check(x.n_extra == y.n_extra && x.n_extra <= LLMB_USAGE_EXTRA);

        for (i = 0; i < x.n_extra; i++) {
            fuzz_check(memcmp(&x.extra[i].counts.n, &y.extra[i].counts.n,
                              sizeof(x.extra[i].counts.n)) == 0);
            fuzz_check(x.extra[i].model_len == y.extra[i].model_len);
        }

        if (rc != LLMB_OK) {
            continue;
        }

        fuzz_counts(&x.counts);

        for (i = 0; i < x.n_extra; i++) {
            fuzz_counts(&x.extra[i].counts);
        }
    }
}
