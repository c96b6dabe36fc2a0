
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * From an address to a connection that is up: the socket, TLS with the
 * server's certificate verified before it gets a password, AUTH and SELECT.
 */


#include "http/ngx_http_llm_budget_redis_conn_int.h"


#define NGX_HTTP_LLM_BUDGET_REDIS_POOL      512

/* bytes shown of a server's refusal */
#define NGX_HTTP_LLM_BUDGET_REDIS_REFUSAL   96


static ngx_int_t ngx_http_llm_budget_redis_conn_prepare(
    ngx_http_llm_budget_redis_conn_t *conn, struct sockaddr *sockaddr,
    socklen_t socklen, ngx_str_t *host);
static void ngx_http_llm_budget_redis_conn_open(
    ngx_http_llm_budget_redis_conn_t *conn, socklen_t socklen);
static ngx_err_t ngx_http_llm_budget_redis_conn_test(ngx_connection_t *c);
static void ngx_http_llm_budget_redis_conn_connected(
    ngx_http_llm_budget_redis_conn_t *conn);
#if (NGX_SSL)
static void ngx_http_llm_budget_redis_conn_tls(
    ngx_http_llm_budget_redis_conn_t *conn);
static void ngx_http_llm_budget_redis_conn_handshake(
    ngx_http_llm_budget_redis_conn_t *conn);
static ngx_int_t ngx_http_llm_budget_redis_conn_verify(
    ngx_http_llm_budget_redis_conn_t *conn);
static void ngx_http_llm_budget_redis_conn_name(
    ngx_http_llm_budget_redis_conn_t *conn, ngx_str_t *name);
static size_t ngx_http_llm_budget_redis_conn_literal(ngx_str_t *name,
    u_char *addr);
#endif
static void ngx_http_llm_budget_redis_conn_greet(
    ngx_http_llm_budget_redis_conn_t *conn);
static size_t ngx_http_llm_budget_redis_conn_quotable(
    ngx_http_llm_budget_redis_conn_t *conn, redisReply *reply);


ngx_int_t
ngx_http_llm_budget_redis_conn_connect(ngx_http_llm_budget_redis_conn_t *conn,
    struct sockaddr *sockaddr, socklen_t socklen, ngx_str_t *host)
{
    /* closed only after its owner was told */

    if (conn->state != NGX_HTTP_LLM_BUDGET_REDIS_CLOSED
        || conn->notice.posted || conn->dying)
    {
        return NGX_BUSY;
    }

    conn->state = NGX_HTTP_LLM_BUDGET_REDIS_CONNECTING;
    conn->replies = 0;
    conn->heard = 0;
    conn->asked = 0;
    conn->failed = 0;

    ngx_memzero(&conn->scan, sizeof(ngx_http_llm_budget_redis_scan_t));

    conn->deadline = ngx_current_msec + conn->conf->connect_timeout;
    ngx_http_llm_budget_redis_conn_arm(conn, conn->deadline);

    if (ngx_http_llm_budget_redis_conn_prepare(conn, sockaddr, socklen, host)
        != NGX_OK)
    {
        ngx_http_llm_budget_redis_conn_fail(conn, 0, "no memory");
        return NGX_OK;
    }

    ngx_http_llm_budget_redis_conn_open(conn, socklen);

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_redis_conn_prepare(ngx_http_llm_budget_redis_conn_t *conn,
    struct sockaddr *sockaddr, socklen_t socklen, ngx_str_t *host)
{
    conn->reader = redisReaderCreate();
    if (conn->reader == NULL) {
        return NGX_ERROR;
    }

    conn->pool = ngx_create_pool(NGX_HTTP_LLM_BUDGET_REDIS_POOL, &conn->log);
    if (conn->pool == NULL) {
        return NGX_ERROR;
    }

    conn->host.data = ngx_pstrdup(conn->pool, host);
    if (conn->host.data == NULL) {
        return NGX_ERROR;
    }

    conn->host.len = host->len;

    ngx_memzero(&conn->sockaddr, sizeof(ngx_sockaddr_t));
    ngx_memcpy(&conn->sockaddr, sockaddr,
               ngx_min((size_t) socklen, sizeof(ngx_sockaddr_t)));

    conn->addr.data = conn->text;
    conn->addr.len = ngx_sock_ntop(&conn->sockaddr.sockaddr, socklen,
                                   conn->text, NGX_SOCKADDR_STRLEN, 1);

