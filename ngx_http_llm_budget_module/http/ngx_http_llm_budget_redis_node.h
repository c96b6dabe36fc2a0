
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * One server of a Redis store, its links, whether it can be used: for the
 * sources of ngx_http_llm_budget_redis_nodes.h alone.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_REDIS_NODE_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_REDIS_NODE_H_INCLUDED_


#include "http/ngx_http_llm_budget_redis_nodes.h"


#define NGX_HTTP_LLM_BUDGET_REDIS_ADDRS         16      /* of a name */
#define NGX_HTTP_LLM_BUDGET_REDIS_HOST          253
#define NGX_HTTP_LLM_BUDGET_REDIS_REASON        160


typedef enum {
    NGX_HTTP_LLM_BUDGET_NODE_IDLE = 0,  /* is connected when needed */
    NGX_HTTP_LLM_BUDGET_NODE_CONNECTING,    /* commands wait */
    NGX_HTTP_LLM_BUDGET_NODE_UP,
    NGX_HTTP_LLM_BUDGET_NODE_HALF,      /* one command may try it */
    NGX_HTTP_LLM_BUDGET_NODE_DOWN,      /* until its timer */
    NGX_HTTP_LLM_BUDGET_NODE_PROBING    /* is tried, takes no commands */
} ngx_http_llm_budget_node_state_e;


typedef struct ngx_http_llm_budget_redis_node_s
    ngx_http_llm_budget_redis_node_t;


typedef struct {
    ngx_http_llm_budget_redis_conn_t       *conn;
    ngx_http_llm_budget_redis_node_t       *node;
    ngx_http_llm_budget_redis_cmd_t         check;
    ngx_uint_t                              tried;  /* addresses */
    ngx_msec_t                              since;  /* ready since */
    unsigned                                open:1;     /* until down() */
    unsigned                                up:1;       /* up() came */
    unsigned                                checking:1;
    unsigned                                ready:1;    /* takes commands */
} ngx_http_llm_budget_redis_link_t;


struct ngx_http_llm_budget_redis_node_s {
    ngx_http_llm_budget_redis_nodes_t      *nodes;
    ngx_http_llm_budget_redis_conn_conf_t  *conf;
    ngx_http_llm_budget_redis_link_t       *links;

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_int_t                               ident;

    ngx_uint_t                              nlinks;
    ngx_str_t                               host;
    ngx_str_t                               name;   /* for messages */
    in_port_t                               port;

    ngx_sockaddr_t                          addr[
                                              NGX_HTTP_LLM_BUDGET_REDIS_ADDRS];
    socklen_t                               len[
                                              NGX_HTTP_LLM_BUDGET_REDIS_ADDRS];
    ngx_uint_t                              naddrs;
    ngx_uint_t                              next;   /* address to try */
    ngx_resolver_ctx_t                     *resolve;

    ngx_http_llm_budget_node_state_e        state;
    ngx_event_t                             timer;
    ngx_msec_t                              backoff;
    ngx_msec_t                              since;  /* up since */
    ngx_msec_t                              used;
    ngx_http_llm_budget_redis_cmd_t        *probe;  /* of HALF */
    ngx_uint_t                              index;  /* among the nodes */
    ngx_uint_t                              slots;

    ngx_msec_t                              said_at;
    ngx_msec_t                              warned_at;
    u_char                                  reason[
                                             NGX_HTTP_LLM_BUDGET_REDIS_REASON];

    unsigned                                literal:1;  /* no name */
    unsigned                                seed:1;
    unsigned                                sentinel:1;
    unsigned                                doubt:1;    /* INFO won't do */
    unsigned                                lost:1;     /* sent commands */
    unsigned                                close:1;    /* its links, soon */
    unsigned                                renew:1;    /* ... at its timer */
    unsigned                                said:1;     /* that it is down */
    unsigned                                warned:1;
};


/* ..._redis_node.c; get: NULL: too many, or no memory */
ngx_http_llm_budget_redis_node_t *ngx_http_llm_budget_redis_node_get(
    ngx_http_llm_budget_redis_nodes_t *nodes, ngx_str_t *host, in_port_t port);
ngx_http_llm_budget_redis_node_t *ngx_http_llm_budget_redis_node_seed(
    ngx_http_llm_budget_redis_nodes_t *nodes,
    ngx_http_llm_budget_redis_url_t *url);
void ngx_http_llm_budget_redis_node_free(
    ngx_http_llm_budget_redis_node_t *node);
void ngx_http_llm_budget_redis_node_sweep(
    ngx_http_llm_budget_redis_nodes_t *nodes);
void ngx_http_llm_budget_redis_node_close(
    ngx_http_llm_budget_redis_node_t *node);

/* ..._redis_link.c; link: the one for a command, or NULL */
void ngx_http_llm_budget_redis_node_connect(
    ngx_http_llm_budget_redis_node_t *node);
void ngx_http_llm_budget_redis_node_resolved(
    ngx_http_llm_budget_redis_node_t *node, const char *reason);
ngx_uint_t ngx_http_llm_budget_redis_node_open(
    ngx_http_llm_budget_redis_node_t *node);
ngx_uint_t ngx_http_llm_budget_redis_node_load(
    ngx_http_llm_budget_redis_node_t *node);
ngx_http_llm_budget_redis_link_t *ngx_http_llm_budget_redis_node_link(
    ngx_http_llm_budget_redis_node_t *node);
extern const ngx_http_llm_budget_redis_events_t
    ngx_http_llm_budget_redis_link_events;

/* ..._redis_breaker.c */
void ngx_http_llm_budget_redis_node_fail(
    ngx_http_llm_budget_redis_node_t *node, const char *reason);
void ngx_http_llm_budget_redis_node_ready(
    ngx_http_llm_budget_redis_node_t *node);
void ngx_http_llm_budget_redis_node_start(
    ngx_http_llm_budget_redis_node_t *node);
void ngx_http_llm_budget_redis_node_good(
    ngx_http_llm_budget_redis_node_t *node);
void ngx_http_llm_budget_redis_node_say(
    ngx_http_llm_budget_redis_node_t *node);
void ngx_http_llm_budget_redis_node_timer(ngx_event_t *ev);
void ngx_http_llm_budget_redis_node_probe(
    ngx_http_llm_budget_redis_node_t *node);

/* ..._redis_check.c */
void ngx_http_llm_budget_redis_check(ngx_http_llm_budget_redis_link_t *link);

/* ..._redis_resolve.c */
void ngx_http_llm_budget_redis_resolve_init(
    ngx_http_llm_budget_redis_node_t *node);
void ngx_http_llm_budget_redis_resolve(
    ngx_http_llm_budget_redis_node_t *node);


#endif /* _NGX_HTTP_LLM_BUDGET_REDIS_NODE_H_INCLUDED_ */
