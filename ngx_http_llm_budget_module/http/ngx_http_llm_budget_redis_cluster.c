
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Redis Cluster: which server has which slots.  The map is read from any
 * server that can be used, at first from one of those configured; single slots
 * are corrected by redirects.
 */


#include "http/ngx_http_llm_budget_redis_nodes_int.h"


/* the map is read that long after it turned out to be old, and a bit */
#define NGX_HTTP_LLM_BUDGET_CLUSTER_REFRESH     100
#define NGX_HTTP_LLM_BUDGET_CLUSTER_JITTER      50

/* a server without slots is kept for that long after its last use */
#define NGX_HTTP_LLM_BUDGET_CLUSTER_UNUSED      60000


static void ngx_http_llm_budget_redis_cluster_seed(
    ngx_http_llm_budget_redis_nodes_t *nodes);
static void ngx_http_llm_budget_redis_cluster_done(
    ngx_http_llm_budget_redis_cmd_t *cmd, ngx_int_t rc, redisReply *reply);
static ngx_int_t ngx_http_llm_budget_redis_cluster_read(
    ngx_http_llm_budget_redis_node_t *from, redisReply *reply);
static ngx_int_t ngx_http_llm_budget_redis_cluster_range(
    redisReply *range, ngx_uint_t *start, ngx_uint_t *end);
static ngx_http_llm_budget_redis_node_t *
    ngx_http_llm_budget_redis_cluster_node(
    ngx_http_llm_budget_redis_node_t *from, redisReply *reply);
static void ngx_http_llm_budget_redis_cluster_settle(
    ngx_http_llm_budget_redis_nodes_t *nodes);


static const char  *ngx_http_llm_budget_redis_map_argv[] = { "CLUSTER",
                                                             "SLOTS" };
static const size_t  ngx_http_llm_budget_redis_map_lens[] = { 7, 5 };


/* the map is read again, soon */

void
ngx_http_llm_budget_redis_cluster_refresh(
    ngx_http_llm_budget_redis_nodes_t *nodes)
{
    nodes->stale = 1;

    if (nodes->fetching || nodes->map_timer.timer_set) {
        return;
    }

    ngx_add_timer(&nodes->map_timer,
                  NGX_HTTP_LLM_BUDGET_CLUSTER_REFRESH
                  + (ngx_msec_t) ngx_random()
                    % NGX_HTTP_LLM_BUDGET_CLUSTER_JITTER);
}


void
ngx_http_llm_budget_redis_cluster_timer(ngx_event_t *ev)
{
    ngx_http_llm_budget_redis_nodes_t *nodes = ev->data;

    if (!ngx_exiting || nodes->nwaiting) {
        ngx_http_llm_budget_redis_cluster_fetch(nodes);
    }
}


/* asks the next server that is up; if there is none, connects one */

void
ngx_http_llm_budget_redis_cluster_fetch(
    ngx_http_llm_budget_redis_nodes_t *nodes)
{
    ngx_uint_t                         i;
    ngx_http_llm_budget_redis_cmd_t   *cmd;
    ngx_http_llm_budget_redis_link_t  *link;
    ngx_http_llm_budget_redis_node_t  *node;

    nodes->stale = 1;

    if (nodes->fetching) {
        return;
    }

    cmd = &nodes->map;

    ngx_memzero(cmd, sizeof(ngx_http_llm_budget_redis_cmd_t));

    cmd->argc = 2;
    cmd->argv = ngx_http_llm_budget_redis_map_argv;
    cmd->lens = ngx_http_llm_budget_redis_map_lens;
    cmd->deadline = ngx_current_msec + nodes->conf->conn.connect_timeout;
    cmd->slot = NGX_HTTP_LLM_BUDGET_NO_SLOT;
    cmd->handler = ngx_http_llm_budget_redis_cluster_done;
    cmd->data = nodes;

    for (i = 0; i < nodes->n; i++) {
        nodes->map_next = (nodes->map_next + 1) % nodes->n;

        node = nodes->node[nodes->map_next];

        if (node == NULL || node->state != NGX_HTTP_LLM_BUDGET_NODE_UP) {
            continue;
        }

        link = ngx_http_llm_budget_redis_node_link(node);

        if (link != NULL
            && ngx_http_llm_budget_redis_conn_submit(link->conn, cmd)
               == NGX_OK)
        {
            nodes->fetching = 1;
            nodes->map_node = node;
            return;
        }
    }

    ngx_http_llm_budget_redis_cluster_seed(nodes);
}


