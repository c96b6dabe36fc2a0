
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The records of a journal: one line of words, each but the last followed by
 * one space,
 *
 *     llmb1 post|void <id> <tag> <time> <sent> <actual, by unit> <legs>
 *         then of each leg <key> <unit> <start> <end> <limit> <amount>
 *                          <bytes of the name>:<name>
 *     <checksum>
 *
 * where the name is as it is, but for line feeds.  What was read is written
 * the same again.
 */


#include "core/llmb_call.h"
#include "core/llmb_out.h"

#include <string.h>


#define LLMB_RECORD_MAGIC       "llmb1 "
#define LLMB_RECORD_SUM         16      /* digits of the checksum */


typedef struct {
    unsigned char          *pos;
    unsigned char          *end;
    int                     failed;
} llmb_record_reader_t;


static int llmb_record_fine(const llmb_record_t *record);
static void llmb_record_write_leg(llmb_out_t *out,
    const llmb_ledger_leg_t *leg);
static void llmb_record_name(llmb_out_t *out, const llmb_str_t *name);
static void llmb_record_sum(unsigned char *sum, const unsigned char *data,
    size_t len);
static void llmb_record_number(llmb_out_t *out, int64_t n);
static void llmb_record_hex(llmb_out_t *out, uint64_t n);
static llmb_rc_e llmb_record_body(llmb_record_reader_t *in,
    llmb_record_t *record);
static void llmb_record_leg(llmb_record_reader_t *in, llmb_ledger_leg_t *leg);
static void llmb_record_word(llmb_record_reader_t *in, int stop,
    llmb_str_t *word);
static int64_t llmb_record_int(llmb_record_reader_t *in, int stop,
    int64_t min, int64_t max);
static void llmb_record_digits(llmb_record_reader_t *in, uint64_t n[2]);
static int llmb_record_digit(unsigned char c);
static uint64_t llmb_record_half(const unsigned char *id);
static int llmb_record_is(const llmb_str_t *word, const char *text);


size_t
llmb_record_write(unsigned char *p, const llmb_record_t *record)
{
    unsigned       i;
    llmb_out_t     out;
    unsigned char  sum[LLMB_RECORD_SUM];

    if (!llmb_record_fine(record)) {
        return 0;
    }

    llmb_out_init(&out, p, LLMB_RECORD_LEN);

    llmb_out_text(&out, LLMB_RECORD_MAGIC);
    llmb_out_text(&out, llmb_call_name(record->kind));
    llmb_out_text(&out, " ");
    llmb_record_hex(&out, llmb_record_half(record->id));
    llmb_record_hex(&out, llmb_record_half(record->id + 8));
    llmb_out_text(&out, " ");
    llmb_out_str(&out, &record->tag);
    llmb_out_text(&out, " ");
    llmb_record_number(&out, record->time_ms);
    llmb_record_number(&out, record->sent != 0);

    for (i = 0; i < LLMB_UNITS; i++) {
        llmb_record_number(&out, (record->kind == LLMB_CALL_POST
                                  && record->actual[i] > 0)
                                 ? record->actual[i] : 0);
    }

    llmb_record_number(&out, record->n);

    for (i = 0; i < record->n; i++) {
        llmb_record_write_leg(&out, &record->leg[i]);
    }

    if (out.full) {
        return 0;
    }

    llmb_record_sum(sum, out.start, (size_t) (out.pos - out.start));
    llmb_out_bytes(&out, sum, LLMB_RECORD_SUM);

    return out.full ? 0 : (size_t) (out.pos - out.start);
}


static int
llmb_record_fine(const llmb_record_t *record)
{
    unsigned                  i;
    const llmb_ledger_leg_t  *leg;

    if ((record->kind != LLMB_CALL_POST && record->kind != LLMB_CALL_VOID)
        || record->time_ms < 0
        || record->n > LLMB_LEDGER_LEGS
        || !llmb_call_is_tag(&record->tag))
    {
        return 0;
    }

    for (i = 0; i < LLMB_UNITS; i++) {

        if (record->kind == LLMB_CALL_POST && i != LLMB_UNIT_CONCURRENCY
            && record->actual[i] < 0)
        {
            return 0;
        }
    }

    for (i = 0; i < record->n; i++) {
        leg = &record->leg[i];

        if ((unsigned) leg->unit >= LLMB_UNITS || leg->limit < 0
            || leg->amount < 0)
        {
            return 0;
        }
    }

    return 1;
}


