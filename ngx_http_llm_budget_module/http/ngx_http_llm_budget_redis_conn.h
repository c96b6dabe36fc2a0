
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * One connection to a Redis server, owned by the worker: nginx's transport
 * and TLS, hiredis as the codec.  Commands are pipelined and answered in
 * strict order; a connection on which a command timed out is closed and never
 * used again (T52).
 */


#ifndef _NGX_HTTP_LLM_BUDGET_REDIS_CONN_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_REDIS_CONN_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"

#include <hiredis/hiredis.h>


/* bytes of one reply, its elements, and how deep they nest */
#define NGX_HTTP_LLM_BUDGET_REPLY_MAX       (1024 * 1024)
#define NGX_HTTP_LLM_BUDGET_REPLY_ITEMS     65536

/* commands that wait for a connection, or for their answers on it */
#define NGX_HTTP_LLM_BUDGET_REDIS_QUEUE     8192


typedef struct ngx_http_llm_budget_redis_cmd_s
    ngx_http_llm_budget_redis_cmd_t;
typedef struct ngx_http_llm_budget_redis_conn_s
    ngx_http_llm_budget_redis_conn_t;

/*
 * Called exactly once for a command that was taken, never from within the
 * call that took it.  NGX_OK: reply is the server's, an error reply too; it is
 * freed after the call.  NGX_ERROR: no answer, reply is NULL; cmd->sent says
 * whether the server may have it.  The handler may submit others and may free
 * cmd.
 */
typedef void (*ngx_http_llm_budget_redis_handler_pt)(
    ngx_http_llm_budget_redis_cmd_t *cmd, ngx_int_t rc, redisReply *reply);


/*
 * A command: allocated by its owner outside of any pool, kept by him until
 * its handler was called.
 */

struct ngx_http_llm_budget_redis_cmd_s {
    ngx_queue_t                            queue;   /* the connection's */

    ngx_uint_t                             argc;
    const char                           **argv;
    const size_t                          *lens;

    ngx_msec_t                             deadline;    /* ngx_current_msec */
    ngx_uint_t                             slot;    /* for nodes; NO_SLOT:
                                                       any node */

    ngx_http_llm_budget_redis_handler_pt   handler;
    void                                  *data;

    /* of the layers below the owner */
    ngx_http_llm_budget_redis_handler_pt   done;    /* of nodes: routing; when
                                                       set, called instead */
    void                                  *node;
    ngx_uint_t                             tries;

    unsigned                               asking:1;    /* ASKING goes first */
    unsigned                               soft:1;  /* of the owner: its error
                                                       says nothing of the
                                                       server */
    unsigned                               sent:1;  /* only set here */
};


/* what all connections of a store have in common; of the configuration */

typedef struct {
    ngx_str_t                              user;
    ngx_str_t                              password;
    ngx_int_t                              db;          /* 0: no SELECT */
    ngx_flag_t                             tls;
    ngx_flag_t                             verify;
    ngx_str_t                              tls_name;    /* empty: the host */
#if (NGX_SSL)
    ngx_ssl_t                             *ssl;
#endif
    ngx_msec_t                             connect_timeout; /* TCP to ready */
    ngx_msec_t                             timeout;     /* of a command */
} ngx_http_llm_budget_redis_conn_conf_t;


/* what happens to a connection, for its owner; never from within his call */

typedef struct {
    /*
     * Connected, TLS verified, authenticated, SELECTed: the owner may ask
     * what he wants to know first (role, version, policy) by commands of his
     * own, submitted like any others.
     */
    void (*up)(ngx_http_llm_budget_redis_conn_t *conn, void *data);

    /* Closed for that reason; its commands have been failed before. */
    void (*down)(ngx_http_llm_budget_redis_conn_t *conn, void *data,
                 const char *reason);
} ngx_http_llm_budget_redis_events_t;


/*
 * A connection object, closed; NULL: no memory.  The address is set by
 * connect.  log is the cycle's.
 */
ngx_http_llm_budget_redis_conn_t *ngx_http_llm_budget_redis_conn_create(
    ngx_http_llm_budget_redis_conn_conf_t *conf,
    const ngx_http_llm_budget_redis_events_t *events, void *data,
    ngx_log_t *log);

/*
 * Connects to an address, copied; host is for TLS and messages.  up() or
 * down() will be called.  NGX_OK; NGX_BUSY: it is not closed.
 */
ngx_int_t ngx_http_llm_budget_redis_conn_connect(
    ngx_http_llm_budget_redis_conn_t *conn, struct sockaddr *sockaddr,
    socklen_t socklen, ngx_str_t *host);

/*
 * Takes a command: NGX_OK; it is sent with all others of this turn of the
 * event loop in one write.  While connecting it waits.  NGX_DECLINED: closed,
 * or the queue is full: the handler will not be called.
 */
ngx_int_t ngx_http_llm_budget_redis_conn_submit(
    ngx_http_llm_budget_redis_conn_t *conn,
    ngx_http_llm_budget_redis_cmd_t *cmd);

/* Whether it is up; connecting counts as NGX_AGAIN, closed is NGX_DECLINED. */
ngx_int_t ngx_http_llm_budget_redis_conn_state(
    ngx_http_llm_budget_redis_conn_t *conn);

/* Commands that it has, waiting or sent. */
ngx_uint_t ngx_http_llm_budget_redis_conn_load(
    ngx_http_llm_budget_redis_conn_t *conn);

/*
 * Closes it now: fails its commands (handlers are called from here), then
 * calls down() with the reason, from a posted event.
 */
void ngx_http_llm_budget_redis_conn_close(
    ngx_http_llm_budget_redis_conn_t *conn, const char *reason);

/* Closes without any call back and frees it: commands must be none. */
void ngx_http_llm_budget_redis_conn_destroy(
    ngx_http_llm_budget_redis_conn_t *conn);


#endif /* _NGX_HTTP_LLM_BUDGET_REDIS_CONN_H_INCLUDED_ */
