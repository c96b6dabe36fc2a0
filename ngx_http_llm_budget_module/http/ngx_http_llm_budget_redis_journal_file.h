
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The inside of the journal, for its own three sources.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_REDIS_JOURNAL_FILE_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_REDIS_JOURNAL_FILE_H_INCLUDED_


#include "http/ngx_http_llm_budget_redis_journal.h"


/* bytes read at once; a line longer than a record is given in pieces */
#define NGX_HTTP_LLM_BUDGET_JOURNAL_BUF         65536
#define NGX_HTTP_LLM_BUDGET_JOURNAL_PIECE       (LLMB_RECORD_LEN + 2)

/* smallest bound of a folder, bytes */
#define NGX_HTTP_LLM_BUDGET_JOURNAL_MIN         65536

/* bytes of a file's name, entries of a folder that are looked at */
#define NGX_HTTP_LLM_BUDGET_JOURNAL_NAME        64
#define NGX_HTTP_LLM_BUDGET_JOURNAL_ENTRIES     4096

/* names tried for a new file */
#define NGX_HTTP_LLM_BUDGET_JOURNAL_TRIES       256

/* milliseconds: between looks into the folder, between complaints */
#define NGX_HTTP_LLM_BUDGET_JOURNAL_SCAN        1000
#define NGX_HTTP_LLM_BUDGET_JOURNAL_QUIET       10000


/* the first byte of each line */
#define NGX_HTTP_LLM_BUDGET_JOURNAL_NEW         'n'
#define NGX_HTTP_LLM_BUDGET_JOURNAL_SENT        's'
#define NGX_HTTP_LLM_BUDGET_JOURNAL_TOLD        't'


typedef struct {
    ngx_fd_t                        fd;
    dev_t                           dev;        /* of own */
    ino_t                           ino;
    off_t                           size;       /* whole lines */
    off_t                           next;       /* first line not given */
    ngx_uint_t                      given;      /* lines */
    ngx_uint_t                      told;       /* or left */
    ngx_uint_t                      left;
    u_char                          name[NGX_HTTP_LLM_BUDGET_JOURNAL_NAME];
} ngx_http_llm_budget_journal_file_t;


struct ngx_http_llm_budget_journal_s {
    ngx_str_t                       dir;
    off_t                           max_len;
    u_char                          store[NGX_HTTP_LLM_BUDGET_JOURNAL_STORE
                                          + 1];     /* ends with a zero */
    off_t                           others;     /* bytes of all but own */
    ngx_log_t                      *log;

    ngx_http_llm_budget_journal_file_t   own;
    ngx_http_llm_budget_journal_file_t   adopted;
    ngx_http_llm_budget_journal_file_t  *current;

    u_char                         *buf;        /* of the current file, from */
    u_char                         *pos;        /* its next line on */
    u_char                         *last;
    ngx_str_t                       line;       /* given last */
    off_t                           place;      /* of it */

    u_char                         *path;       /* "<dir>/" and room */

    ngx_msec_t                      count_at;   /* not before */
    ngx_msec_t                      adopt_at;
    ngx_msec_t                      write_quiet;
    ngx_msec_t                      read_quiet;
    ngx_msec_t                      refused_quiet;
    ngx_msec_t                      failed;     /* no room until then */

    unsigned                        live:1;
    unsigned                        cut:1;      /* own ends within a line */
    unsigned                        doubt:1;    /* the last write failed */
    unsigned                        told_other:1;   /* of another store's */
};


/* A folder that is not there will be created, or nginx says why not. */
ngx_int_t ngx_http_llm_budget_journal_check_dir(ngx_conf_t *cf,
    ngx_str_t *dir);

/*
 * Makes sure that this worker's file is open, locked, and ends where it is
 * thought to end.  NGX_OK, or NGX_ERROR, said in the log.
 */
ngx_int_t ngx_http_llm_budget_journal_ready(
    ngx_http_llm_budget_journal_t *journal);

/*
 * Writes a state, unless it is 0, a line and its line feed, or nothing;
 * returns 0 or the error.
 */
ngx_err_t ngx_http_llm_budget_journal_append(ngx_fd_t fd, off_t size,
    ngx_uint_t cut, u_char state, ngx_str_t *line);

/* Writes the state of the current file's line in place, as well as it can. */
void ngx_http_llm_budget_journal_mark(ngx_http_llm_budget_journal_t *journal,
    off_t place, u_char state);

/* Appends a line to "bad.<name>"; returns 0 or the error. */
ngx_err_t ngx_http_llm_budget_journal_keep(
    ngx_http_llm_budget_journal_t *journal, u_char *name, ngx_str_t *line);

/* Whether a record could be written now: NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_llm_budget_journal_probe(
    ngx_http_llm_budget_journal_t *journal);

/*
 * Sets journal->line and journal->place to the file's next line that was not
 * told, with its state, or to a piece of one that is too long; a last line may
 * lack its line feed.  NGX_OK; NGX_DONE: there is none; NGX_AGAIN: none so far;
 * NGX_ERROR.
 */
ngx_int_t ngx_http_llm_budget_journal_read_line(
    ngx_http_llm_budget_journal_t *journal,
    ngx_http_llm_budget_journal_file_t *file);

/*
 * Counts the bytes of the files of others; with adopt, opens the first of
 * them whose worker is gone.
 */
void ngx_http_llm_budget_journal_scan(
    ngx_http_llm_budget_journal_t *journal, ngx_uint_t adopt);

/* NGX_OK, or NGX_DECLINED: a line of len bytes would be too much. */
ngx_int_t ngx_http_llm_budget_journal_fits(
    ngx_http_llm_budget_journal_t *journal, size_t len);

void ngx_http_llm_budget_journal_close(
    ngx_http_llm_budget_journal_file_t *file);

/* "<dir>/<prefix><name>", until the next call */
u_char *ngx_http_llm_budget_journal_path(
    ngx_http_llm_budget_journal_t *journal, const char *prefix, u_char *name);

/* Whether it is time: then it is not again, for a period of milliseconds. */
ngx_uint_t ngx_http_llm_budget_journal_due(ngx_msec_t *at, ngx_msec_t period);


#endif /* _NGX_HTTP_LLM_BUDGET_REDIS_JOURNAL_FILE_H_INCLUDED_ */
