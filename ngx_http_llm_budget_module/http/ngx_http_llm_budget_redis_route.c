
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Which server of a Redis store gets a command, and what its answer means:
 * for the command, and for the server.
 */


#include "http/ngx_http_llm_budget_redis_nodes_int.h"


/* after each TRYAGAIN that much longer: keys of a slot are on their way */
#define NGX_HTTP_LLM_BUDGET_REDIS_AGAIN     20


static ngx_int_t ngx_http_llm_budget_redis_target(
    ngx_http_llm_budget_redis_nodes_t *nodes,
    ngx_http_llm_budget_redis_cmd_t *cmd,
    ngx_http_llm_budget_redis_node_t **node);
static ngx_int_t ngx_http_llm_budget_redis_submit(
    ngx_http_llm_budget_redis_node_t *node,
    ngx_http_llm_budget_redis_cmd_t *cmd);
static void ngx_http_llm_budget_redis_done(
    ngx_http_llm_budget_redis_cmd_t *cmd, ngx_int_t rc, redisReply *reply);
static void ngx_http_llm_budget_redis_failed(
    ngx_http_llm_budget_redis_node_t *node,
    ngx_http_llm_budget_redis_cmd_t *cmd);
static ngx_int_t ngx_http_llm_budget_redis_redirect(
    ngx_http_llm_budget_redis_node_t *node,
    ngx_http_llm_budget_redis_cmd_t *cmd, redisReply *reply);
static void ngx_http_llm_budget_redis_refused(
    ngx_http_llm_budget_redis_node_t *node, redisReply *reply);
static ngx_uint_t ngx_http_llm_budget_redis_is(redisReply *reply,
    const char *code);


ngx_int_t
ngx_http_llm_budget_redis_send(ngx_http_llm_budget_redis_nodes_t *nodes,
    ngx_http_llm_budget_redis_cmd_t *cmd)
{
    ngx_int_t  rc;

    cmd->done = ngx_http_llm_budget_redis_done;
    cmd->node = NULL;
    cmd->tries = 0;
    cmd->asking = 0;
    cmd->sent = 0;

    /* an exiting worker connects for those who wait only */

    nodes->nwaiting++;
    rc = ngx_http_llm_budget_redis_route(nodes, cmd);
    nodes->nwaiting--;

    if (rc != NGX_AGAIN) {
        return rc;
    }

    if (nodes->nwaiting >= NGX_HTTP_LLM_BUDGET_REDIS_QUEUE) {
        return NGX_DECLINED;
    }

    ngx_http_llm_budget_redis_wait(nodes, cmd);

    return NGX_OK;
}


/* NGX_OK: it is at a connection; NGX_AGAIN: it has to wait; NGX_DECLINED */

ngx_int_t
ngx_http_llm_budget_redis_route(ngx_http_llm_budget_redis_nodes_t *nodes,
    ngx_http_llm_budget_redis_cmd_t *cmd)
{
    ngx_int_t                          rc;
    ngx_http_llm_budget_redis_node_t  *node;

    rc = ngx_http_llm_budget_redis_target(nodes, cmd, &node);

    if (rc != NGX_OK) {
        return rc;
    }

    switch (node->state) {

    case NGX_HTTP_LLM_BUDGET_NODE_UP:
        return ngx_http_llm_budget_redis_submit(node, cmd);

    case NGX_HTTP_LLM_BUDGET_NODE_HALF:

        if (node->probe != NULL) {
            return NGX_DECLINED;
        }

        rc = ngx_http_llm_budget_redis_submit(node, cmd);

        if (rc == NGX_OK) {
            node->probe = cmd;
        }

        return rc;

    case NGX_HTTP_LLM_BUDGET_NODE_IDLE:

        if (ngx_http_llm_budget_redis_node_open(node)) {

            /* being closed; its end makes us come back */

            return NGX_AGAIN;
        }

        ngx_http_llm_budget_redis_node_start(node);

        if (node->state != NGX_HTTP_LLM_BUDGET_NODE_CONNECTING) {
            return NGX_DECLINED;
        }

        return NGX_AGAIN;

    case NGX_HTTP_LLM_BUDGET_NODE_CONNECTING:
        return NGX_AGAIN;

    default: /* DOWN, PROBING */
        return NGX_DECLINED;
    }
}


