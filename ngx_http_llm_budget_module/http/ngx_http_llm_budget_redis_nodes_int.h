
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What is known of the servers of a Redis store: for the sources of
 * ngx_http_llm_budget_redis_nodes.h alone.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_REDIS_NODES_INT_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_REDIS_NODES_INT_H_INCLUDED_


#include "http/ngx_http_llm_budget_redis_node.h"


/* a slot that no known node serves */
#define NGX_HTTP_LLM_BUDGET_REDIS_NO_NODE       0xffff


struct ngx_http_llm_budget_redis_nodes_s {
    ngx_http_llm_budget_redis_conf_t       *conf;
    void                                  (*up)(void *data);
    void                                   *data;

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_int_t                               ident;

    ngx_log_t                              *log;
    ngx_http_llm_budget_redis_node_t       *node[
                                              NGX_HTTP_LLM_BUDGET_REDIS_NODES];
    ngx_uint_t                              n;      /* places used, some NULL */

    ngx_queue_t                             waiting;
    ngx_uint_t                              nwaiting;
    ngx_queue_t                             later;  /* TRYAGAIN */
    ngx_event_t                             timer;  /* first deadline */
    ngx_event_t                             again;  /* of later */
    ngx_event_t                             event;  /* posted: what is due */

    /* SENTINEL; the seeds come first among the nodes */
    ngx_http_llm_budget_redis_node_t       *master; /* of SINGLE too */
    const char                             *ask_argv[3];
    size_t                                  ask_lens[3];
    ngx_event_t                             ask_timer;
    ngx_msec_t                              ask_backoff;
    ngx_uint_t                              asked;
    ngx_uint_t                              sentinel;   /* the one asked */

    /* CLUSTER */
    ngx_http_llm_budget_redis_cmd_t         map;
    ngx_event_t                             map_timer;
    ngx_http_llm_budget_redis_node_t       *map_node;
    ngx_uint_t                              map_next;   /* to ask */
    ngx_uint_t                              seed_next;  /* to connect */
    uint16_t                               *slots;  /* indexes of nodes */

    time_t                                  lines_sec;
    ngx_uint_t                              lines;

    unsigned                                asking:1;
    unsigned                                no_answer:1;    /* all Sentinels */
    unsigned                                no_answer_said:1;
    unsigned                                fetching:1;
    unsigned                                mapped:1;
    unsigned                                stale:1;
    unsigned                                closing:1;  /* some node */
    unsigned                                notify:1;
    unsigned                                blind:1;    /* INFO is refused */
    unsigned                                destroying:1;

    ngx_queue_t                            *left;   /* of destroy */
};


/* ngx_http_llm_budget_redis_nodes.c */
void ngx_http_llm_budget_redis_kick(ngx_http_llm_budget_redis_nodes_t *nodes);
ngx_uint_t ngx_http_llm_budget_redis_awaited(
    ngx_http_llm_budget_redis_node_t *node);
ngx_http_llm_budget_redis_node_t *ngx_http_llm_budget_redis_any(
    ngx_http_llm_budget_redis_nodes_t *nodes);
void ngx_http_llm_budget_redis_wait(
    ngx_http_llm_budget_redis_nodes_t *nodes,
    ngx_http_llm_budget_redis_cmd_t *cmd);
void ngx_http_llm_budget_redis_finish(
    ngx_http_llm_budget_redis_cmd_t *cmd, ngx_int_t rc, redisReply *reply);
ngx_uint_t ngx_http_llm_budget_redis_expired(
    ngx_http_llm_budget_redis_cmd_t *cmd);

/* ..._redis_route.c: as send(); NGX_AGAIN: it has to wait */
ngx_int_t ngx_http_llm_budget_redis_route(
    ngx_http_llm_budget_redis_nodes_t *nodes,
    ngx_http_llm_budget_redis_cmd_t *cmd);

/* ..._redis_breaker.c: a line may be logged; the next delay of a timer */
ngx_uint_t ngx_http_llm_budget_redis_quota(
    ngx_http_llm_budget_redis_nodes_t *nodes);
void ngx_http_llm_budget_redis_delay(ngx_event_t *ev, ngx_msec_t *backoff);

/* ..._redis_sentinel.c */
void ngx_http_llm_budget_redis_sentinel_ask(
    ngx_http_llm_budget_redis_nodes_t *nodes);
void ngx_http_llm_budget_redis_sentinel_up(
    ngx_http_llm_budget_redis_link_t *link);
void ngx_http_llm_budget_redis_sentinel_fail(
    ngx_http_llm_budget_redis_node_t *node, const char *reason);
void ngx_http_llm_budget_redis_sentinel_timer(ngx_event_t *ev);

/* ..._redis_cluster.c */
ngx_http_llm_budget_redis_node_t *ngx_http_llm_budget_redis_cluster_redirect(
    ngx_http_llm_budget_redis_node_t *node, redisReply *reply,
    ngx_uint_t *slot);
void ngx_http_llm_budget_redis_cluster_set(
    ngx_http_llm_budget_redis_nodes_t *nodes,
    ngx_http_llm_budget_redis_node_t *node, ngx_uint_t slot);
void ngx_http_llm_budget_redis_cluster_refresh(
    ngx_http_llm_budget_redis_nodes_t *nodes);
void ngx_http_llm_budget_redis_cluster_fetch(
    ngx_http_llm_budget_redis_nodes_t *nodes);
void ngx_http_llm_budget_redis_cluster_timer(ngx_event_t *ev);


#endif /* _NGX_HTTP_LLM_BUDGET_REDIS_NODES_INT_H_INCLUDED_ */