    return NGX_OK;
}


static void
ngx_http_llm_budget_redis_conn_open(ngx_http_llm_budget_redis_conn_t *conn,
    socklen_t socklen)
{
    ngx_err_t               err;
    ngx_int_t               rc;
    ngx_connection_t       *c;
    ngx_peer_connection_t   peer;

    ngx_memzero(&peer, sizeof(ngx_peer_connection_t));

    peer.sockaddr = &conn->sockaddr.sockaddr;
    peer.socklen = socklen;
    peer.name = &conn->addr;
    peer.get = ngx_event_get_peer;
    peer.log = &conn->log;
    peer.log_error = NGX_ERROR_INFO;
    peer.so_keepalive = (peer.sockaddr->sa_family != AF_UNIX);

    ngx_set_socket_errno(0);

    rc = ngx_event_connect_peer(&peer);

    if (rc != NGX_OK && rc != NGX_AGAIN) {
        err = ngx_socket_errno;
        ngx_http_llm_budget_redis_conn_fail(conn, err, "connect() failed");
        return;
    }

    c = peer.connection;

    c->data = conn;
    c->pool = conn->pool;
    c->sendfile = 0;
    c->read->handler = ngx_http_llm_budget_redis_conn_read_handler;
    c->write->handler = ngx_http_llm_budget_redis_conn_write_handler;

    conn->log.connection = c->number;

    conn->connection = c;
    c->idle = (conn->load == 0);

    if (rc == NGX_OK) {
        ngx_post_event(&conn->flush, &ngx_posted_events);
    }
}


void
ngx_http_llm_budget_redis_conn_step(ngx_http_llm_budget_redis_conn_t *conn,
    ngx_uint_t writable)
{
    ngx_err_t  err;

#if (NGX_SSL)

    if (conn->state == NGX_HTTP_LLM_BUDGET_REDIS_HANDSHAKE) {
        ngx_http_llm_budget_redis_conn_handshake(conn);
        return;
    }

#endif

    /* a failure may also show as something to read, success does not */

    err = ngx_http_llm_budget_redis_conn_test(conn->connection);

    if (err) {
        ngx_http_llm_budget_redis_conn_fail(conn, err, "connect() failed");
        return;
    }

    if (writable) {
        ngx_http_llm_budget_redis_conn_connected(conn);
    }
}


static ngx_err_t
ngx_http_llm_budget_redis_conn_test(ngx_connection_t *c)
{
    int        err;
    socklen_t  len;

    err = 0;
    len = sizeof(int);

    /*
     * BSDs and Linux return 0 and set a pending error in err
     * Solaris returns -1 and sets errno
     */

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, (void *) &err, &len) == -1) {
        err = ngx_socket_errno;
    }

    return err;
}


static void
ngx_http_llm_budget_redis_conn_connected(
    ngx_http_llm_budget_redis_conn_t *conn)
{
    if (ngx_tcp_nodelay(conn->connection) != NGX_OK) {
        ngx_http_llm_budget_redis_conn_fail(conn, 0, "no TCP_NODELAY");
        return;
    }

    if (!conn->conf->tls) {
        ngx_http_llm_budget_redis_conn_greet(conn);
        return;
    }

#if (NGX_SSL)
    ngx_http_llm_budget_redis_conn_tls(conn);
#else
    ngx_http_llm_budget_redis_conn_fail(conn, 0, "nginx was built without TLS");
#endif
}


#if (NGX_SSL)

static void
ngx_http_llm_budget_redis_conn_tls(ngx_http_llm_budget_redis_conn_t *conn)
{
    u_char             *p, addr[sizeof(struct in6_addr)];
    ngx_str_t           name;
    ngx_connection_t   *c;

    c = conn->connection;

    if (ngx_ssl_create_connection(conn->conf->ssl, c, NGX_SSL_CLIENT)
        != NGX_OK)
    {
        ngx_http_llm_budget_redis_conn_fail(conn, 0, "no TLS");
        return;
    }

#ifdef SSL_CTRL_SET_TLSEXT_HOSTNAME

    /* as per RFC 6066, literal addresses are no names */

    ngx_http_llm_budget_redis_conn_name(conn, &name);

    if (name.len && !ngx_http_llm_budget_redis_conn_literal(&name, addr)) {

        p = ngx_pnalloc(c->pool, name.len + 1);
        if (p == NULL) {
            ngx_http_llm_budget_redis_conn_fail(conn, 0, "no memory");
            return;
        }

        (void) ngx_cpystrn(p, name.data, name.len + 1);

        if (SSL_set_tlsext_host_name(c->ssl->connection, (char *) p) == 0) {
            ERR_clear_error();
            ngx_http_llm_budget_redis_conn_fail(conn, 0,
                                                "no valid name for TLS");
            return;
        }
    }

#endif

    conn->state = NGX_HTTP_LLM_BUDGET_REDIS_HANDSHAKE;

    ngx_http_llm_budget_redis_conn_handshake(conn);
}


