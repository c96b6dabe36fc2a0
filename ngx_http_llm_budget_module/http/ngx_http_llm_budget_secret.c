
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Credentials that stand in files of their own.
 */


#include "http/ngx_http_llm_budget_secret.h"


/* bytes of such a file */
#define NGX_HTTP_LLM_BUDGET_SECRET_MAX  4096


ngx_int_t
ngx_http_llm_budget_secret(ngx_conf_t *cf, ngx_str_t *secret, ngx_str_t *name,
    const char *what)
{
    u_char           buf[NGX_HTTP_LLM_BUDGET_SECRET_MAX];
    ssize_t          n;
    ngx_fd_t         fd;
    ngx_file_info_t  fi;

    if (ngx_conf_full_name(cf->cycle, name, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    fd = ngx_open_file(name->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " \"%V\" failed", name);
        return NGX_ERROR;
    }

    if (ngx_fd_info(fd, &fi) != NGX_FILE_ERROR && (fi.st_mode & 0007)) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "llm_budget: the %s in \"%V\" is readable by "
                           "everybody", what, name);
    }

    n = ngx_read_fd(fd, buf, NGX_HTTP_LLM_BUDGET_SECRET_MAX);

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_ALERT, cf, ngx_errno,
                           ngx_close_file_n " \"%V\" failed", name);
    }

    if (n < NGX_HTTP_LLM_BUDGET_SECRET_MAX) {

        /* the line end alone: a password may end in a space */

        while (n > 0 && (buf[n - 1] == LF || buf[n - 1] == CR)) {
            n--;
        }
    }

    if (n <= 0 || n == NGX_HTTP_LLM_BUDGET_SECRET_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: there is no %s in \"%V\": it has the "
                           "%s alone, of less than %d bytes", what, name, what,
                           NGX_HTTP_LLM_BUDGET_SECRET_MAX);
        return NGX_ERROR;
    }

    secret->len = (size_t) n;
    secret->data = ngx_pnalloc(cf->pool, secret->len);
    if (secret->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(secret->data, buf, secret->len);
    ngx_explicit_memzero(buf, sizeof(buf));

    return NGX_OK;
}