static void
ngx_http_llm_budget_redis_cluster_seed(
    ngx_http_llm_budget_redis_nodes_t *nodes)
{
    ngx_uint_t                         i, n;
    ngx_http_llm_budget_redis_node_t  *node;

    n = nodes->conf->urls.nelts;

    for (i = 0; i < nodes->n; i++) {
        node = nodes->node[i];

        if (node != NULL
            && (node->state == NGX_HTTP_LLM_BUDGET_NODE_CONNECTING
                || node->state == NGX_HTTP_LLM_BUDGET_NODE_PROBING))
        {
            /* node_ready() or node_fail() will go on */

            return;
        }
    }

    for (i = 0; i < n; i++) {
        nodes->seed_next = (nodes->seed_next + 1) % n;

        node = nodes->node[nodes->seed_next];

        if (node->state == NGX_HTTP_LLM_BUDGET_NODE_IDLE) {
            ngx_http_llm_budget_redis_node_start(node);

            if (node->state == NGX_HTTP_LLM_BUDGET_NODE_CONNECTING) {
                return;
            }
        }
    }

    /* all are down: their timers, that end in here again */
}


static void
ngx_http_llm_budget_redis_cluster_done(ngx_http_llm_budget_redis_cmd_t *cmd,
    ngx_int_t rc, redisReply *reply)
{
    ngx_http_llm_budget_redis_node_t   *node;
    ngx_http_llm_budget_redis_nodes_t  *nodes;

    nodes = cmd->data;
    node = nodes->map_node;

    nodes->fetching = 0;
    nodes->map_node = NULL;

    if (nodes->destroying) {
        return;
    }

    if (rc != NGX_OK) {
        node->lost = 1;
        ngx_http_llm_budget_redis_cluster_refresh(nodes);
        return;
    }

    if (reply->type == REDIS_REPLY_ERROR) {
        node->doubt = 0;
        ngx_http_llm_budget_redis_node_fail(node, reply->str);
        return;
    }

    if (ngx_http_llm_budget_redis_cluster_read(node, reply) != NGX_OK) {
        ngx_http_llm_budget_redis_node_fail(node,
                                            "it knows of no slots of others");
        return;
    }

    nodes->mapped = 1;
    nodes->stale = 0;
    nodes->notify = 1;

    ngx_http_llm_budget_redis_cluster_settle(nodes);
    ngx_http_llm_budget_redis_kick(nodes);
}


/* a list of: first slot, last slot, master, replicas */

