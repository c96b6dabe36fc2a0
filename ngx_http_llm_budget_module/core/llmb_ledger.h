
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The ledger: accounts and holds in one caller-supplied region of memory,
 * position independent (indexes, no pointers), so that it may live in shared
 * memory and be written to disk as it is.  Not thread-safe: the caller holds
 * a lock around each call.  Every call is atomic: all or nothing, and leaves
 * the region valid.
 *
 * An account is (budget, key value, unit, period id).  A hold is pending until
 * it is posted, voided or expired; it leaves pending exactly once, and
 * replaying any step changes nothing.  Closed holds are remembered
 * LLMB_LEDGER_KEEP_MS for replays.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_LEDGER_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_LEDGER_H_INCLUDED_


#include "core/llmb.h"


#define LLMB_LEDGER_LEGS        32      /* accounts of one hold */
#define LLMB_LEDGER_ID          16      /* bytes of a hold's id */
#define LLMB_LEDGER_NAME        128     /* bytes of a name kept for reports */
#define LLMB_LEDGER_MIN         65536   /* smallest region, bytes */

/* how long a closed hold is remembered; and an account after its period */
#define LLMB_LEDGER_KEEP_MS     INT64_C(600000)
#define LLMB_LEDGER_HISTORY_MS  INT64_C(3456000000)

/* overdue holds closed, and dead accounts freed, by one call at most */
#define LLMB_LEDGER_SWEEP       32


typedef enum {
    LLMB_UNIT_USD = 0,          /* nano-USD */
    LLMB_UNIT_TOKENS,
    LLMB_UNIT_INPUT_TOKENS,
    LLMB_UNIT_OUTPUT_TOKENS,
    LLMB_UNIT_REQUESTS,
    LLMB_UNIT_CONCURRENCY,      /* posted as 0: every hold returns in full */
    LLMB_UNITS
} llmb_unit_e;


/* "usd", "tokens", ... and back */
llmb_rc_e llmb_unit_parse(const llmb_str_t *text, llmb_unit_e *unit);
const char *llmb_unit_name(llmb_unit_e unit);


/* an account as an operation names it */

typedef struct {
    /*
     * Identity: 128 bits over budget, key value, unit and period id, made by
     * the caller with llmb_ledger_key(); name is for reports only.
     */
    uint64_t                key[2];
    llmb_str_t              name;       /* cut to LLMB_LEDGER_NAME */
    llmb_unit_e             unit;
    int64_t                 start_ms;   /* of the period; for stores with a
                                           clock of their own */
    int64_t                 end_ms;     /* of the period; INT64_MAX: never */

    int64_t                 limit;      /* >= 0; this call's limit */
    int64_t                 amount;     /* >= 0; to hold */

    /*
     * Refuse already when spent + held >= limit, though amount may be 0: for
     * requests that are charged afterwards (llm_budget_reserve off).
     */
    unsigned                postpaid;

    /*
     * Answer LLMB_LEDGER_DEGRADE instead of opening when spent + held, before
     * this hold, has reached degrade_at (INT64_MAX: never).
     */
    int64_t                 degrade_at;

    /* results of llmb_ledger_open(): before this hold; also when refused */
    int64_t                 spent;
    int64_t                 held;
} llmb_ledger_leg_t;


typedef enum {
    LLMB_LEDGER_OK = 0,         /* done, or done before: see replayed */
    LLMB_LEDGER_DENIED,         /* a leg has no room: nothing changed */
    LLMB_LEDGER_DEGRADE,        /* a leg is past its threshold: nothing
                                   changed */
    LLMB_LEDGER_FULL,           /* no account, hold or leg is free: nothing
                                   changed; never evicts a live one */
    LLMB_LEDGER_UNKNOWN,        /* no such hold (never was, or forgotten) */
    LLMB_LEDGER_CLOSED,         /* the hold was closed before, otherwise */
    LLMB_LEDGER_BAD             /* bad arguments: negative amount, too many
                                   legs, overflow: nothing changed */
} llmb_ledger_rc_e;


typedef enum {
    LLMB_HOLD_PENDING = 0,
    LLMB_HOLD_POSTED,
    LLMB_HOLD_VOIDED,
    LLMB_HOLD_EXPIRED
} llmb_hold_e;


typedef struct {
    unsigned char           id[LLMB_LEDGER_ID];
    unsigned                n;
    llmb_ledger_leg_t       leg[LLMB_LEDGER_LEGS];

    /* results */
    unsigned                denied;     /* DENIED, DEGRADE: index of the leg;
                                           with several, the first */
    unsigned                replayed;   /* this id was opened before */
} llmb_ledger_open_t;


typedef struct llmb_ledger_s  llmb_ledger_t;        /* the region */


