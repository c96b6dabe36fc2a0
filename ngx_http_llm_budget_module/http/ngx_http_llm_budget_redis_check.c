
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What is asked on each new connection to a server of a Redis store before it
 * gets any command: INFO, that tells version, role, and whether keys can be
 * evicted.
 */


#include "http/ngx_http_llm_budget_redis_nodes_int.h"


#define NGX_HTTP_LLM_BUDGET_REDIS_VERSION   5

/* a policy is warned about once in that time, whatever the connections */
#define NGX_HTTP_LLM_BUDGET_REDIS_WARN      1000


typedef struct {
    ngx_str_t                          version;
    ngx_str_t                          mode;
    ngx_str_t                          role;
    ngx_str_t                          loading;
    ngx_str_t                          policy;
} ngx_http_llm_budget_redis_info_t;


static void ngx_http_llm_budget_redis_check_done(
    ngx_http_llm_budget_redis_cmd_t *cmd, ngx_int_t rc, redisReply *reply);
static const char *ngx_http_llm_budget_redis_check_info(
    ngx_http_llm_budget_redis_node_t *node,
    ngx_http_llm_budget_redis_info_t *info, ngx_uint_t *renew);
static void ngx_http_llm_budget_redis_check_read(
    ngx_http_llm_budget_redis_info_t *info, redisReply *reply);
static void ngx_http_llm_budget_redis_check_line(ngx_str_t *value,
    const char *name, u_char *p, u_char *last);
static void ngx_http_llm_budget_redis_check_policy(
    ngx_http_llm_budget_redis_node_t *node, ngx_str_t *policy);
static void ngx_http_llm_budget_redis_check_blind(
    ngx_http_llm_budget_redis_node_t *node, const char *what);


static const char  *ngx_http_llm_budget_redis_info_argv[] = { "INFO" };
static const size_t  ngx_http_llm_budget_redis_info_lens[] = { 4 };


void
ngx_http_llm_budget_redis_check(ngx_http_llm_budget_redis_link_t *link)
{
    ngx_http_llm_budget_redis_cmd_t  *cmd;

    if (link->checking) {
        return;
    }

    cmd = &link->check;

    ngx_memzero(cmd, sizeof(ngx_http_llm_budget_redis_cmd_t));

    cmd->argc = 1;
    cmd->argv = ngx_http_llm_budget_redis_info_argv;
    cmd->lens = ngx_http_llm_budget_redis_info_lens;
    cmd->deadline = ngx_current_msec + link->node->conf->connect_timeout;
    cmd->slot = NGX_HTTP_LLM_BUDGET_NO_SLOT;
    cmd->handler = ngx_http_llm_budget_redis_check_done;
    cmd->data = link;

    if (ngx_http_llm_budget_redis_conn_submit(link->conn, cmd) == NGX_OK) {
        link->checking = 1;
        return;
    }

    /* closed, which down() tells; or its queue is full: it does not answer */

    ngx_http_llm_budget_redis_node_fail(link->node, "too much waits for it");
}


static void
ngx_http_llm_budget_redis_check_done(ngx_http_llm_budget_redis_cmd_t *cmd,
    ngx_int_t rc, redisReply *reply)
{
    const char                        *reason;
    ngx_uint_t                         renew;
    ngx_http_llm_budget_redis_link_t  *link;
    ngx_http_llm_budget_redis_node_t  *node;
    ngx_http_llm_budget_redis_info_t   info;

    link = cmd->data;
    node = link->node;

    link->checking = 0;

    if (rc != NGX_OK || node->nodes->destroying) {

        /* down() follows */

        link->ready = 0;
        return;
    }

    renew = 0;
    reason = NULL;

    ngx_memzero(&info, sizeof(ngx_http_llm_budget_redis_info_t));

    if (reply->type != REDIS_REPLY_ERROR) {
        ngx_http_llm_budget_redis_check_read(&info, reply);
        reason = ngx_http_llm_budget_redis_check_info(node, &info, &renew);

    } else if (ngx_strncmp(reply->str, "NOPERM", 6) == 0
               || ngx_strncmp(reply->str, "ERR unknown command", 19) == 0)
    {
        node->nodes->blind = 1;

    } else {
        reason = reply->str;
        renew = 1;
    }

    if (reason != NULL) {
        ngx_http_llm_budget_redis_node_fail(node, reason);

        node->renew = node->renew || renew;
        return;
    }

    if (!link->ready) {
        link->ready = 1;
        link->since = ngx_current_msec;

        ngx_http_llm_budget_redis_check_policy(node, &info.policy);
    }

    ngx_http_llm_budget_redis_node_ready(node);
}


