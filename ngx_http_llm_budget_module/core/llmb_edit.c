
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Splices.  In the list an insertion stands before a replacement that begins
 * at the same byte, so that it is by start and by end at once.
 */


#include "core/llmb_edit.h"

#include <string.h>


static llmb_rc_e llmb_edits_seg(llmb_str_t *segs, unsigned max, unsigned *n,
    unsigned char *data, size_t len);


void
llmb_edits_init(llmb_edits_t *edits)
{
    edits->n = 0;
}


llmb_rc_e
llmb_edits_add(llmb_edits_t *edits, uint64_t start, uint64_t end,
    const llmb_str_t *text)
{
    unsigned      i;
    llmb_edit_t  *edit;

    if (start > end) {
        return LLMB_INVALID;
    }

    /* behind all that begin before, and behind insertions at this place */

    for (i = 0; i < edits->n; i++) {
        edit = &edits->edit[i];

        if (edit->start > start
            || (edit->start == start && edit->end > edit->start))
        {
            break;
        }
    }

    if (i > 0 && edits->edit[i - 1].end > start) {
        return LLMB_INVALID;
    }

    if (i < edits->n && edits->edit[i].start < end) {
        return LLMB_INVALID;
    }

    if (edits->n == LLMB_EDIT_MAX) {
        return LLMB_NOSPACE;
    }

    edit = &edits->edit[i];

    if (i < edits->n) {
        memmove(edit + 1, edit, (edits->n - i) * sizeof(llmb_edit_t));
    }

    edit->start = start;
    edit->end = end;
    edit->text = *text;

    edits->n++;

    return LLMB_OK;
}


llmb_rc_e
llmb_edits_apply(const llmb_edits_t *edits, const llmb_str_t *src,
    llmb_str_t *segs, unsigned max, unsigned *n, uint64_t *total)
{
    size_t              pos;
    unsigned            i, count;
    uint64_t            sum;
    llmb_rc_e           rc;
    const llmb_edit_t  *edit;

    /* the last edit ends last */

    if (edits->n && edits->edit[edits->n - 1].end > src->len) {
        return LLMB_INVALID;
    }

    pos = 0;
    count = 0;

    for (i = 0; i < edits->n; i++) {
        edit = &edits->edit[i];

        if (edit->start > pos) {
            rc = llmb_edits_seg(segs, max, &count, src->data + pos,
                                (size_t) edit->start - pos);
            if (rc != LLMB_OK) {
                return rc;
            }
        }

        rc = llmb_edits_seg(segs, max, &count, edit->text.data,
                            edit->text.len);
        if (rc != LLMB_OK) {
            return rc;
        }

        pos = (size_t) edit->end;
    }

    if (src->len > pos) {
        rc = llmb_edits_seg(segs, max, &count, src->data + pos,
                            src->len - pos);
        if (rc != LLMB_OK) {
            return rc;
        }
    }

    sum = 0;

    for (i = 0; i < count; i++) {
        sum += segs[i].len;
    }

    *n = count;
    *total = sum;

    return LLMB_OK;
}


static llmb_rc_e
llmb_edits_seg(llmb_str_t *segs, unsigned max, unsigned *n,
    unsigned char *data, size_t len)
{
    if (len == 0) {
        return LLMB_OK;
    }

    if (*n == max) {
        return LLMB_NOSPACE;
    }

    segs[*n].data = data;
    segs[*n].len = len;
    (*n)++;

    return LLMB_OK;
}
