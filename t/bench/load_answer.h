
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * An HTTP answer as the clients of scripts/bench read it, fed in pieces of any
 * size: its status, its framing and its end, and the last bytes of its body.
 */


#ifndef _LOAD_ANSWER_H_INCLUDED_
#define _LOAD_ANSWER_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>


#define LOAD_HEAD       8192
#define LOAD_TAIL       32
#define LOAD_ERROR      128


typedef enum {
    LOAD_HEADER = 0,
    LOAD_BODY,                  /* of the length in left */
    LOAD_CHUNK_SIZE,
    LOAD_CHUNK_DATA,
    LOAD_CHUNK_END,             /* the line feed after the data */
    LOAD_TRAILER,
    LOAD_DONE
} load_state_e;


typedef struct {
    load_state_e            state;
    uint64_t                body;       /* its bytes so far */
    uint64_t                left;
    unsigned                line;       /* bytes of a line of the framing */
    size_t                  head_len;
    size_t                  tail_len;
    char                    tail[LOAD_TAIL];
    char                    head[LOAD_HEAD];
} load_answer_t;


void load_answer_init(load_answer_t *answer);

/*
 * Takes bytes up to last, or to the answer's end, which makes its state
 * LOAD_DONE.  want: text that must stand in its head, or NULL.  Returns what
 * follows; NULL: not an answer that is wanted, error says why.
 */
const char *load_answer_feed(load_answer_t *answer, const char *p,
    const char *last, const char *want, char error[LOAD_ERROR]);

/* Does the body end so?  LOAD_TAIL bytes at most. */
int load_answer_ends(const load_answer_t *answer, const char *text);


#endif /* _LOAD_ANSWER_H_INCLUDED_ */
