
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Configuration and context types, and the view adapter between nginx and
 * the core.  The hub header: it includes nothing of its own folder.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "core/llmb_call.h"
#include "core/llmb_edit.h"
#include "core/llmb_endpoint.h"
#include "core/llmb_ledger.h"
#include "core/llmb_period.h"
#include "core/llmb_policy.h"
#include "core/llmb_price.h"
#include "core/llmb_request.h"
#include "core/llmb_usage.h"


/* hex digits of a SHA-256, and of a hold's id */
#define NGX_HTTP_LLM_BUDGET_HASH_LEN    64
#define NGX_HTTP_LLM_BUDGET_ID_LEN      (2 * LLMB_LEDGER_ID)

/* rungs and limits of one location; drops and maps of one rung */
#define NGX_HTTP_LLM_BUDGET_RUNGS       16
#define NGX_HTTP_LLM_BUDGET_LIMITS      24
#define NGX_HTTP_LLM_BUDGET_DROPS       16

/* bytes of a presented key; longer ones are refused */
#define NGX_HTTP_LLM_BUDGET_KEY_MAX     4096

/* bytes of a limit's key value */
#define NGX_HTTP_LLM_BUDGET_VALUE_MAX   1024

/* bytes of the name of a limit, and of a code */
#define NGX_HTTP_LLM_BUDGET_NAME_MAX    64


typedef struct ngx_http_llm_budget_store_s  ngx_http_llm_budget_store_t;
typedef struct ngx_http_llm_budget_call_s  ngx_http_llm_budget_call_t;
typedef struct ngx_http_llm_budget_read_s  ngx_http_llm_budget_read_t;


/* where a directive stands, for what is found out after all was read */

typedef struct {
    u_char                          *file;
    ngx_uint_t                       line;
} ngx_http_llm_budget_place_t;


/* an upstream with its credential */

typedef struct {
    ngx_str_t                        name;
    ngx_str_t                        scheme;    /* "https://" */
    ngx_str_t                        upstream;  /* upstream block or host */
    ngx_str_t                        base;      /* base path for "/v1"; may be
                                                   empty: paths as they are */
    ngx_str_t                        host;      /* Host and SNI */
    ngx_str_t                        api_key;   /* credential; may be empty */
    ngx_str_t                        carrier;   /* header of the credential;
                                                   empty: by the dialect */
} ngx_http_llm_budget_provider_t;


typedef struct {
    ngx_str_t                        name;
    ngx_http_complex_value_t        *key;       /* NULL: the caller's key id */
    ngx_str_t                        key_text;  /* as it was written */
    ngx_http_complex_value_t        *amount[LLMB_UNITS];    /* or NULL */
    int64_t                          fixed[LLMB_UNITS];     /* -1: variable */
    llmb_period_e                    period;
    ngx_uint_t                       period_set;    /* unsigned  :1; */
    ngx_str_t                        code;      /* of its refusals, or empty */
    ngx_http_llm_budget_place_t     *place;
} ngx_http_llm_budget_limit_t;


/* one rung of a degrade ladder */

typedef struct {
    ngx_uint_t                       at;        /* percent */
    ngx_array_t                      maps;      /* ngx_keyval_t: from, to */
    ngx_str_t                        of;        /* limit's name, or empty */
    ngx_array_t                      drops;     /* ngx_str_t: members */
    ngx_int_t                        max_output;    /* tokens, or -1 */
    ngx_http_llm_budget_provider_t  *pass;      /* or NULL */
    ngx_http_llm_budget_place_t     *place;
} ngx_http_llm_budget_rung_t;


typedef enum {
    NGX_HTTP_LLM_BUDGET_RESERVE_BOUND = 0,
    NGX_HTTP_LLM_BUDGET_RESERVE_DEFAULT,
    NGX_HTTP_LLM_BUDGET_RESERVE_OFF
} ngx_http_llm_budget_reserve_e;


/* llm_budget_store; by default redis, if there is one */

typedef enum {
    NGX_HTTP_LLM_BUDGET_STORE_DEFAULT = 0,
    NGX_HTTP_LLM_BUDGET_STORE_ZONE,
    NGX_HTTP_LLM_BUDGET_STORE_REDIS
} ngx_http_llm_budget_store_e;


/* where the accounts of a limit are */

typedef struct {
    ngx_str_t                        name;
    ngx_http_llm_budget_store_t     *store;
    ngx_str_t                        tag;       /* as it was written */
} ngx_http_llm_budget_home_t;


/* what is done with a request while the store is away */

typedef enum {
    NGX_HTTP_LLM_BUDGET_OUTAGE_NONE = 0,    /* of a request: it was not */
    NGX_HTTP_LLM_BUDGET_OUTAGE_DENY,
    NGX_HTTP_LLM_BUDGET_OUTAGE_ALLOW,
    NGX_HTTP_LLM_BUDGET_OUTAGE_LOCAL
} ngx_http_llm_budget_outage_e;


