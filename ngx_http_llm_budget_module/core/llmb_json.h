
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Strict, resumable JSON scanner (RFC 8259), fed in pieces of any size.  It
 * builds nothing: each token goes to a handler with its byte range in the
 * document and at most LLMB_JSON_TEXT decoded bytes.  Memory is constant,
 * time is linear, nesting is a bit stack, nothing recurses (T34).
 *
 * Refused (T33): invalid UTF-8 (overlong forms, surrogates and values above
 * U+10FFFF included), lone surrogate escapes, raw control characters in
 * strings, comments, NaN, Infinity, leading zeros, "+1", ".5", "1.", trailing
 * commas, trailing data, a BOM, UTF-16, an empty document, nesting deeper
 * than max_depth.  Duplicate keys are the handler's business.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_JSON_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_JSON_H_INCLUDED_


#include "core/llmb.h"


typedef enum {
    LLMB_JSON_OBJECT = 0,
    LLMB_JSON_OBJECT_END,
    LLMB_JSON_ARRAY,
    LLMB_JSON_ARRAY_END,
    LLMB_JSON_KEY,
    LLMB_JSON_STRING,
    LLMB_JSON_NUMBER,
    LLMB_JSON_TRUE,
    LLMB_JSON_FALSE,
    LLMB_JSON_NULL
} llmb_json_type_e;


typedef struct {
    llmb_json_type_e        type;

    /*
     * Containers around the token: 0 for the top-level value itself and for
     * its END, 1 for a key or value directly inside it, and so on.  OBJECT
     * and the matching OBJECT_END have the same depth.
     */
    unsigned                depth;

    /*
     * First byte and one past the last, counted from the first byte fed;
     * quotes included.  For OBJECT, ARRAY and the ENDs it is the one bracket.
     */
    uint64_t                start;
    uint64_t                end;

    /*
     * KEY, STRING: the decoded text, cut after LLMB_JSON_TEXT bytes (perhaps
     * inside a character); valid during the handler's call only.  NUMBER:
     * the literal, cut likewise.  Others: empty.
     */
    llmb_str_t              text;

    /* decoded length of the whole text in bytes; > text.len if it was cut */
    uint64_t                text_len;
} llmb_json_token_t;


/*
 * LLMB_OK goes on.  Anything else stops the scanner: feed returns that code,
 * now and ever after.
 */
typedef llmb_rc_e (*llmb_json_handler_pt)(void *data,
    const llmb_json_token_t *token);


/*
 * LLMB_JSON_LAX_TEXT accepts invalid UTF-8 and lone surrogate escapes inside
 * strings (the latter decode to U+FFFD): for answers, where providers cut
 * deltas anywhere and a text we do not act on must not hide the usage.
 */
#define LLMB_JSON_LAX_TEXT      0x01


typedef struct {
    llmb_json_handler_pt    handler;
    void                   *data;
    uint64_t                offset;     /* bytes consumed so far */
    llmb_rc_e               rc;         /* sticky */
    unsigned                flags;
    unsigned                max_depth;

    /* private */
    unsigned                state;
    unsigned                depth;
    unsigned                utf8_left;
    unsigned                utf8_low;
    unsigned                utf8_high;
    uint32_t                hex;
    unsigned                hex_left;
    uint32_t                surrogate;
    unsigned                literal;
    uint64_t                stack[2];   /* a bit per level: 1 is an object */
    llmb_json_token_t       token;
    unsigned char           text[LLMB_JSON_TEXT];
} llmb_json_t;


/* max_depth is at most LLMB_ANSWER_DEPTH.  Cheap: text is not cleared. */
void llmb_json_init(llmb_json_t *js, unsigned flags, unsigned max_depth,
    llmb_json_handler_pt handler, void *data);

/*
 * LLMB_AGAIN: the document is not complete yet; LLMB_OK: the top-level value
 * is complete (more white space may follow, anything else is LLMB_INVALID);
 * LLMB_INVALID; LLMB_LIMIT: too deep; or the handler's own code.  A top-level
 * number is complete only at llmb_json_end().  After a failure js->offset is
 * the offset of the byte that was refused.
 */
llmb_rc_e llmb_json_feed(llmb_json_t *js, const unsigned char *p, size_t len);

/* No more bytes: LLMB_OK or LLMB_INVALID (or the earlier failure). */
llmb_rc_e llmb_json_end(llmb_json_t *js);

/*
 * The literal of a NUMBER token as an integer: "28", "28.0", "2.8e1" are 28
 * (wire-formats.md, trap 19).  LLMB_INVALID: has a fraction or was cut;
 * LLMB_OVERFLOW: does not fit int64_t.  "-0" is 0.
 */
llmb_rc_e llmb_json_int(const llmb_json_token_t *token, int64_t *n);


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_JSON_H_INCLUDED_ */