static void
ngx_http_llm_budget_redis_conn_handshake(
    ngx_http_llm_budget_redis_conn_t *conn)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;

    c = conn->connection;

    rc = ngx_ssl_handshake(c);

    /* its own handlers do not look at c->close */

    c->read->handler = ngx_http_llm_budget_redis_conn_read_handler;
    c->write->handler = ngx_http_llm_budget_redis_conn_write_handler;

    if (rc == NGX_AGAIN) {
        return;
    }

    if (rc != NGX_OK) {
        ngx_http_llm_budget_redis_conn_fail(conn, 0, "TLS handshake failed");
        return;
    }

    if (conn->conf->verify
        && ngx_http_llm_budget_redis_conn_verify(conn) != NGX_OK)
    {
        return;
    }

    ngx_http_llm_budget_redis_conn_greet(conn);
}


static ngx_int_t
ngx_http_llm_budget_redis_conn_verify(ngx_http_llm_budget_redis_conn_t *conn)
{
    int                rc;
    long               result;
    X509              *cert;
    u_char             why[NGX_HTTP_LLM_BUDGET_REDIS_WHY];
    u_char             addr[sizeof(struct in6_addr)];
    size_t             len;
    ngx_str_t          name;
    ngx_connection_t  *c;

    c = conn->connection;

    result = SSL_get_verify_result(c->ssl->connection);

    if (result != X509_V_OK) {
        (void) ngx_snprintf(why, sizeof(why),
                            "its certificate is not valid (%l: %s)%Z", result,
                            X509_verify_cert_error_string(result));
        ngx_http_llm_budget_redis_conn_fail(conn, 0, (const char *) why);
        return NGX_ERROR;
    }

    ngx_http_llm_budget_redis_conn_name(conn, &name);
    len = ngx_http_llm_budget_redis_conn_literal(&name, addr);

    if (len) {
        rc = 0;
        cert = SSL_get_peer_certificate(c->ssl->connection);

        if (cert) {
            rc = X509_check_ip(cert, addr, len, 0);
            X509_free(cert);
        }

    } else {
        rc = (name.len && ngx_ssl_check_host(c, &name) == NGX_OK);
    }

    if (rc != 1) {
        (void) ngx_snprintf(why, sizeof(why) - 1,
                            "its certificate is not for \"%V\"%Z", &name);
        why[sizeof(why) - 1] = '\0';
        ngx_http_llm_budget_redis_conn_fail(conn, 0, (const char *) why);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* the name configured, or the host, without the brackets of an address */

static void
ngx_http_llm_budget_redis_conn_name(ngx_http_llm_budget_redis_conn_t *conn,
    ngx_str_t *name)
{
    *name = conn->conf->tls_name.len ? conn->conf->tls_name : conn->host;

    if (name->len > 2 && name->data[0] == '['
        && name->data[name->len - 1] == ']')
    {
        name->data++;
        name->len -= 2;
    }
}


/* the bytes of a literal address, or 0 */

static size_t
ngx_http_llm_budget_redis_conn_literal(ngx_str_t *name, u_char *addr)
{
    in_addr_t  in;

    in = ngx_inet_addr(name->data, name->len);

    if (in != INADDR_NONE) {
        ngx_memcpy(addr, &in, sizeof(in_addr_t));
        return sizeof(in_addr_t);
    }

#if (NGX_HAVE_INET6)

    if (ngx_inet6_addr(name->data, name->len, addr) == NGX_OK) {
        return sizeof(struct in6_addr);
    }

#endif

    return 0;
}

#endif


static void
ngx_http_llm_budget_redis_conn_greet(ngx_http_llm_budget_redis_conn_t *conn)
{
    size_t                                  lens[3];
    u_char                                  db[NGX_INT_T_LEN];
    ngx_uint_t                              n;
    const char                             *argv[3];
    ngx_connection_t                       *c;
    ngx_http_llm_budget_redis_conn_conf_t  *conf;

    c = conn->connection;
    conf = conn->conf;

    conn->state = NGX_HTTP_LLM_BUDGET_REDIS_AUTH;

    /* what came together with the handshake's end is seen but not read */

    if (c->read->ready) {
        ngx_post_event(c->read, &ngx_posted_events);
    }

    if (conf->password.len) {
        n = 0;
        argv[n] = "AUTH";
        lens[n++] = sizeof("AUTH") - 1;

        if (conf->user.len) {
            argv[n] = (const char *) conf->user.data;
            lens[n++] = conf->user.len;
        }

        argv[n] = (const char *) conf->password.data;
        lens[n++] = conf->password.len;

        if (ngx_http_llm_budget_redis_conn_put(conn, n, argv, lens)
            != NGX_OK)
        {
            ngx_http_llm_budget_redis_conn_fail(conn, 0, "no memory");
            return;
        }

        conn->replies++;
    }

    if (conf->db > 0) {
        argv[0] = "SELECT";
        lens[0] = sizeof("SELECT") - 1;
        argv[1] = (const char *) db;
        lens[1] = ngx_sprintf(db, "%i", conf->db) - db;

        if (ngx_http_llm_budget_redis_conn_put(conn, 2, argv, lens)
            != NGX_OK)
        {
            ngx_http_llm_budget_redis_conn_fail(conn, 0, "no memory");
            return;
        }

        conn->replies++;
    }

    if (conn->replies == 0) {
        ngx_http_llm_budget_redis_conn_up(conn);
        return;
    }

    ngx_http_llm_budget_redis_conn_flush(conn);
}


/* an answer to AUTH or SELECT */

void
ngx_http_llm_budget_redis_conn_greeted(ngx_http_llm_budget_redis_conn_t *conn,
    redisReply *reply)
{
    ngx_http_llm_budget_redis_conn_conf_t  *conf;

    conf = conn->conf;

    if (reply->type == REDIS_REPLY_STATUS) {

        if (--conn->replies == 0) {
            ngx_http_llm_budget_redis_conn_up(conn);
        }

        return;
    }

    if (conf->password.len && (conn->replies == 2 || conf->db <= 0)) {
        ngx_http_llm_budget_redis_conn_refused(conn, "AUTH was refused",
                                               reply);
        return;
    }

    ngx_http_llm_budget_redis_conn_refused(conn, "SELECT was refused", reply);
}


void
ngx_http_llm_budget_redis_conn_refused(ngx_http_llm_budget_redis_conn_t *conn,
    const char *what, redisReply *reply)
{
    u_char  why[NGX_HTTP_LLM_BUDGET_REDIS_WHY];
    size_t  len;

    len = ngx_http_llm_budget_redis_conn_quotable(conn, reply);

    if (len == 0) {
        ngx_http_llm_budget_redis_conn_fail(conn, 0, what);
        return;
    }

    (void) ngx_snprintf(why, sizeof(why), "%s: %*s%Z", what, len, reply->str);
    ngx_http_llm_budget_redis_conn_fail(conn, 0, (const char *) why);
}


/*
 * How much of a refusal may be shown.  A server that does not know AUTH says
 * so with the arguments, in quotes.
 */

static size_t
ngx_http_llm_budget_redis_conn_quotable(ngx_http_llm_budget_redis_conn_t *conn,
    redisReply *reply)
{
    u_char      ch;
    size_t      i, n, word;
    ngx_str_t  *password;

    if (reply->type != REDIS_REPLY_ERROR) {
        return 0;
    }

    n = ngx_min(reply->len, NGX_HTTP_LLM_BUDGET_REDIS_REFUSAL);
    word = 0;

    for (i = 0; i < n; i++) {
        ch = (u_char) reply->str[i];

        if (ch < ' ' || ch > '~' || ch == '`' || ch == '\'' || ch == '"') {
            break;
        }

        if (ch == ' ' && word == 0) {
            word = i;
        }
    }

    n = i;
    password = &conn->conf->password;

    for (i = 0; password->len && i + password->len <= n; i++) {

        if (ngx_memcmp(reply->str + i, password->data, password->len) == 0) {
            return word;
        }
    }

    return n;
}
