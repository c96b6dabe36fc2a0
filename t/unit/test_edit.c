
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Splices: order, overlap, and every list of edits against a plain model.
 */


#include "core/llmb_edit.h"
#include "llmb_test.h"


#define TEST_SRC        "0123456789"


static llmb_rc_e
add(llmb_edits_t *edits, uint64_t start, uint64_t end, const char *text)
{
    llmb_str_t      str;
    static char     copies[4096];
    static size_t   used;

    str.len = strlen(text);

    if (used + str.len > sizeof(copies)) {
        used = 0;
    }

    memcpy(copies + used, text, str.len);
    str.data = (unsigned char *) copies + used;
    used += str.len;

    return llmb_edits_add(edits, start, end, &str);
}


static llmb_rc_e
apply(const llmb_edits_t *edits, const char *text, unsigned max, char *out,
    size_t *len, unsigned *n)
{
    size_t         src_len;
    uint64_t       total;
    unsigned       i;
    llmb_rc_e      rc;
    llmb_str_t     src, segs[2 * LLMB_EDIT_MAX + 1];
    unsigned char  copy[256];

    src_len = strlen(text);
    memcpy(copy, text, src_len);

    src.data = copy;
    src.len = src_len;

    rc = llmb_edits_apply(edits, &src, segs, max, n, &total);
    if (rc != LLMB_OK) {
        return rc;
    }

    *len = 0;

    for (i = 0; i < *n; i++) {

        if (segs[i].len == 0) {
            return LLMB_INVALID;
        }

        memcpy(out + *len, segs[i].data, segs[i].len);
        *len += segs[i].len;
    }

    return total == *len ? LLMB_OK : LLMB_INVALID;
}


static void
is_applied(const llmb_edits_t *edits, const char *want, unsigned want_n,
    const char *title)
{
    char       out[1024];
    size_t     len;
    unsigned   n;
    llmb_rc_e  rc;

    len = 0;
    n = 0;

    rc = apply(edits, TEST_SRC, 2 * edits->n + 1, out, &len, &n);

    if (rc != LLMB_OK) {
        ok(0, "%s", title);
        return;
    }

    is_str(out, len, want, title);
    is_int(n, want_n, "and in as many segments as it takes");
}


static void
test_order(void)
{
    llmb_edits_t  edits;

    llmb_edits_init(&edits);
    is_applied(&edits, TEST_SRC, 1, "no edit leaves the bytes alone");

    ok(add(&edits, 7, 9, "B") == LLMB_OK
       && add(&edits, 2, 4, "A") == LLMB_OK
       && add(&edits, 10, 10, "end") == LLMB_OK
       && add(&edits, 0, 0, "begin") == LLMB_OK,
       "edits are added in any order");
    is_applied(&edits, "begin01A456B9end", 7, "edits apply by their place");

    llmb_edits_init(&edits);
    ok(add(&edits, 5, 5, "a") == LLMB_OK
       && add(&edits, 5, 7, "R") == LLMB_OK
       && add(&edits, 5, 5, "b") == LLMB_OK
       && add(&edits, 3, 5, "L") == LLMB_OK
       && add(&edits, 5, 5, "c") == LLMB_OK,
       "insertions may stand at the edges of replacements");
    is_applied(&edits, "012LabcR789", 7,
               "insertions at one place keep the order of adding");

    llmb_edits_init(&edits);
    ok(add(&edits, 0, 10, "") == LLMB_OK, "everything may be cut");
    is_applied(&edits, "", 0, "and nothing is left");

    llmb_edits_init(&edits);
    ok(add(&edits, 0, 3, "") == LLMB_OK && add(&edits, 3, 5, "") == LLMB_OK
       && add(&edits, 9, 10, "") == LLMB_OK, "cuts may touch");
    is_applied(&edits, "5678", 1, "empty segments are left out");
}