/* why it cannot be used, or NULL; renew: nor can this connection */

static const char *
ngx_http_llm_budget_redis_check_info(ngx_http_llm_budget_redis_node_t *node,
    ngx_http_llm_budget_redis_info_t *info, ngx_uint_t *renew)
{
    ngx_int_t  major;
    u_char    *dot;

    if (info->version.len) {
        dot = ngx_strlchr(info->version.data,
                          info->version.data + info->version.len, '.');

        major = ngx_atoi(info->version.data,
                         dot ? (size_t) (dot - info->version.data)
                             : info->version.len);

        if (major != NGX_ERROR && major < NGX_HTTP_LLM_BUDGET_REDIS_VERSION) {
            *renew = 1;
            return "its version is below 5.0, the oldest that will do";
        }
    }

    if (info->loading.len == 1 && info->loading.data[0] == '1') {
        return "it is loading its data";
    }

    if (node->nodes->conf->mode == NGX_HTTP_LLM_BUDGET_REDIS_CLUSTER) {

        if (info->mode.len == 10
            && ngx_strncmp(info->mode.data, "standalone", 10) == 0)
        {
            return "it is of no cluster: leave out \"cluster\" for it";
        }

        /* a replica knows the map too, and sends away commands itself */

        return NULL;
    }

    if (info->role.len
        && (info->role.len != 6
            || ngx_strncmp(info->role.data, "master", 6) != 0))
    {
        *renew = 1;
        return "it is a replica";
    }

    return NULL;
}


/* "name:value" lines */

static void
ngx_http_llm_budget_redis_check_read(ngx_http_llm_budget_redis_info_t *info,
    redisReply *reply)
{
    u_char  *p, *end, *last;

    if (reply->type != REDIS_REPLY_STRING) {
        return;
    }

    p = (u_char *) reply->str;
    last = p + reply->len;

    while (p < last) {
        end = ngx_strlchr(p, last, '\n');

        if (end == NULL) {
            end = last;
        }

        ngx_http_llm_budget_redis_check_line(&info->version,
                                             "redis_version:", p, end);
        ngx_http_llm_budget_redis_check_line(&info->mode, "redis_mode:", p,
                                             end);
        ngx_http_llm_budget_redis_check_line(&info->role, "role:", p, end);
        ngx_http_llm_budget_redis_check_line(&info->loading, "loading:", p,
                                             end);
        ngx_http_llm_budget_redis_check_line(&info->policy,
                                             "maxmemory_policy:", p, end);
        p = end + 1;
    }
}


static void
ngx_http_llm_budget_redis_check_line(ngx_str_t *value, const char *name,
    u_char *p, u_char *last)
{
    size_t  len;

    len = ngx_strlen(name);

    if ((size_t) (last - p) < len || ngx_memcmp(p, name, len) != 0) {
        return;
    }

    p += len;

    while (last > p && last[-1] <= ' ') {
        last--;
    }

    value->data = p;
    value->len = (size_t) (last - p);
}


static void
ngx_http_llm_budget_redis_check_policy(ngx_http_llm_budget_redis_node_t *node,
    ngx_str_t *policy)
{
    ngx_uint_t  level;

    if (policy->len == 0) {
        ngx_http_llm_budget_redis_check_blind(node, node->nodes->blind
                                                    ? "INFO is refused"
                                                    : "INFO does not tell it");
        return;
    }

    if (policy->len == 10
        && ngx_strncmp(policy->data, "noeviction", 10) == 0)
    {
        return;
    }

    if (node->warned_at && ngx_current_msec - node->warned_at
                           < NGX_HTTP_LLM_BUDGET_REDIS_WARN)
    {
        return;
    }

    node->warned_at = ngx_current_msec;

    level = (policy->len > 9
             && ngx_strncmp(policy->data, "volatile-", 9) == 0)
            ? NGX_LOG_WARN : NGX_LOG_ERR;

    ngx_log_error(level, node->nodes->log, 0,
                  "llm_budget: redis %V evicts keys (maxmemory-policy %V): "
                  "budgets can be forgotten; set noeviction",
                  &node->name, policy);
}


static void
ngx_http_llm_budget_redis_check_blind(ngx_http_llm_budget_redis_node_t *node,
    const char *what)
{
    if (node->warned) {
        return;
    }

    node->warned = 1;

    ngx_log_error(NGX_LOG_NOTICE, node->nodes->log, 0,
                  "llm_budget: whether redis %V evicts keys could not be read, "
                  "%s: see that its maxmemory-policy is noeviction",
                  &node->name, what);
}
