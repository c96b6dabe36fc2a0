
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Operations of the ledger as lists of byte strings, as the Redis scripts in
 * redis/ take them, and their answers; and an operation as one record of bytes
 * that a journal keeps.  Pure text: whoever talks to a server brings the
 * protocol.
 *
 * All numbers travel as decimal text, so that none passes through a double.
 * All keys of an operation have one hash tag and are declared:
 *
 *     <prefix>{<tag>}:accounts  :holds  :due  :closed  :meta
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_CALL_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_CALL_H_INCLUDED_


#include "core/llmb_ledger.h"


#define LLMB_CALL_KEYS          5
#define LLMB_CALL_PREFIX        32      /* bytes of a prefix */
#define LLMB_CALL_TAG           64      /* bytes of a tag */

/* what one leg is in arguments, and the rest of a call */
#define LLMB_CALL_LEG_ARGS      3
#define LLMB_CALL_ARGS          (32 + LLMB_LEDGER_LEGS * LLMB_CALL_LEG_ARGS)

/* scratch for keys and numbers */
#define LLMB_CALL_TEXT          (1024 + LLMB_LEDGER_LEGS * 224)

/* accounts of one answer to a walk, at most */
#define LLMB_CALL_PORTION       64

/* bytes of the largest record of a journal */
#define LLMB_RECORD_LEN         (512 + LLMB_LEDGER_LEGS                       \
                                       * (LLMB_LEDGER_NAME + 128))


typedef enum {
    LLMB_CALL_OPEN = 0,
    LLMB_CALL_POST,
    LLMB_CALL_VOID,
    LLMB_CALL_EXTEND,
    LLMB_CALL_PEEK,
    LLMB_CALL_WALK,
    LLMB_CALLS
} llmb_call_e;


/* what all operations of a store have in common */

typedef struct {
    llmb_str_t              prefix;     /* [A-Za-z0-9_.:-], may be empty */
    unsigned                charge;     /* overdue holds: 1 charges them */
    int64_t                 keep_ms;    /* closed holds are remembered */
} llmb_call_conf_t;


/* an operation: what follows the digest or the source of its script */

typedef struct {
    unsigned                n;
    llmb_str_t              arg[LLMB_CALL_ARGS];    /* number of keys, keys,
                                                       arguments */
    size_t                  used;
    unsigned char           text[LLMB_CALL_TEXT];
} llmb_call_t;


/* an answer: a flat list of strings, as the script returned it */

typedef struct {
    unsigned                n;
    const llmb_str_t       *item;
} llmb_answer_t;


/* a closing of a hold, that outlives its request: what a journal keeps */

typedef struct {
    llmb_call_e             kind;       /* POST or VOID */
    unsigned char           id[LLMB_LEDGER_ID];
    llmb_str_t              tag;
    int64_t                 time_ms;    /* of the decision */
    unsigned                sent;       /* it may have been done already */
    int64_t                 actual[LLMB_UNITS];     /* POST */
    unsigned                n;          /* legs; their key, name, unit,
                                           start_ms, end_ms, limit, amount */
    llmb_ledger_leg_t       leg[LLMB_LEDGER_LEGS];
} llmb_record_t;


/* "open", "post", ...: also the name of the script's file */
const char *llmb_call_name(llmb_call_e kind);

/*
 * A tag that may stand between braces: text as it is, where it is 1 to
 * LLMB_CALL_TAG bytes of [A-Za-z0-9_.:@/-] and not like what stands for others,
 * which is "-" for empty text, and "h:" and 32 hex digits of a hash of it.
 * tag: LLMB_CALL_TAG bytes; returns the length.
 */
size_t llmb_call_tag(unsigned char *tag, const llmb_str_t *text);

/* Whether llmb_call_tag() can have made it. */
int llmb_call_is_tag(const llmb_str_t *text);

