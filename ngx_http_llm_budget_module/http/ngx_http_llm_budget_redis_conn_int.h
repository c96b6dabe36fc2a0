
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What the sources of ngx_http_llm_budget_redis_conn.h share: a connection,
 * and the scanner that bounds what is given to hiredis.  For them alone.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_REDIS_CONN_INT_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_REDIS_CONN_INT_H_INCLUDED_


#include "http/ngx_http_llm_budget_redis_conn.h"


/* arrays within arrays: what hiredis 0.14 can do */
#define NGX_HTTP_LLM_BUDGET_REPLY_DEPTH     7

/* bytes of one command, and of why a connection was closed */
#define NGX_HTTP_LLM_BUDGET_REDIS_CMD_MAX   (1024 * 1024)
#define NGX_HTTP_LLM_BUDGET_REDIS_WHY       256


typedef enum {
    NGX_HTTP_LLM_BUDGET_REDIS_CLOSED = 0,
    NGX_HTTP_LLM_BUDGET_REDIS_CONNECTING,
    NGX_HTTP_LLM_BUDGET_REDIS_HANDSHAKE,
    NGX_HTTP_LLM_BUDGET_REDIS_AUTH,
    NGX_HTTP_LLM_BUDGET_REDIS_UP
} ngx_http_llm_budget_redis_state_e;


/* where the bytes received stand, between the parts of replies */

typedef struct {
    u_char                                  state;
    u_char                                  type;
    const char                             *error;
    size_t                                  bytes;  /* of the reply so far; 0:
                                                       between replies */
    size_t                                  number; /* a length, then what is
                                                       missing of it */
    ngx_uint_t                              items;  /* of the reply so far */
    ngx_uint_t                              depth;
    ngx_uint_t                              left[
                                              NGX_HTTP_LLM_BUDGET_REPLY_DEPTH];
} ngx_http_llm_budget_redis_scan_t;


struct ngx_http_llm_budget_redis_conn_s {
    ngx_connection_t                       *connection; /* NULL: closed */
    ngx_http_llm_budget_redis_conn_conf_t  *conf;
    void                                   *data;

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_int_t                               ident;

    const ngx_http_llm_budget_redis_events_t
                                           *events;
    ngx_http_llm_budget_redis_state_e       state;
    ngx_uint_t                              replies;    /* of AUTH, SELECT,
                                                           to come */
    ngx_queue_t                             waiting;    /* no byte is out */
    ngx_queue_t                             sent;       /* not answered */
    ngx_queue_t                             failing;    /* handlers are due */
    ngx_uint_t                              load;       /* of all three */

    ngx_event_t                             timer;  /* not later than the
                                                       first deadline */
    ngx_msec_t                              deadline;   /* of being up */
    ngx_event_t                             flush;
    ngx_event_t                             notice; /* down() is due */

    redisReader                            *reader;
    ngx_http_llm_budget_redis_scan_t        scan;

    /* formatted: what is left of commands that went out in part */
    u_char                                 *out;
    size_t                                  size;
    size_t                                  pos;
    size_t                                  last;

    ngx_uint_t                              busy;   /* frames in handlers */
    unsigned                                failed:1;   /* no TLS shutdown */
    unsigned                                heard:1;    /* some bytes came */
    unsigned                                asked:1;    /* ASKING: done */
    unsigned                                draining:1;
    unsigned                                dying:1;    /* destroyed, busy */

    ngx_log_t                               log;
    ngx_pool_t                             *pool;   /* while it is open */
    ngx_str_t                               host;   /* from it */
    ngx_str_t                               addr;
    ngx_sockaddr_t                          sockaddr;
    u_char                                  text[NGX_SOCKADDR_STRLEN];
    u_char                                  why[NGX_HTTP_LLM_BUDGET_REDIS_WHY];
};


/*
 * ngx_http_llm_budget_redis_conn.c; handlers may be called from within: look
 * at connection afterwards.
 */
void ngx_http_llm_budget_redis_conn_up(ngx_http_llm_budget_redis_conn_t *conn);
void ngx_http_llm_budget_redis_conn_fail(
    ngx_http_llm_budget_redis_conn_t *conn, ngx_err_t err, const char *text);
void ngx_http_llm_budget_redis_conn_drain(
    ngx_http_llm_budget_redis_conn_t *conn);
void ngx_http_llm_budget_redis_conn_call(
    ngx_http_llm_budget_redis_conn_t *conn,
    ngx_http_llm_budget_redis_cmd_t *cmd, ngx_int_t rc, redisReply *reply);
void ngx_http_llm_budget_redis_conn_read_handler(ngx_event_t *rev);
void ngx_http_llm_budget_redis_conn_write_handler(ngx_event_t *wev);

/* ngx_http_llm_budget_redis_conn_io.c; likewise */
void ngx_http_llm_budget_redis_conn_read(
    ngx_http_llm_budget_redis_conn_t *conn);
void ngx_http_llm_budget_redis_conn_flush(
    ngx_http_llm_budget_redis_conn_t *conn);
void ngx_http_llm_budget_redis_conn_expire(
    ngx_http_llm_budget_redis_conn_t *conn);

/* the timer fires at that time or before */
void ngx_http_llm_budget_redis_conn_arm(
    ngx_http_llm_budget_redis_conn_t *conn, ngx_msec_t deadline);

/* a command's bytes into the output buffer: NGX_OK, NGX_ERROR: no memory */
ngx_int_t ngx_http_llm_budget_redis_conn_put(
    ngx_http_llm_budget_redis_conn_t *conn, ngx_uint_t argc,
    const char **argv, const size_t *lens);

/* ngx_http_llm_budget_redis_conn_setup.c: the way up; likewise */
void ngx_http_llm_budget_redis_conn_step(
    ngx_http_llm_budget_redis_conn_t *conn, ngx_uint_t writable);
void ngx_http_llm_budget_redis_conn_greeted(
    ngx_http_llm_budget_redis_conn_t *conn, redisReply *reply);
void ngx_http_llm_budget_redis_conn_refused(
    ngx_http_llm_budget_redis_conn_t *conn, const char *what,
    redisReply *reply);

/*
 * ngx_http_llm_budget_redis_conn_scan.c: how many of the bytes may be given
 * to hiredis; less than all: error says why.
 */
size_t ngx_http_llm_budget_redis_scan(ngx_http_llm_budget_redis_scan_t *s,
    u_char *p, size_t len);


#endif /* _NGX_HTTP_LLM_BUDGET_REDIS_CONN_INT_H_INCLUDED_ */