static void
test_refused(void)
{
    char          out[1024];
    size_t        len;
    unsigned      i, n;
    llmb_edits_t  edits, before;

    llmb_edits_init(&edits);
    (void) add(&edits, 3, 6, "X");
    (void) add(&edits, 8, 8, "i");
    before = edits;

    is_int(add(&edits, 5, 4, ""), LLMB_INVALID, "a reversed range is refused");
    is_int(add(&edits, 3, 6, ""), LLMB_INVALID, "the same range is refused");
    is_int(add(&edits, 3, 4, ""), LLMB_INVALID, "the same start is refused");
    is_int(add(&edits, 2, 4, ""), LLMB_INVALID, "overlap left is refused");
    is_int(add(&edits, 5, 7, ""), LLMB_INVALID, "overlap right is refused");
    is_int(add(&edits, 4, 4, ""), LLMB_INVALID, "inside is refused");
    is_int(add(&edits, 0, 10, ""), LLMB_INVALID, "around is refused");
    is_int(add(&edits, 7, 9, ""), LLMB_INVALID,
           "a range around an insertion is refused");
    ok(memcmp(&before, &edits, sizeof(llmb_edits_t)) == 0,
       "a refused edit leaves the list unchanged");

    is_int(apply(&edits, TEST_SRC, 4, out, &len, &n), LLMB_NOSPACE,
           "too few segments are refused");
    is_int(apply(&edits, TEST_SRC, 5, out, &len, &n), LLMB_OK,
           "just enough segments are fine");
    is_int(apply(&edits, "0123456", 9, out, &len, &n), LLMB_INVALID,
           "an insertion outside the bytes is refused");
    is_int(apply(&edits, "01234567", 9, out, &len, &n), LLMB_OK,
           "an insertion at the end is fine");

    llmb_edits_init(&edits);

    for (i = 0; i < LLMB_EDIT_MAX; i++) {
        if (add(&edits, 5, 5, "x") != LLMB_OK) {
            break;
        }
    }

    is_int(i, LLMB_EDIT_MAX, "the list takes as many as it says");
    is_int(add(&edits, 6, 6, "y"), LLMB_NOSPACE, "one more is refused");
    is_int(edits.n, LLMB_EDIT_MAX, "and not added");
    is_int(apply(&edits, TEST_SRC, 2 * LLMB_EDIT_MAX + 1, out, &len, &n),
           LLMB_OK, "a full list applies");
    is_int((int64_t) len, 10 + LLMB_EDIT_MAX, "completely");

    llmb_edits_init(&edits);
    (void) add(&edits, 0, 0, "{}");
    is_int(apply(&edits, "", 3, out, &len, &n), LLMB_OK,
           "empty bytes can be inserted into");
    is_str(out, len, "{}", "and only the insertion is there");
}


/*
 * The model: what follows each byte place, and which bytes are gone.  Random
 * edits; both must accept the same and give the same bytes.
 */

static void
test_model(void)
{
    char          want[1024], out[1024], ins[11][64], text[2];
    size_t        len, w;
    unsigned      i, j, n, round, k, start, end, gone[10], first[11], bad;
    unsigned      wrong, clash, seed;
    llmb_rc_e     rc;
    llmb_edits_t  edits;

    seed = 1;
    wrong = 0;

    for (round = 0; round < 20000; round++) {

        llmb_edits_init(&edits);
        memset(ins, 0, sizeof(ins));
        memset(gone, 0, sizeof(gone));
        memset(first, 0, sizeof(first));

        for (k = 0; k < 6; k++) {
            seed = seed * 1103515245u + 12345u;
            start = (seed >> 16) % 11;
            end = start + (seed >> 24) % 4;
            end = end > 10 ? 10 : end;
            text[0] = (char) ('a' + k);
            text[1] = '\0';

            clash = 0;

            for (i = start; i < end; i++) {
                clash |= gone[i];
                clash |= (i > start && ins[i][0] != '\0');
            }

            if (start == end && start > 0 && start < 10) {
                clash = gone[start - 1] && gone[start - 1] == gone[start];
            }

            rc = add(&edits, start, end, text);

            if ((rc == LLMB_OK) == (clash != 0)) {
                wrong++;
            }

            if (clash) {
                continue;
            }

            if (start == end) {
                j = (unsigned) strlen(ins[start]);
                ins[start][j] = text[0];
                ins[start][j + 1] = '\0';
                continue;
            }

            for (i = start; i < end; i++) {
                gone[i] = k + 1;
            }

            first[start] = k + 1;
        }

        w = 0;

        for (i = 0; i <= 10; i++) {
            memcpy(want + w, ins[i], strlen(ins[i]));
            w += strlen(ins[i]);

            if (first[i]) {
                want[w++] = (char) ('a' + first[i] - 1);
            }

            if (i < 10 && !gone[i]) {
                want[w++] = TEST_SRC[i];
            }
        }

        bad = apply(&edits, TEST_SRC, 2 * edits.n + 1, out, &len, &n)
              != LLMB_OK;

        if (bad || len != w || memcmp(out, want, w) != 0) {
            wrong++;
        }
    }

    is_int(wrong, 0, "random lists of edits agree with a plain model");
}


int
main(void)
{
    test_order();
    test_refused();
    test_model();

    return test_done();
}