typedef struct {
    uint64_t                accounts;       /* in use, and room for */
    uint64_t                accounts_max;
    uint64_t                holds;          /* records, closed ones too */
    uint64_t                holds_max;
    uint64_t                legs;
    uint64_t                legs_max;
    uint64_t                pending;        /* holds */
    uint64_t                opened;         /* counts since the beginning */
    uint64_t                posted;
    uint64_t                voided;
    uint64_t                expired;
    uint64_t                denied;
    uint64_t                full;
} llmb_ledger_stat_t;


typedef struct {
    llmb_str_t              name;       /* views the region */
    llmb_unit_e             unit;
    int64_t                 end_ms;
    int64_t                 limit;      /* as of the last open */
    int64_t                 spent;
    int64_t                 held;
    uint64_t                pending;    /* holds on it */
} llmb_ledger_account_t;


/*
 * Makes an empty ledger in a zero-filled or any region of size bytes, aligned
 * to 8.  NULL: smaller than LLMB_LEDGER_MIN.
 */
llmb_ledger_t *llmb_ledger_create(void *region, size_t size);

/* Takes an existing region on; NULL: not a ledger of this layout and size. */
llmb_ledger_t *llmb_ledger_adopt(void *region, size_t size);

/*
 * Identity of an account: a 128-bit hash over the parts with their lengths
 * and the seed, stable across machines and versions of this layout.
 */
void llmb_ledger_key(uint64_t key[2], const llmb_str_t *parts, unsigned n);

/*
 * Opens a hold over all legs, all or nothing: for each, spent + held + amount
 * <= limit, else DENIED.  An amount of 0 is refused only by postpaid.  Legs
 * with the same key are one leg of the summed amount, also when charged.  A
 * leg without room comes before a leg past its threshold.  Overdue holds and
 * dead accounts are swept first, LLMB_LEDGER_SWEEP at most.  A replay of a
 * pending id answers OK with replayed set and changes nothing; of a closed
 * one, CLOSED.
 */
llmb_ledger_rc_e llmb_ledger_open(llmb_ledger_t *ledger,
    llmb_ledger_open_t *op, int64_t now_ms, int64_t deadline_ms);

/*
 * Closes a pending hold: unit u of each leg is charged actual[u] (>= 0;
 * CONCURRENCY is charged 0 whatever it says) and the leg's held amount is
 * returned.  The actual may exceed the hold and the limit (T54).  spent
 * saturates at INT64_MAX.  A replay answers OK, changing nothing; a voided or
 * expired hold answers CLOSED.  *state, if not NULL, gets how it had been
 * closed.
 */
llmb_ledger_rc_e llmb_ledger_post(llmb_ledger_t *ledger,
    const unsigned char *id, const int64_t actual[LLMB_UNITS], int64_t now_ms,
    llmb_hold_e *state);

/* Closes a pending hold without a charge; replays as post. */
llmb_ledger_rc_e llmb_ledger_void(llmb_ledger_t *ledger,
    const unsigned char *id, int64_t now_ms, llmb_hold_e *state);

/* Moves the deadline of a pending hold, never earlier. */
llmb_ledger_rc_e llmb_ledger_extend(llmb_ledger_t *ledger,
    const unsigned char *id, int64_t deadline_ms);

/*
 * Closes overdue holds, max at most, and forgets closed holds and accounts of
 * long past periods.  charge: each leg is charged what it held (REQUESTS and
 * CONCURRENCY as in post), else released.  Returns the number expired.
 */
unsigned llmb_ledger_expire(llmb_ledger_t *ledger, int64_t now_ms,
    unsigned max);

/* The policy of expiry, kept in the region: 1 charges (default), 0 releases */
void llmb_ledger_expire_policy(llmb_ledger_t *ledger, unsigned charge);

/* spent, held and limit of an account; UNKNOWN: nothing was ever held there */
llmb_ledger_rc_e llmb_ledger_peek(const llmb_ledger_t *ledger,
    const uint64_t key[2], llmb_ledger_account_t *account);

/*
 * Walks the accounts: *cursor starts at 0; returns 1 with the next account,
 * 0 at the end.  The region may change between calls.
 */
int llmb_ledger_next(const llmb_ledger_t *ledger, uint64_t *cursor,
    llmb_ledger_account_t *account);

void llmb_ledger_stat(const llmb_ledger_t *ledger, llmb_ledger_stat_t *stat);

/*
 * Checks every invariant (lists, counts, held == sum of the pending legs,
 * nothing negative, no call left unfinished): 0, or the line of the check that
 * failed.  For tests and after a worker died while it held the lock; nothing
 * in the region but its size is trusted.
 */
int llmb_ledger_check(const llmb_ledger_t *ledger);


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_LEDGER_H_INCLUDED_ */
