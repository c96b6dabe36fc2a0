
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What the parts of the scanner share (private to llmb_json*.c): its states,
 * and the steps of each part.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_JSON_STATE_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_JSON_STATE_H_INCLUDED_


#include "core/llmb_json.h"


/* up to DONE: between tokens; from MINUS: inside a number, ZERO ends one */

typedef enum {
    LLMB_JSON_S_VALUE = 0,
    LLMB_JSON_S_FIRST_VALUE,    /* or "]" */
    LLMB_JSON_S_KEY,
    LLMB_JSON_S_FIRST_KEY,      /* or "}" */
    LLMB_JSON_S_COLON,
    LLMB_JSON_S_NEXT,           /* "," or the end of the container */
    LLMB_JSON_S_DONE,
    LLMB_JSON_S_STOPPED,
    LLMB_JSON_S_STRING,
    LLMB_JSON_S_UTF8,           /* utf8_left more bytes of a character */
    LLMB_JSON_S_ESCAPE,
    LLMB_JSON_S_HEX,
    LLMB_JSON_S_LOW,            /* "\" of a low surrogate */
    LLMB_JSON_S_LOW_U,          /* and its "u" */
    LLMB_JSON_S_LITERAL,
    LLMB_JSON_S_MINUS,
    LLMB_JSON_S_POINT,
    LLMB_JSON_S_E,
    LLMB_JSON_S_E_SIGN,
    LLMB_JSON_S_ZERO,
    LLMB_JSON_S_INT,
    LLMB_JSON_S_FRACTION,
    LLMB_JSON_S_EXPONENT
} llmb_json_state_e;


/*
 * A step takes what it can of [p, last), which is not empty, and returns the
 * first byte it did not take: STRING; MINUS and above; one byte of an escape
 * or of a cut character, which returns 0 if not taken.
 */
const unsigned char *llmb_json_string(llmb_json_t *js, const unsigned char *p,
    const unsigned char *last);
const unsigned char *llmb_json_number(llmb_json_t *js, const unsigned char *p,
    const unsigned char *last);
size_t llmb_json_byte(llmb_json_t *js, unsigned char c);

/* Appends to the text of the token, as far as there is room. */
void llmb_json_keep(llmb_json_t *js, const unsigned char *p, size_t len);

/* A key or a value is complete: goes to the handler. */
void llmb_json_finish(llmb_json_t *js, uint64_t end);

/* The byte at hand is refused, and all that follow. */
void llmb_json_stop(llmb_json_t *js, llmb_rc_e rc);


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_JSON_STATE_H_INCLUDED_ */
