
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The journal: closings of holds that a store could not be told, one line
 * each (llmb_record_write()), in a file of the worker's own, until they are
 * told after all: by this worker when the store is back, by another worker
 * when this one has died, or by the next generation.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_REDIS_JOURNAL_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_REDIS_JOURNAL_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"


typedef struct ngx_http_llm_budget_journal_s  ngx_http_llm_budget_journal_t;


/*
 * Of the configuration: the folder is created by nginx at start, owned by the
 * workers' user.  max_len: bytes of all its files together.  store: hex digits
 * that stand for the store its lines are for, part of the files' names: those
 * of others are never told.  NULL after an error was
 * logged.
 */
#define NGX_HTTP_LLM_BUDGET_JOURNAL_STORE   16

ngx_http_llm_budget_journal_t *ngx_http_llm_budget_journal_create(
    ngx_conf_t *cf, ngx_str_t *dir, off_t max_len, const u_char *store);

/* A worker begins to use it; no file is made before there may be a line. */
void ngx_http_llm_budget_journal_init(ngx_http_llm_budget_journal_t *journal,
    ngx_log_t *log);

/*
 * Appends a line, without its line feed, to this worker's file.  NGX_OK: the
 * kernel has it; NGX_ERROR: full, or it could not be written (said in the
 * log, at CRIT, at most once in 10 seconds).  Does not wait for the disk.
 */
ngx_int_t ngx_http_llm_budget_journal_write(
    ngx_http_llm_budget_journal_t *journal, u_char *line, size_t len);

/* fsync, at the end of a worker. */
void ngx_http_llm_budget_journal_flush(ngx_http_llm_budget_journal_t *journal);

/* Whether anything more can be written: NGX_OK or NGX_DECLINED. */
ngx_int_t ngx_http_llm_budget_journal_room(
    ngx_http_llm_budget_journal_t *journal);

/*
 * The next line to be told again: of this worker's file, else of a file whose
 * worker is gone (its lock is free); place names it from now on; sent: it was
 * left as sent.  The line is valid until the next call of any function here.
 * NGX_OK; NGX_DONE: no more for now; NGX_ERROR.  Damaged lines are for the
 * caller to see: he calls ..._bad().  Each line is answered for by one of the
 * three calls below.
 */
ngx_int_t ngx_http_llm_budget_journal_next(
    ngx_http_llm_budget_journal_t *journal, ngx_str_t *line, ngx_uint_t *sent,
    off_t *place);

/*
 * The line was told, and never will be again.  When all lines of a file were,
 * it is emptied (this worker's) or removed.
 */
void ngx_http_llm_budget_journal_told(ngx_http_llm_budget_journal_t *journal,
    off_t place);

/*
 * The line could not be told: it is left until a rewind.  sent: the store may
 * have got it all the same, which the file remembers.  A line of a file that
 * was adopted goes to this worker's, so that others can be adopted: line is
 * what to write then.
 */
void ngx_http_llm_budget_journal_leave(ngx_http_llm_budget_journal_t *journal,
    off_t place, ngx_uint_t sent, u_char *line, size_t len);

/* The last line is damaged: it is kept in "bad.<name>", and counts as told. */
void ngx_http_llm_budget_journal_bad(ngx_http_llm_budget_journal_t *journal);

/* Lines that were left, none being under way. */
ngx_uint_t ngx_http_llm_budget_journal_left(
    ngx_http_llm_budget_journal_t *journal);

/*
 * A line that the store refuses and always will: it is kept in a "bad." file,
 * for the operator.  NGX_OK or NGX_ERROR, either said in the log.
 */
ngx_int_t ngx_http_llm_budget_journal_refused(
    ngx_http_llm_budget_journal_t *journal, u_char *line, size_t len);

/* next() begins anew, with the lines that were left; none is under way. */
void ngx_http_llm_budget_journal_rewind(
    ngx_http_llm_budget_journal_t *journal);

/* Whether this worker's file, as it knows it, has lines. */
ngx_uint_t ngx_http_llm_budget_journal_pending(
    ngx_http_llm_budget_journal_t *journal);

/* At the end of the worker: closes its files; an empty one is removed. */
void ngx_http_llm_budget_journal_done(ngx_http_llm_budget_journal_t *journal);


#endif /* _NGX_HTTP_LLM_BUDGET_REDIS_JOURNAL_H_INCLUDED_ */
