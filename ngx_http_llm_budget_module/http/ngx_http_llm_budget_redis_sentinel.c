
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Sentinels: which server is the master.  One is asked at a time, over a
 * connection that is kept; when none answers, the master that was known last
 * is tried.
 */


#include "http/ngx_http_llm_budget_redis_nodes_int.h"


/* a master that still answers may have been replaced: they are asked again */
#define NGX_HTTP_LLM_BUDGET_SENTINEL_PERIOD     2000


static void ngx_http_llm_budget_redis_sentinel_try(
    ngx_http_llm_budget_redis_nodes_t *nodes);
static void ngx_http_llm_budget_redis_sentinel_query(
    ngx_http_llm_budget_redis_link_t *link);
static void ngx_http_llm_budget_redis_sentinel_done(
    ngx_http_llm_budget_redis_cmd_t *cmd, ngx_int_t rc, redisReply *reply);
static ngx_http_llm_budget_redis_node_t *
    ngx_http_llm_budget_redis_sentinel_node(
    ngx_http_llm_budget_redis_nodes_t *nodes, redisReply *reply);
static void ngx_http_llm_budget_redis_sentinel_set(
    ngx_http_llm_budget_redis_nodes_t *nodes,
    ngx_http_llm_budget_redis_node_t *node);


void
ngx_http_llm_budget_redis_sentinel_ask(
    ngx_http_llm_budget_redis_nodes_t *nodes)
{
    if (nodes->asking) {
        return;
    }

    if (nodes->ask_timer.timer_set) {
        ngx_del_timer(&nodes->ask_timer);
    }

    nodes->asking = 1;
    nodes->asked = 0;

    ngx_http_llm_budget_redis_sentinel_try(nodes);
}


void
ngx_http_llm_budget_redis_sentinel_timer(ngx_event_t *ev)
{
    ngx_http_llm_budget_redis_nodes_t *nodes = ev->data;

    if (!ngx_exiting) {
        ngx_http_llm_budget_redis_sentinel_ask(nodes);
    }
}


static void
ngx_http_llm_budget_redis_sentinel_try(
    ngx_http_llm_budget_redis_nodes_t *nodes)
{
    ngx_http_llm_budget_redis_link_t  *link;
    ngx_http_llm_budget_redis_node_t  *node;

    node = nodes->node[nodes->sentinel];
    link = &node->links[0];

    if (link->up
        && ngx_http_llm_budget_redis_conn_state(link->conn) == NGX_OK)
    {
        ngx_http_llm_budget_redis_sentinel_query(link);
        return;
    }

    ngx_http_llm_budget_redis_node_connect(node);
}


void
ngx_http_llm_budget_redis_sentinel_up(ngx_http_llm_budget_redis_link_t *link)
{
    ngx_http_llm_budget_redis_nodes_t  *nodes;

    nodes = link->node->nodes;

    if (nodes->asking && nodes->node[nodes->sentinel] == link->node) {
        ngx_http_llm_budget_redis_sentinel_query(link);
    }
}


static void
ngx_http_llm_budget_redis_sentinel_query(
    ngx_http_llm_budget_redis_link_t *link)
{
    ngx_str_t                          *master;
    ngx_http_llm_budget_redis_cmd_t    *cmd;
    ngx_http_llm_budget_redis_nodes_t  *nodes;

    if (link->checking) {
        return;
    }

    nodes = link->node->nodes;
    master = &nodes->conf->master;

    nodes->ask_argv[0] = "SENTINEL";
    nodes->ask_lens[0] = 8;
    nodes->ask_argv[1] = "get-master-addr-by-name";
    nodes->ask_lens[1] = 23;
    nodes->ask_argv[2] = (char *) master->data;
    nodes->ask_lens[2] = master->len;

    cmd = &link->check;

    ngx_memzero(cmd, sizeof(ngx_http_llm_budget_redis_cmd_t));

    cmd->argc = 3;
    cmd->argv = nodes->ask_argv;
    cmd->lens = nodes->ask_lens;
    cmd->deadline = ngx_current_msec + link->node->conf->connect_timeout;
    cmd->slot = NGX_HTTP_LLM_BUDGET_NO_SLOT;
    cmd->handler = ngx_http_llm_budget_redis_sentinel_done;
    cmd->data = link;

    if (ngx_http_llm_budget_redis_conn_submit(link->conn, cmd) == NGX_OK) {
        link->checking = 1;
    }

    /* else closed: down() follows */
}