static void
llmb_record_write_leg(llmb_out_t *out, const llmb_ledger_leg_t *leg)
{
    llmb_record_hex(out, leg->key[0]);
    llmb_record_hex(out, leg->key[1]);
    llmb_out_text(out, " ");
    llmb_record_number(out, leg->unit);
    llmb_record_number(out, leg->start_ms);
    llmb_record_number(out, leg->end_ms);
    llmb_record_number(out, leg->limit);
    llmb_record_number(out, leg->amount);
    llmb_record_name(out, &leg->name);
}


static void
llmb_record_name(llmb_out_t *out, const llmb_str_t *name)
{
    size_t  i, len;

    len = (name->len > LLMB_LEDGER_NAME) ? LLMB_LEDGER_NAME : name->len;

    llmb_out_int(out, (int64_t) len);
    llmb_out_text(out, ":");

    for (i = 0; i < len; i++) {

        if (name->data[i] == '\n') {
            llmb_out_text(out, " ");

        } else {
            llmb_out_bytes(out, &name->data[i], 1);
        }
    }

    llmb_out_text(out, " ");
}


/* The hash is that of the accounts: 64 bits of it. */

static void
llmb_record_sum(unsigned char *sum, const unsigned char *data, size_t len)
{
    uint64_t    key[2];
    llmb_str_t  part;
    llmb_out_t  out;

    part.data = (unsigned char *) (uintptr_t) data;
    part.len = len;

    llmb_ledger_key(key, &part, 1);

    llmb_out_init(&out, sum, LLMB_RECORD_SUM);
    llmb_record_hex(&out, key[0]);
}


static void
llmb_record_number(llmb_out_t *out, int64_t n)
{
    llmb_out_int(out, n);
    llmb_out_text(out, " ");
}


static void
llmb_record_hex(llmb_out_t *out, uint64_t n)
{
    unsigned       i;
    unsigned char  digits[16];

    for (i = 0; i < 16; i++) {
        digits[i] = (unsigned char) "0123456789abcdef"[n >> (60 - 4 * i) & 15];
    }

    llmb_out_bytes(out, digits, sizeof(digits));
}


static uint64_t
llmb_record_half(const unsigned char *id)
{
    uint64_t  n;
    unsigned  i;

    n = 0;

    for (i = 0; i < 8; i++) {
        n = n << 8 | id[i];
    }

    return n;
}


llmb_rc_e
llmb_record_read(const llmb_str_t *line, llmb_record_t *record)
{
    size_t                len;
    unsigned char         sum[LLMB_RECORD_SUM];
    llmb_record_reader_t  in;

    len = sizeof(LLMB_RECORD_MAGIC) - 1;

    if (line->len < len + LLMB_RECORD_SUM || line->len > LLMB_RECORD_LEN
        || memcmp(line->data, LLMB_RECORD_MAGIC, len) != 0
        || memchr(line->data, '\n', line->len) != NULL)
    {
        return LLMB_INVALID;
    }

    in.pos = line->data + len;
    in.end = line->data + line->len - LLMB_RECORD_SUM;
    in.failed = 0;

    llmb_record_sum(sum, line->data, line->len - LLMB_RECORD_SUM);

    if (memcmp(in.end, sum, LLMB_RECORD_SUM) != 0) {
        return LLMB_INVALID;
    }

    return llmb_record_body(&in, record);
}


static llmb_rc_e
llmb_record_body(llmb_record_reader_t *in, llmb_record_t *record)
{
    int64_t     max;
    uint64_t    id[2];
    unsigned    i;
    llmb_str_t  word;

    memset(record, 0, sizeof(llmb_record_t));

    llmb_record_word(in, ' ', &word);

    if (llmb_record_is(&word, "post")) {
        record->kind = LLMB_CALL_POST;

    } else if (llmb_record_is(&word, "void")) {
        record->kind = LLMB_CALL_VOID;

    } else {
        return LLMB_INVALID;
    }

    llmb_record_digits(in, id);

    for (i = 0; i < LLMB_LEDGER_ID; i++) {
        record->id[i] = (unsigned char) (id[i / 8] >> (56 - 8 * (i % 8))
                                         & 0xff);
    }

    llmb_record_word(in, ' ', &record->tag);

    if (in->failed || !llmb_call_is_tag(&record->tag)) {
        return LLMB_INVALID;
    }

    record->time_ms = llmb_record_int(in, ' ', 0, INT64_MAX);
    record->sent = (unsigned) llmb_record_int(in, ' ', 0, 1);

    max = (record->kind == LLMB_CALL_POST) ? INT64_MAX : 0;

    for (i = 0; i < LLMB_UNITS; i++) {
        record->actual[i] = llmb_record_int(in, ' ', 0, max);
    }

    record->n = (unsigned) llmb_record_int(in, ' ', 0, LLMB_LEDGER_LEGS);

    for (i = 0; i < record->n && !in->failed; i++) {
        llmb_record_leg(in, &record->leg[i]);
    }

    return (in->failed || in->pos != in->end) ? LLMB_INVALID : LLMB_OK;
}


