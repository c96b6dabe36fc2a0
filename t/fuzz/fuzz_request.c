
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Fuzzes the request reader.  The input is a body, read in every dialect; its
 * hash chooses the size of the pieces and the members to cut.
 */


#include "core/llmb_request.h"

#include <stdlib.h>
#include <string.h>


#define FUZZ_MAX_LEN    65536


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static void fuzz_read(llmb_dialect_e dialect, const unsigned char *p,
    size_t len);
static llmb_rc_e fuzz_feed(llmb_request_t *req, llmb_dialect_e dialect,
    const unsigned char *p, size_t len, size_t step);
static void fuzz_check(const llmb_request_t *req, size_t len);
static void fuzz_cut(const llmb_request_t *req, const unsigned char *p,
    size_t len, uint32_t seed);
static void fuzz_assert(int condition);


static llmb_request_t  whole;
static llmb_request_t  pieces;
static unsigned char   out[FUZZ_MAX_LEN];


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned  i;

    if (size == 0 || size > FUZZ_MAX_LEN) {
        return 0;
    }

    for (i = 0; i < LLMB_DIALECT_N; i++) {
        fuzz_read((llmb_dialect_e) i, data, size);
    }

    return 0;
}


static void
fuzz_read(llmb_dialect_e dialect, const unsigned char *p, size_t len)
{
    uint32_t   seed;
    llmb_rc_e  rc;

    seed = llmb_request_hash(p, len);

    memset(&whole, 0x5a, sizeof(llmb_request_t));
    memset(&pieces, 0xa5, sizeof(llmb_request_t));

    rc = fuzz_feed(&whole, dialect, p, len, len);

    fuzz_assert(fuzz_feed(&pieces, dialect, p, len, seed % 16 + 1) == rc);
    fuzz_assert(memcmp(&whole, &pieces, offsetof(llmb_request_t, json)) == 0);

    fuzz_assert(rc == LLMB_OK || rc == LLMB_INVALID);
    fuzz_assert((rc == LLMB_OK) == (whole.error == LLMB_REQUEST_OK));

    if (rc == LLMB_OK) {
        fuzz_check(&whole, len);
        fuzz_cut(&whole, p, len, seed);
    }
}


static llmb_rc_e
fuzz_feed(llmb_request_t *req, llmb_dialect_e dialect, const unsigned char *p,
    size_t len, size_t step)
{
    size_t     n;
    llmb_rc_e  rc;

    llmb_request_init(req, dialect);

    while (len) {
        n = len < step ? len : step;

        rc = llmb_request_feed(req, p, n);

        if (rc != LLMB_OK && rc != LLMB_AGAIN) {
            fuzz_assert(rc == LLMB_INVALID);
            fuzz_assert(llmb_request_end(req) == LLMB_INVALID);
            return rc;
        }

        p += n;
        len -= n;
    }

    return llmb_request_end(req);
}


/* What was read fits the body. */

static void
fuzz_check(const llmb_request_t *req, size_t len)
{
    int64_t                    answers;
    unsigned                   i;
    uint64_t                   end;
    const char                *name;
    const llmb_request_int_t  *ceiling;

    fuzz_assert(req->text_bytes <= len);
    fuzz_assert(req->media_bytes <= len);
    fuzz_assert(req->text_bytes + req->media_bytes + req->token_ids <= len);
    fuzz_assert(req->messages <= len && req->prompts <= len);
    fuzz_assert(req->images + req->audios + req->files <= len);
    fuzz_assert(req->model_range.end <= len && req->include_usage.end <= len);
    fuzz_assert(req->stream_options.end <= len);
    fuzz_assert(req->hosted_searches <= req->hosted_tools);

    end = req->object_start + 1;

    for (i = 0; i < req->n_members; i++) {
        fuzz_assert(req->members[i].key_start >= end);
        fuzz_assert(req->members[i].end > req->members[i].key_start);
        end = req->members[i].end;
    }

    fuzz_assert(end < len);

    ceiling = llmb_request_ceiling(req, &name);

    if (ceiling) {
        fuzz_assert(ceiling->is_set && ceiling->value >= 0);
        fuzz_assert(ceiling->value <= LLMB_REQUEST_INT_MAX);
        fuzz_assert(ceiling->range.end <= len);
    }

    if (llmb_request_answers(req, &answers) == LLMB_OK) {
        fuzz_assert(answers >= 1);
    }
}


/* A body without some of its members is still a body, with the others. */

static void
fuzz_cut(const llmb_request_t *req, const unsigned char *p, size_t len,
    unsigned seed)
{
    size_t         n, run;
    unsigned       i, left;
    uint64_t       pos;
    llmb_range_t   cut;
    unsigned char  drop[LLMB_REQUEST_MEMBERS];

    pos = 0;
    n = 0;
    left = 0;

    for (i = 0; i < LLMB_REQUEST_MEMBERS; i++) {
        seed = seed * 1103515245u + 12345u;
        drop[i] = (unsigned char) ((seed >> 16) & 1);
    }

    for (i = 0; i < req->n_members; i++) {

        if (!drop[i]) {
            left++;
            continue;
        }

        llmb_request_member_cut(req, drop, i, &cut);

        fuzz_assert(cut.start >= pos && cut.end > cut.start && cut.end < len);

        run = (size_t) (cut.start - pos);
        memcpy(out + n, p + pos, run);
        n += run;
        pos = cut.end;
    }

    memcpy(out + n, p + pos, len - (size_t) pos);
    n += len - (size_t) pos;

    (void) fuzz_feed(&pieces, req->dialect, out, n, n);

    fuzz_assert(pieces.error == LLMB_REQUEST_OK
                || pieces.error == LLMB_REQUEST_NO_MODEL);
    fuzz_assert(pieces.n_members == left);
}


static void
fuzz_assert(int condition)
{
    if (!condition) {
        abort();
    }
}