static void
ngx_http_llm_budget_redis_sentinel_done(ngx_http_llm_budget_redis_cmd_t *cmd,
    ngx_int_t rc, redisReply *reply)
{
    ngx_http_llm_budget_redis_link_t   *link;
    ngx_http_llm_budget_redis_node_t   *node;
    ngx_http_llm_budget_redis_nodes_t  *nodes;

    link = cmd->data;
    nodes = link->node->nodes;

    link->checking = 0;

    if (rc != NGX_OK || nodes->destroying || !nodes->asking
        || nodes->node[nodes->sentinel] != link->node)
    {
        /* down() follows, or it is not of interest any more */

        return;
    }

    if (reply->type == REDIS_REPLY_ERROR) {
        ngx_http_llm_budget_redis_sentinel_fail(link->node, reply->str);
        return;
    }

    node = ngx_http_llm_budget_redis_sentinel_node(nodes, reply);

    if (node == NULL) {
        ngx_http_llm_budget_redis_sentinel_fail(link->node,
                                                "it knows no such master");
        return;
    }

    if (nodes->no_answer_said) {
        nodes->no_answer_said = 0;
        ngx_log_error(NGX_LOG_NOTICE, nodes->log, 0,
                      "llm_budget: a sentinel of \"%V\" answers again",
                      &nodes->conf->master);
    }

    nodes->asking = 0;
    nodes->no_answer = 0;
    nodes->ask_backoff = 0;

    if (!ngx_exiting) {
        ngx_add_timer(&nodes->ask_timer, NGX_HTTP_LLM_BUDGET_SENTINEL_PERIOD);
    }

    ngx_http_llm_budget_redis_sentinel_set(nodes, node);
}


/* of an address and a port */

static ngx_http_llm_budget_redis_node_t *
ngx_http_llm_budget_redis_sentinel_node(
    ngx_http_llm_budget_redis_nodes_t *nodes, redisReply *reply)
{
    ngx_int_t     port;
    ngx_str_t     host;
    redisReply  **element;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) {
        return NULL;
    }

    element = reply->element;

    if (element[0]->type != REDIS_REPLY_STRING
        || element[1]->type != REDIS_REPLY_STRING)
    {
        return NULL;
    }

    host.data = (u_char *) element[0]->str;
    host.len = (size_t) element[0]->len;

    port = ngx_atoi((u_char *) element[1]->str, (size_t) element[1]->len);

    if (port < 1 || port > 65535) {
        return NULL;
    }

    return ngx_http_llm_budget_redis_node_get(nodes, &host, (in_port_t) port);
}


static void
ngx_http_llm_budget_redis_sentinel_set(
    ngx_http_llm_budget_redis_nodes_t *nodes,
    ngx_http_llm_budget_redis_node_t *node)
{
    ngx_http_llm_budget_redis_node_t  *old;

    old = nodes->master;
    nodes->master = node;

    if (old == node) {

        if (node->state == NGX_HTTP_LLM_BUDGET_NODE_DOWN
            && !node->timer.timer_set)
        {
            ngx_http_llm_budget_redis_node_probe(node);
        }

        return;
    }

    if (old != NULL) {
        ngx_log_error(NGX_LOG_NOTICE, nodes->log, 0,
                      "llm_budget: the master of \"%V\" is redis %V now, "
                      "not %V", &nodes->conf->master, &node->name,
                      &old->name);

        ngx_http_llm_budget_redis_node_close(old);
    }

    ngx_http_llm_budget_redis_node_start(node);
    ngx_http_llm_budget_redis_node_sweep(nodes);
    ngx_http_llm_budget_redis_kick(nodes);
}


/* the next one, or none: then the master known last may still be it */

void
ngx_http_llm_budget_redis_sentinel_fail(ngx_http_llm_budget_redis_node_t *node,
    const char *reason)
{
    ngx_http_llm_budget_redis_nodes_t  *nodes;

    nodes = node->nodes;

    if (!nodes->asking || nodes->node[nodes->sentinel] != node) {
        return;
    }

    nodes->sentinel = (nodes->sentinel + 1) % nodes->conf->urls.nelts;

    if (++nodes->asked < nodes->conf->urls.nelts) {
        ngx_http_llm_budget_redis_sentinel_try(nodes);
        return;
    }

    if (!nodes->no_answer_said && ngx_http_llm_budget_redis_quota(nodes)) {
        nodes->no_answer_said = 1;
        ngx_log_error(NGX_LOG_ERR, nodes->log, 0,
                      "llm_budget: no sentinel tells the master of \"%V\", "
                      "the last one, %V: %s",
                      &nodes->conf->master, &node->name, reason);
    }

    nodes->asking = 0;
    nodes->no_answer = 1;

    ngx_http_llm_budget_redis_delay(&nodes->ask_timer, &nodes->ask_backoff);

    node = nodes->master;

    if (node != NULL && node->state == NGX_HTTP_LLM_BUDGET_NODE_DOWN
        && !node->timer.timer_set)
    {
        ngx_http_llm_budget_redis_node_probe(node);
    }

    ngx_http_llm_budget_redis_kick(nodes);
}
