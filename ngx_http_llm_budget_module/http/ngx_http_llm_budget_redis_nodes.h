
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The servers behind one Redis store, as a worker sees them: one server, the
 * master that Sentinels name, or the nodes of a Cluster.  Routes commands,
 * follows redirects and failovers, and knows which servers are down.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_REDIS_NODES_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_REDIS_NODES_H_INCLUDED_


#include "http/ngx_http_llm_budget_redis_conn.h"


#define NGX_HTTP_LLM_BUDGET_SLOTS           16384
#define NGX_HTTP_LLM_BUDGET_NO_SLOT         NGX_HTTP_LLM_BUDGET_SLOTS

/* nodes of a cluster, connections to each, addresses given */
#define NGX_HTTP_LLM_BUDGET_REDIS_NODES     1024
#define NGX_HTTP_LLM_BUDGET_REDIS_CONNS     16
#define NGX_HTTP_LLM_BUDGET_REDIS_URLS      16

/* redirects and repeats of one command */
#define NGX_HTTP_LLM_BUDGET_REDIS_TRIES     8


typedef struct ngx_http_llm_budget_redis_nodes_s
    ngx_http_llm_budget_redis_nodes_t;


typedef enum {
    NGX_HTTP_LLM_BUDGET_REDIS_SINGLE = 0,
    NGX_HTTP_LLM_BUDGET_REDIS_SENTINEL,
    NGX_HTTP_LLM_BUDGET_REDIS_CLUSTER
} ngx_http_llm_budget_redis_mode_e;


/* one address of llm_budget_redis */

typedef struct {
    ngx_str_t                               host;   /* name, address, or the
                                                       path of a socket */
    in_port_t                               port;   /* 0: a socket's path */
    ngx_addr_t                             *addrs;  /* of configuration time */
    ngx_uint_t                              naddrs; /* 0: not resolved then */
} ngx_http_llm_budget_redis_url_t;


/* llm_budget_redis as it was configured */

typedef struct {
    ngx_http_llm_budget_redis_mode_e        mode;
    ngx_array_t                             urls;   /* ..._redis_url_t */
    ngx_str_t                               master; /* of Sentinel */
    ngx_uint_t                              connections;    /* per node */
    ngx_str_t                               prefix; /* of keys */
    ngx_msec_t                              keep;   /* closed holds */
    u_char                                  id[16]; /* hex: stands for all that
                                                       tells it from others */

    ngx_http_llm_budget_redis_conn_conf_t   conn;
    ngx_http_llm_budget_redis_conn_conf_t   sentinel;

    ngx_resolver_t                         *resolver;   /* or NULL */
    ngx_msec_t                              resolver_timeout;
} ngx_http_llm_budget_redis_conf_t;


/*
 * Starts the topology of a worker: connects, and keeps connected, for as long
 * as it lives.  up: some server became usable after none was, or the topology
 * changed: what waits may be sent; may be NULL.
 */
ngx_http_llm_budget_redis_nodes_t *ngx_http_llm_budget_redis_nodes_create(
    ngx_http_llm_budget_redis_conf_t *conf, ngx_log_t *log,
    void (*up)(void *data), void *data);

/*
 * Sends a command to the server of its slot.  Redirects (MOVED, ASK), TRYAGAIN
 * and a change of master are followed until the deadline.  NGX_OK: the
 * handler will be called, as in redis_conn.h, with:
 *
 *   NGX_OK        a reply that is no error, or NOSCRIPT
 *   NGX_DECLINED  an error reply (reply is it): the server did not do it, and
 *                 is down for the breaker (READONLY, OOM, LOADING, a wrong
 *                 password, a wrong type, MISCONF, CLUSTERDOWN, ...)
 *   NGX_ERROR     no answer; cmd->sent: it may have been done
 *
 * NGX_DECLINED: the server is down and not to be tried yet, or too much
 * waits: the handler will not be called.  Never calls it from within.
 */
ngx_int_t ngx_http_llm_budget_redis_send(
    ngx_http_llm_budget_redis_nodes_t *nodes,
    ngx_http_llm_budget_redis_cmd_t *cmd);

/* NGX_OK: some server can be used; NGX_AGAIN: connecting; NGX_DECLINED. */
ngx_int_t ngx_http_llm_budget_redis_nodes_state(
    ngx_http_llm_budget_redis_nodes_t *nodes);

/*
 * At the end of the worker: closes all connections, frees everything, calls
 * no handler; the commands left are put into the queue, for the owner to
 * free.
 */
void ngx_http_llm_budget_redis_nodes_destroy(
    ngx_http_llm_budget_redis_nodes_t *nodes, ngx_queue_t *left);


#endif /* _NGX_HTTP_LLM_BUDGET_REDIS_NODES_H_INCLUDED_ */