typedef struct {
    ngx_shm_zone_t                  *shm_zone;
    ngx_http_llm_budget_store_t     *zone;      /* or NULL */
    ngx_http_llm_budget_store_t     *redis;     /* or NULL */

    ngx_str_t                        journal;   /* folder */
    off_t                            journal_len;

    ngx_str_t                        prices_file;
    llmb_price_table_t               prices;

    ngx_array_t                      providers; /* of pointers */
    ngx_array_t                      homes;     /* of limits, where they are
                                                   counted */
    ngx_array_t                      aliases;   /* llmb_str_t, in pairs */
    ngx_array_t                      alias_places;  /* pointers, per pair */

    ngx_uint_t                       expire;    /* 1: charge, 0: release */
    ngx_uint_t                       used;      /* some location is metered */
} ngx_http_llm_budget_main_conf_t;


typedef struct {
    ngx_flag_t                       enable;
    ngx_array_t                     *keys;      /* ngx_http_complex_value_t */
    ngx_array_t                     *limits;    /* limit_t */
    ngx_array_t                     *rungs;     /* ngx_http_llm_budget_rung_t */
    ngx_array_t                     *endpoints; /* llmb_endpoint_t */
    ngx_http_llm_budget_provider_t  *provider;  /* or NULL */

    ngx_uint_t                       store_kind;    /* ..._store_e */
    ngx_http_llm_budget_store_t     *store;     /* of a metered location */
    ngx_uint_t                       outage;    /* ..._outage_e */
    ngx_uint_t                       share;     /* percent, of local */
    ngx_http_complex_value_t        *tag;       /* or NULL */
    ngx_str_t                        tag_text;  /* as it was written */

    ngx_uint_t                       reserve;
    ngx_int_t                        reserve_output;
    ngx_int_t                        bytes_per_token;
    llmb_estimate_conf_t             estimate;

    ngx_int_t                        clamp;     /* floor, tokens; 0: off */
    ngx_uint_t                       deny_status;
    ngx_flag_t                       inject_usage;
    ngx_flag_t                       show_amounts;
    ngx_msec_t                       hold_timeout;
    size_t                           max_body;
    ngx_str_t                        unknown_model; /* price as; empty: deny */

    ngx_http_handler_pt              api;       /* of llm_budget_api, or NULL */

    /* of llm_budget, llm_budget_pass, ..., or NULL */
    ngx_http_llm_budget_place_t     *enable_place;
    ngx_http_llm_budget_place_t     *provider_place;
    ngx_http_llm_budget_place_t     *unknown_place;
    ngx_http_llm_budget_place_t     *api_place;
    ngx_http_llm_budget_place_t     *store_place;
    ngx_http_llm_budget_place_t     *tag_place;
} ngx_http_llm_budget_loc_conf_t;


/* where a request stands */

typedef enum {
    NGX_HTTP_LLM_BUDGET_START = 0,
    NGX_HTTP_LLM_BUDGET_BODY,       /* the body is being read */
    NGX_HTTP_LLM_BUDGET_JUDGE,      /* the body is there */
    NGX_HTTP_LLM_BUDGET_WAIT,       /* the store is asked */
    NGX_HTTP_LLM_BUDGET_ADMITTED,   /* metered: a hold was opened */
    NGX_HTTP_LLM_BUDGET_FREE,       /* passed on, not metered */
    NGX_HTTP_LLM_BUDGET_DENIED
} ngx_http_llm_budget_state_e;


/* where the numbers of a usage line come from */

typedef enum {
    NGX_HTTP_LLM_BUDGET_SOURCE_NONE = 0,
    NGX_HTTP_LLM_BUDGET_SOURCE_PROVIDER,
    NGX_HTTP_LLM_BUDGET_SOURCE_ESTIMATED,
    NGX_HTTP_LLM_BUDGET_SOURCE_HOLD
} ngx_http_llm_budget_source_e;


/* flags of a usage line, beside those of llmb_usage.h and llmb_price.h */

#define NGX_HTTP_LLM_BUDGET_FLAG_MODEL_UNPRICED     0x01
#define NGX_HTTP_LLM_BUDGET_FLAG_COMPRESSED         0x02
#define NGX_HTTP_LLM_BUDGET_FLAG_COST_OVERFLOW      0x04
#define NGX_HTTP_LLM_BUDGET_FLAG_EXPIRED            0x08
#define NGX_HTTP_LLM_BUDGET_FLAG_RETRIED            0x10
#define NGX_HTTP_LLM_BUDGET_FLAG_CHARGE_LOST        0x20


/* a refusal, as the client and the log get it */

typedef struct {
    ngx_uint_t                       status;
    ngx_str_t                        code;
    ngx_str_t                        message;
    ngx_str_t                        param;     /* member blamed, or empty */
    ngx_str_t                        id;        /* of the call, hex */
    ngx_uint_t                       retry;     /* seconds; 0: do not */
    ngx_http_llm_budget_limit_t     *limit;     /* that decided, or NULL */
    const llmb_ledger_leg_t         *leg;       /* its balance, or NULL */
} ngx_http_llm_budget_refusal_t;