static ngx_int_t
ngx_http_llm_budget_redis_cluster_read(ngx_http_llm_budget_redis_node_t *from,
    redisReply *reply)
{
    ngx_uint_t                          i, slot, start, end, seen;
    ngx_http_llm_budget_redis_node_t   *node;
    ngx_http_llm_budget_redis_nodes_t  *nodes;

    if (reply->type != REDIS_REPLY_ARRAY) {
        return NGX_ERROR;
    }

    nodes = from->nodes;
    seen = 0;

    for (i = 0; i < reply->elements; i++) {

        if (ngx_http_llm_budget_redis_cluster_range(reply->element[i], &start,
                                                    &end)
            == NGX_OK)
        {
            seen = 1;
        }
    }

    if (!seen) {
        return NGX_ERROR;
    }

    for (slot = 0; slot < NGX_HTTP_LLM_BUDGET_SLOTS; slot++) {
        ngx_http_llm_budget_redis_cluster_set(nodes, NULL, slot);
    }

    for (i = 0; i < reply->elements; i++) {

        if (ngx_http_llm_budget_redis_cluster_range(reply->element[i], &start,
                                                    &end)
            != NGX_OK)
        {
            continue;
        }

        node = ngx_http_llm_budget_redis_cluster_node(from,
                                               reply->element[i]->element[2]);
        if (node == NULL) {
            continue;
        }

        for (slot = start; slot <= end; slot++) {
            ngx_http_llm_budget_redis_cluster_set(nodes, node, slot);
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_redis_cluster_range(redisReply *range, ngx_uint_t *start,
    ngx_uint_t *end)
{
    redisReply  **element;

    if (range->type != REDIS_REPLY_ARRAY || range->elements < 3) {
        return NGX_DECLINED;
    }

    element = range->element;

    if (element[0]->type != REDIS_REPLY_INTEGER
        || element[1]->type != REDIS_REPLY_INTEGER
        || element[0]->integer < 0
        || element[0]->integer > element[1]->integer
        || element[1]->integer >= NGX_HTTP_LLM_BUDGET_SLOTS)
    {
        return NGX_DECLINED;
    }

    *start = (ngx_uint_t) element[0]->integer;
    *end = (ngx_uint_t) element[1]->integer;

    return NGX_OK;
}


/* host, port, ...; no host is the host that was asked */

static ngx_http_llm_budget_redis_node_t *
ngx_http_llm_budget_redis_cluster_node(ngx_http_llm_budget_redis_node_t *from,
    redisReply *reply)
{
    ngx_str_t     host;
    redisReply  **element;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2) {
        return NULL;
    }

    element = reply->element;

    if (element[1]->type != REDIS_REPLY_INTEGER
        || element[1]->integer < 1 || element[1]->integer > 65535)
    {
        return NULL;
    }

    if (element[0]->type == REDIS_REPLY_NIL
        || (element[0]->type == REDIS_REPLY_STRING && element[0]->len == 0))
    {
        host = from->host;

    } else if (element[0]->type == REDIS_REPLY_STRING
               && ngx_strcmp(element[0]->str, "?") != 0)
    {
        host.data = (u_char *) element[0]->str;
        host.len = (size_t) element[0]->len;

    } else {
        return NULL;
    }

    return ngx_http_llm_budget_redis_node_get(from->nodes, &host,
                                              (in_port_t)
                                                  element[1]->integer);
}


/* node NULL: nobody has it */

void
ngx_http_llm_budget_redis_cluster_set(ngx_http_llm_budget_redis_nodes_t *nodes,
    ngx_http_llm_budget_redis_node_t *node, ngx_uint_t slot)
{
    uint16_t  index;

    index = nodes->slots[slot];

    if (index != NGX_HTTP_LLM_BUDGET_REDIS_NO_NODE) {
        nodes->node[index]->slots--;
    }

    nodes->slots[slot] = NGX_HTTP_LLM_BUDGET_REDIS_NO_NODE;

    if (node != NULL) {
        nodes->slots[slot] = (uint16_t) node->index;
        node->slots++;
    }
}


/* connects those that have slots now, lets go of those that have none */

static void
ngx_http_llm_budget_redis_cluster_settle(
    ngx_http_llm_budget_redis_nodes_t *nodes)
{
    ngx_uint_t                         i;
    ngx_http_llm_budget_redis_node_t  *node;

    for (i = 0; i < nodes->n; i++) {
        node = nodes->node[i];

        if (node == NULL) {
            continue;
        }

        if (node->state == NGX_HTTP_LLM_BUDGET_NODE_UP) {
            ngx_http_llm_budget_redis_node_say(node);
        }

        if (node->slots) {

            if (!ngx_exiting) {
                ngx_http_llm_budget_redis_node_start(node);
            }

            continue;
        }

        if (node->state == NGX_HTTP_LLM_BUDGET_NODE_IDLE) {
            continue;
        }

        if (ngx_http_llm_budget_redis_awaited(node)
            || ngx_http_llm_budget_redis_node_load(node)
            || (!node->seed
                && node->state == NGX_HTTP_LLM_BUDGET_NODE_UP
                && ngx_current_msec - node->used
                   < NGX_HTTP_LLM_BUDGET_CLUSTER_UNUSED))
        {
            continue;
        }

        if (node->said) {
            ngx_log_error(NGX_LOG_NOTICE, nodes->log, 0,
                          "llm_budget: redis %V has no slots any more",
                          &node->name);
        }

        ngx_http_llm_budget_redis_node_close(node);
    }

    ngx_http_llm_budget_redis_node_sweep(nodes);
}


/* "MOVED 3999 127.0.0.1:6381", "ASK ..."; NULL: not to be understood */

ngx_http_llm_budget_redis_node_t *
ngx_http_llm_budget_redis_cluster_redirect(
    ngx_http_llm_budget_redis_node_t *from, redisReply *reply,
    ngx_uint_t *slot)
{
    u_char     *p, *last, *colon;
    ngx_int_t   n;
    ngx_str_t   host;

    p = (u_char *) reply->str;
    last = p + reply->len;

    p = ngx_strlchr(p, last, ' ');
    if (p == NULL) {
        return NULL;
    }

    host.data = ngx_strlchr(++p, last, ' ');
    if (host.data == NULL) {
        return NULL;
    }

    n = ngx_atoi(p, (size_t) (host.data - p));
    if (n < 0 || n >= NGX_HTTP_LLM_BUDGET_SLOTS) {
        return NULL;
    }

    *slot = (ngx_uint_t) n;

    host.data++;

    /* an IPv6 address has colons of its own */

    for (colon = last; colon > host.data && colon[-1] != ':'; colon--) {
        /* void */
    }

    if (colon == host.data) {
        return NULL;
    }

    n = ngx_atoi(colon, (size_t) (last - colon));
    if (n < 1 || n > 65535) {
        return NULL;
    }

    host.len = (size_t) (colon - 1 - host.data);

    if (host.len == 0) {
        host = from->host;

    } else if (host.len == 1 && host.data[0] == '?') {
        return NULL;
    }

    return ngx_http_llm_budget_redis_node_get(from->nodes, &host,
                                              (in_port_t) n);
}