/* The cluster slot of a tag: CRC16 (XMODEM) modulo 16384, as Redis does. */
unsigned llmb_call_slot(const llmb_str_t *tag);

/*
 * Each makes the arguments of one call; the views in call->arg point into
 * call->text and into what was passed.  LLMB_OK; LLMB_INVALID: bad arguments
 * (as LLMB_LEDGER_BAD), or no room.  tag: as llmb_call_tag() made it.
 *
 * timeout_ms: the hold is overdue that long after the server's time.
 * Legs with the same key are one account of the summed amount, tested against
 * each limit, as llmb_ledger_open() does.
 */
llmb_rc_e llmb_call_open(llmb_call_t *call, const llmb_call_conf_t *conf,
    const llmb_str_t *tag, const llmb_ledger_open_t *op, int64_t timeout_ms);

/*
 * legs NULL: only a hold that is known is closed.  Else a hold that the server
 * does not know (never opened there, or lost) is charged all the same, once
 * by its id, on these n accounts, which are made where missing.
 */
llmb_rc_e llmb_call_post(llmb_call_t *call, const llmb_call_conf_t *conf,
    const llmb_str_t *tag, const unsigned char *id,
    const int64_t actual[LLMB_UNITS], const llmb_ledger_leg_t *legs,
    unsigned n);

/* An unknown id is remembered as voided: an open that comes late is CLOSED. */
llmb_rc_e llmb_call_void(llmb_call_t *call, const llmb_call_conf_t *conf,
    const llmb_str_t *tag, const unsigned char *id);

llmb_rc_e llmb_call_extend(llmb_call_t *call, const llmb_call_conf_t *conf,
    const llmb_str_t *tag, const unsigned char *id, int64_t timeout_ms);

/* Expires a batch of overdue holds; reads the counts, and n <= LEGS accounts */
llmb_rc_e llmb_call_peek(llmb_call_t *call, const llmb_call_conf_t *conf,
    const llmb_str_t *tag, const uint64_t (*keys)[2], unsigned n);

/* Expires a batch; reads the counts and some accounts from cursor ("0") on. */
llmb_rc_e llmb_call_walk(llmb_call_t *call, const llmb_call_conf_t *conf,
    const llmb_str_t *tag, const llmb_str_t *cursor);

/*
 * Read the answers.  LLMB_OK; LLMB_INVALID: not an answer of this script.
 * now_ms: the server's time.  *late: the server's time is outside the periods
 * of the legs (T29): nothing was done, make the legs anew for now_ms.
 */
llmb_rc_e llmb_answer_open(const llmb_answer_t *answer, llmb_ledger_open_t *op,
    llmb_ledger_rc_e *rc, int64_t *now_ms, unsigned *late);

/* post, void, extend; state as in llmb_ledger_post(), may be NULL */
llmb_rc_e llmb_answer_close(const llmb_answer_t *answer, llmb_ledger_rc_e *rc,
    int64_t *now_ms, llmb_hold_e *state);

/*
 * peek and walk: the counts; then accounts, n of them at most written, *n
 * gets their number.  Names view the answer.  An account that a peek asked
 * for and that is not there has no name and all zeros.  walk: *cursor views
 * the answer, "0" at the end.
 */
llmb_rc_e llmb_answer_read(const llmb_answer_t *answer,
    llmb_ledger_stat_t *stat, int64_t *now_ms, llmb_str_t *cursor,
    llmb_ledger_account_t *accounts, unsigned *n);

/*
 * A record as text on one line, without the line feed, checksummed; p has
 * LLMB_RECORD_LEN bytes.  Returns the length, 0: bad arguments.
 */
size_t llmb_record_write(unsigned char *p, const llmb_record_t *record);

/*
 * Reads one; tag and names view the line.  LLMB_OK; LLMB_INVALID: damaged, cut,
 * or of another version.
 */
llmb_rc_e llmb_record_read(const llmb_str_t *line, llmb_record_t *record);


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_CALL_H_INCLUDED_ */