/*
 * The context of a main request.  It lives in the request's pool and is found
 * again through the pool's cleanup after an internal redirect.
 */

typedef struct {
    ngx_http_request_t              *request;
    ngx_http_llm_budget_loc_conf_t  *llcf;      /* of the admission */
    ngx_http_llm_budget_loc_conf_t  *where;     /* of the attempt */
    ngx_http_llm_budget_main_conf_t *lmcf;

    ngx_http_llm_budget_state_e      state;
    const llmb_endpoint_t           *endpoint;
    llmb_dialect_e                   dialect;
    ngx_str_t                        uri;       /* as judged */
    size_t                           tail;      /* of the endpoint's path */

    ngx_str_t                        key_id;    /* hex SHA-256 */
    ngx_str_t                        secret;    /* hex SHA-256 of the key
                                                   presented; empty: none */

    /* the request */
    llmb_request_t                  *req;
    off_t                            scanned;
    ngx_str_t                        body;      /* pristine; gathered lazily */
    ngx_str_t                        body_hash;
    ngx_uint_t                       gathered;  /* unsigned  gathered:1; */
    ngx_uint_t                       spliced;   /* unsigned  spliced:1; */
    ngx_list_t                       headers;   /* as the client sent them */
    ngx_uint_t                       headers_saved;
    ngx_uint_t                       credential;    /* one of ours was used */
    ngx_str_t                        args;      /* likewise */

    /* what goes out */
    ngx_str_t                        model;     /* as sent */
    const llmb_price_t              *price;
    ngx_http_llm_budget_provider_t  *provider;
    llmb_estimate_t                  estimate;
    int64_t                          clamp;     /* ceiling to write, or -1 */
    uint32_t                         rungs;     /* bit per rung taken */
    ngx_http_llm_budget_limit_t     *decided;   /* by which limit, or NULL */
    ngx_uint_t                       injected;  /* usage asked for by us */
    llmb_verdict_e                   verdict;

    /* the hold */
    llmb_ledger_open_t              *open;
    llmb_ledger_open_t              *charge;    /* legs of its closing; open,
                                                   except in an outage */
    u_char                           tag[LLMB_CALL_TAG];
    size_t                           tag_len;
    ngx_http_llm_budget_store_t     *store;
    ngx_http_llm_budget_call_t      *call;      /* its opening */
    ngx_int_t                        call_rc;   /* of done() */
    ngx_uint_t                       tries;     /* openings */
    ngx_http_llm_budget_outage_e     outage;
    ngx_uint_t                       unsure;    /* the store may have a hold
                                                   nobody knows of */
    ngx_queue_t                      live;      /* while it is pending */
    ngx_http_llm_budget_limit_t     *leg_limit[LLMB_LEDGER_LEGS];
    u_char                           id[LLMB_LEDGER_ID];
    ngx_uint_t                       pending;
    int64_t                          opened_ms;
    int64_t                          deadline_ms;

    /* the answer */
    llmb_usage_reader_t             *reader;
    void                            *inflate;   /* z_stream, or NULL */
    ngx_uint_t                       answered;  /* a header came */
    ngx_uint_t                       complete;  /* its last byte too */
    ngx_uint_t                       ended;     /* reader was told */
    ngx_uint_t                       content_msec_set;
    ngx_msec_t                       content_msec;  /* of the first content */
    ngx_chain_t                     *busy;
    ngx_chain_t                     *free;
    ngx_buf_t                       *held;      /* of an event not yet judged */
    ngx_chain_t                     *held_free;
    ngx_uint_t                       passing;   /* the open event goes on */
    ngx_uint_t                       dropped;   /* the last event is gone */
    ngx_str_t                        error_body;    /* instead of nginx's */

    /* the end */
    llmb_usage_t                    *usage;
    llmb_cost_t                      cost;
    const llmb_price_t              *priced;    /* entry that priced it */
    ngx_http_llm_budget_source_e     source;
    ngx_uint_t                       flags;
    const char                      *end;       /* how it ended */
    ngx_http_llm_budget_refusal_t    refusal;
    ngx_msec_t                       start_msec;
} ngx_http_llm_budget_ctx_t;


/* what differs between the versions of nginx, all of it */

static ngx_inline void
ngx_http_llm_budget_header_init(ngx_table_elt_t *h)
{
#if (nginx_version >= 1023000)
    h->next = NULL;
#endif
    h->hash = 1;
}


/* the view adapter: same fields in the same order */

static ngx_inline llmb_str_t *
ngx_http_llm_budget_view(ngx_str_t *s)
{
    return (llmb_str_t *) s;
}


static ngx_inline ngx_str_t *
ngx_http_llm_budget_unview(const llmb_str_t *s)
{
    return (ngx_str_t *) (uintptr_t) s;
}


extern ngx_module_t  ngx_http_llm_budget_module;


#endif /* _NGX_HTTP_LLM_BUDGET_H_INCLUDED_ */