static ngx_int_t
ngx_http_llm_budget_redis_target(ngx_http_llm_budget_redis_nodes_t *nodes,
    ngx_http_llm_budget_redis_cmd_t *cmd,
    ngx_http_llm_budget_redis_node_t **node)
{
    uint16_t  index;

    *node = nodes->master;

    if (nodes->conf->mode == NGX_HTTP_LLM_BUDGET_REDIS_SINGLE) {
        return NGX_OK;
    }

    if (nodes->conf->mode == NGX_HTTP_LLM_BUDGET_REDIS_SENTINEL) {

        if (nodes->master != NULL) {
            return NGX_OK;
        }

        if (!nodes->asking && !nodes->ask_timer.timer_set) {
            ngx_http_llm_budget_redis_sentinel_ask(nodes);
        }

        return nodes->no_answer ? NGX_DECLINED : NGX_AGAIN;
    }

    /* CLUSTER */

    if (cmd->asking && cmd->node != NULL) {
        *node = cmd->node;
        return NGX_OK;
    }

    if (!nodes->mapped) {

        if (!nodes->map_timer.timer_set) {
            ngx_http_llm_budget_redis_cluster_fetch(nodes);
        }

        return ngx_http_llm_budget_redis_nodes_state(nodes);
    }

    if (cmd->slot >= NGX_HTTP_LLM_BUDGET_SLOTS) {
        *node = ngx_http_llm_budget_redis_any(nodes);
        return *node ? NGX_OK : NGX_DECLINED;
    }

    index = nodes->slots[cmd->slot];

    if (index == NGX_HTTP_LLM_BUDGET_REDIS_NO_NODE) {
        ngx_http_llm_budget_redis_cluster_refresh(nodes);
        return NGX_DECLINED;
    }

    *node = nodes->node[index];

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_redis_submit(ngx_http_llm_budget_redis_node_t *node,
    ngx_http_llm_budget_redis_cmd_t *cmd)
{
    ngx_http_llm_budget_redis_link_t  *link;

    link = ngx_http_llm_budget_redis_node_link(node);

    if (link == NULL) {

        /* closed just now; down() makes us come back */

        return NGX_AGAIN;
    }

    cmd->node = node;
    cmd->sent = 0;

    if (ngx_http_llm_budget_redis_conn_submit(link->conn, cmd) != NGX_OK) {
        return NGX_DECLINED;
    }

    node->used = ngx_current_msec;

    return NGX_OK;
}


/* what a connection says of a command */

static void
ngx_http_llm_budget_redis_done(ngx_http_llm_budget_redis_cmd_t *cmd,
    ngx_int_t rc, redisReply *reply)
{
    ngx_http_llm_budget_redis_node_t  *node;

    node = cmd->node;

    if (node->nodes->destroying) {
        cmd->done = NULL;
        ngx_queue_insert_tail(node->nodes->left, &cmd->queue);
        return;
    }

    if (rc != NGX_OK) {
        ngx_http_llm_budget_redis_failed(node, cmd);
        return;
    }

    if (reply->type != REDIS_REPLY_ERROR
        || cmd->soft
        || ngx_http_llm_budget_redis_is(reply, "NOSCRIPT"))
    {
        if (node->probe == cmd) {
            ngx_http_llm_budget_redis_node_good(node);
        }

        ngx_http_llm_budget_redis_finish(cmd, NGX_OK, reply);
        return;
    }

    if (node->nodes->conf->mode == NGX_HTTP_LLM_BUDGET_REDIS_CLUSTER
        && ngx_http_llm_budget_redis_redirect(node, cmd, reply) == NGX_OK)
    {
        return;
    }

    if (ngx_http_llm_budget_redis_is(reply, "LOST")
        || ngx_http_llm_budget_redis_is(reply, "WRONGTYPE"))
    {
        /* the keys of one tag are damaged: the server and others are not */

        if (node->probe == cmd) {
            ngx_http_llm_budget_redis_node_good(node);
        }

    } else {
        ngx_http_llm_budget_redis_refused(node, reply);
    }

    ngx_http_llm_budget_redis_finish(cmd, NGX_DECLINED, reply);
}


/* its connection died, or its time has passed; down() has the reason */

static void
ngx_http_llm_budget_redis_failed(ngx_http_llm_budget_redis_node_t *node,
    ngx_http_llm_budget_redis_cmd_t *cmd)
{
    if (node->probe == cmd) {
        node->probe = NULL;
    }

    if (cmd->sent) {
        node->lost = 1;

    } else if (!ngx_http_llm_budget_redis_expired(cmd)
               && cmd->tries < NGX_HTTP_LLM_BUDGET_REDIS_TRIES)
    {
        cmd->tries++;
        ngx_http_llm_budget_redis_wait(node->nodes, cmd);
        ngx_http_llm_budget_redis_kick(node->nodes);
        return;
    }

    ngx_http_llm_budget_redis_finish(cmd, NGX_ERROR, NULL);
}


/* NGX_OK: it is on its way again; else the reply is an error like others */

static ngx_int_t
ngx_http_llm_budget_redis_redirect(ngx_http_llm_budget_redis_node_t *node,
    ngx_http_llm_budget_redis_cmd_t *cmd, redisReply *reply)
{
    ngx_uint_t                          slot, ask, again;
    ngx_http_llm_budget_redis_node_t   *target;
    ngx_http_llm_budget_redis_nodes_t  *nodes;

    nodes = node->nodes;
    again = ngx_http_llm_budget_redis_is(reply, "TRYAGAIN");
    ask = ngx_http_llm_budget_redis_is(reply, "ASK");
    target = NULL;

    if (!again) {

        if (!ask && !ngx_http_llm_budget_redis_is(reply, "MOVED")) {
            return NGX_DECLINED;
        }

        target = ngx_http_llm_budget_redis_cluster_redirect(node, reply,
                                                            &slot);
        if (target == NULL) {
            return NGX_DECLINED;
        }
    }

    /* any answer of this kind is a good one */

    if (node->probe == cmd) {
        ngx_http_llm_budget_redis_node_good(node);
    }

    if (target != NULL && !ask) {
        cmd->slot = slot;
        ngx_http_llm_budget_redis_cluster_set(nodes, target, slot);
        ngx_http_llm_budget_redis_cluster_refresh(nodes);
    }

    cmd->sent = 0;

    if (cmd->tries == NGX_HTTP_LLM_BUDGET_REDIS_TRIES) {
        ngx_http_llm_budget_redis_finish(cmd, NGX_DECLINED, reply);
        return NGX_OK;
    }

    cmd->tries++;

    if (again) {

        /* to the same server, asking or not */

        ngx_queue_insert_tail(&nodes->later, &cmd->queue);
        nodes->nwaiting++;

        if (!nodes->again.timer_set) {
            ngx_add_timer(&nodes->again,
                          NGX_HTTP_LLM_BUDGET_REDIS_AGAIN * cmd->tries);
        }

        return NGX_OK;
    }

    cmd->asking = ask ? 1 : 0;
    cmd->node = ask ? target : NULL;

    ngx_http_llm_budget_redis_wait(nodes, cmd);
    ngx_http_llm_budget_redis_kick(nodes);

    return NGX_OK;
}


/* an error: the server is down for all, until it is known to be good */

static void
ngx_http_llm_budget_redis_refused(ngx_http_llm_budget_redis_node_t *node,
    redisReply *reply)
{
    if (node->state != NGX_HTTP_LLM_BUDGET_NODE_UP
        && node->state != NGX_HTTP_LLM_BUDGET_NODE_HALF)
    {
        return;
    }

    /* its INFO tells when these have passed */

    if (node->nodes->blind
        || (!ngx_http_llm_budget_redis_is(reply, "LOADING")
            && !ngx_http_llm_budget_redis_is(reply, "READONLY")))
    {
        node->doubt = 1;
    }

    ngx_http_llm_budget_redis_node_fail(node, reply->str);

    /* another server may have the name, the role, or this one the password */

    if (ngx_http_llm_budget_redis_is(reply, "READONLY")
        || ngx_http_llm_budget_redis_is(reply, "NOAUTH")
        || ngx_http_llm_budget_redis_is(reply, "MASTERDOWN"))
    {
        node->renew = 1;
    }
}


static ngx_uint_t
ngx_http_llm_budget_redis_is(redisReply *reply, const char *code)
{
    size_t  len;

    len = ngx_strlen(code);

    return reply->len >= len && ngx_memcmp(reply->str, code, len) == 0
           && (reply->len == len || reply->str[len] == ' ');
}