static void
llmb_record_leg(llmb_record_reader_t *in, llmb_ledger_leg_t *leg)
{
    llmb_record_digits(in, leg->key);

    leg->unit = (llmb_unit_e) llmb_record_int(in, ' ', 0, LLMB_UNITS - 1);
    leg->start_ms = llmb_record_int(in, ' ', INT64_MIN, INT64_MAX);
    leg->end_ms = llmb_record_int(in, ' ', INT64_MIN, INT64_MAX);
    leg->limit = llmb_record_int(in, ' ', 0, INT64_MAX);
    leg->amount = llmb_record_int(in, ' ', 0, INT64_MAX);
    leg->degrade_at = INT64_MAX;

    leg->name.len = (size_t) llmb_record_int(in, ':', 0, LLMB_LEDGER_NAME);

    if (in->failed || (size_t) (in->end - in->pos) <= leg->name.len
        || in->pos[leg->name.len] != ' ')
    {
        in->failed = 1;
        return;
    }

    leg->name.data = in->pos;
    in->pos += leg->name.len + 1;
}


/* The bytes before the next one that stops. */

static void
llmb_record_word(llmb_record_reader_t *in, int stop, llmb_str_t *word)
{
    unsigned char  *p;

    word->data = in->pos;
    word->len = 0;

    p = in->failed ? NULL
                   : memchr(in->pos, stop, (size_t) (in->end - in->pos));

    if (p == NULL) {
        in->failed = 1;
        return;
    }

    word->len = (size_t) (p - in->pos);
    in->pos = p + 1;
}


/* A number in its one form: no plus, no "-0", no zeros in front. */

static int64_t
llmb_record_int(llmb_record_reader_t *in, int stop, int64_t min, int64_t max)
{
    size_t      i;
    int64_t     n, digit;
    unsigned    negative;
    llmb_str_t  word;

    llmb_record_word(in, stop, &word);

    negative = (word.len != 0 && word.data[0] == '-');
    i = negative;

    if (in->failed || word.len == i
        || (word.data[i] == '0' && (negative || word.len > 1)))
    {
        in->failed = 1;
        return 0;
    }

    /* downward, where there is one number more */

    for (n = 0; i < word.len; i++) {
        digit = word.data[i] - '0';

        if (digit < 0 || digit > 9 || n < (INT64_MIN + digit) / 10) {
            in->failed = 1;
            return 0;
        }

        n = n * 10 - digit;
    }

    if (!negative) {

        if (n == INT64_MIN) {
            in->failed = 1;
            return 0;
        }

        n = -n;
    }

    if (n < min || n > max) {
        in->failed = 1;
        return 0;
    }

    return n;
}


/* 32 hexadecimal digits */

static void
llmb_record_digits(llmb_record_reader_t *in, uint64_t n[2])
{
    int         digit;
    size_t      i;
    llmb_str_t  word;

    n[0] = 0;
    n[1] = 0;

    llmb_record_word(in, ' ', &word);

    if (word.len != 32) {
        in->failed = 1;
        return;
    }

    for (i = 0; i < 32; i++) {
        digit = llmb_record_digit(word.data[i]);

        if (digit < 0) {
            in->failed = 1;
            return;
        }

        n[i / 16] = n[i / 16] << 4 | (uint64_t) digit;
    }
}


static int
llmb_record_digit(unsigned char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    return (c >= 'a' && c <= 'f') ? c - 'a' + 10 : -1;
}


static int
llmb_record_is(const llmb_str_t *word, const char *text)
{
    return word->len == strlen(text)
           && memcmp(word->data, text, word->len) == 0;
}
