
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Splices: an ordered list of edits on pristine bytes.  The list is made
 * anew for each attempt, so edits never stack (T36); applying it yields
 * segments that view either the pristine bytes or a replacement.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_EDIT_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_EDIT_H_INCLUDED_


#include "core/llmb.h"


#define LLMB_EDIT_MAX           32


typedef struct {
    uint64_t                start;      /* bytes [start, end) are replaced */
    uint64_t                end;        /* start == end inserts */
    llmb_str_t              text;       /* owned by the caller */
} llmb_edit_t;


typedef struct {
    unsigned                n;
    llmb_edit_t             edit[LLMB_EDIT_MAX];    /* by start, disjoint */
} llmb_edits_t;


void llmb_edits_init(llmb_edits_t *edits);

/*
 * Adds an edit in its place; insertions at one place keep the order of their
 * adding.  LLMB_INVALID: start > end or it overlaps another edit;
 * LLMB_NOSPACE: the list is full.  The list is unchanged then.
 */
llmb_rc_e llmb_edits_add(llmb_edits_t *edits, uint64_t start, uint64_t end,
    const llmb_str_t *text);

/*
 * Cuts src into segments: unchanged runs and replacements in turn, empty
 * ones left out.  At most 2 * edits->n + 1 segments; segs holds max.
 * LLMB_INVALID: an edit lies outside src; LLMB_NOSPACE.  *n and *total (the
 * new length) are set on LLMB_OK.
 */
llmb_rc_e llmb_edits_apply(const llmb_edits_t *edits, const llmb_str_t *src,
    llmb_str_t *segs, unsigned max, unsigned *n, uint64_t *total);


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_EDIT_H_INCLUDED_ */
