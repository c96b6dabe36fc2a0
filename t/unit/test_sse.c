
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The event-stream splitter: the rules of the standard one by one, and that
 * the way a stream is cut into pieces changes nothing.
 */


#include "core/llmb_sse.h"

#include "llmb_test.h"


#define TEST_LOG  16384


/*
 * Events as text: "name|data;" or "name-;" if there was no data; "?" if data
 * was open at the end.  Unprintable bytes and the marks above are %xx.
 */

typedef struct {
    size_t                  len;
    char                    data[TEST_LOG];

    size_t                  event_len;
    unsigned char           event[TEST_LOG];
    unsigned                empty;      /* pieces of no bytes */
} test_log_t;


static void test_lines(void);
static void test_fields(void);
static void test_data(void);
static void test_names(void);
static void test_comments(void);
static void test_blank(void);
static void test_bom(void);
static void test_end(void);
static void test_feed(void);
static void test_skip_lf(void);
static void test_big(void);
static void test_find(void);
static void test_splits(void);

static void split(test_log_t *log, const unsigned char *p, size_t len,
    size_t piece, size_t cut);
static void split_feed(llmb_sse_t *sse, test_log_t *log,
    const unsigned char *p, size_t len);
static void split_event(llmb_sse_t *sse, test_log_t *log);
static void split_data(void *data, const unsigned char *p, size_t len);
static void split_text(test_log_t *log, const unsigned char *p, size_t len);
static void split_char(test_log_t *log, char c);
static void is_split(const char *text, const char *want, const char *title);


static const char *const  streams[] = {
    "data: {\"a\":1}\n\ndata: [DONE]\n\n",
    "event: message_start\ndata: {}\n\nevent: ping\ndata: {}\n\n",
    "event: message_start\r\ndata: {}\r\n\r\nevent: ping\r\ndata: {}\r\n\r\n",
    "event: message_start\rdata: {}\r\revent: ping\rdata: {}\r\r",
    "data: a\r\n\ndata: b\n\r\ndata: c\r\n\rdata: d\n\rdata: e\r\r\n",
    "data: a\r\rdata: b\r\n\r\ndata: c\n\n\r\n\r\rdata: d\r\n\r\n",
    "\xef\xbb\xbf" "data: a\n\n",
    "\xef\xbb" "data: a\n\ndata: b\n\n",
    "\xef" "data: a\n\ndata: b\n\n",
    "\xef\xbb\xbf\xef\xbb\xbf" "data: a\n\ndata: b\n\n",
    ": OPENROUTER PROCESSING\n\n: x\n\ndata: a\n: y\ndata: b\n\n",
    "data\ndata:\ndata: \ndata:  \n\n",
    "data\n\n",
    "id: 1\nretry: 5\nfoo: bar\nlonger_than_eight: x\nlonger_than_eight\n\n",
    "data: a\nid\nretry\ndatabase: x\ndat: y\nDATA: z\n\n",
    "event: a\nevent: b\ndata: x\n\ndata: y\n\n",
    "event: 0123456789012345678901234567890123456789012345678901234567890123"
        "\ndata: x\n\n",
    "event: 0123456789012345678901234567890123456789012345678901234567890123"
        "4\ndata: x\n\n",
    "data: 0123456789abcdef0123456789abcdef0123456789abcdef\r\n\r\n"
        "data: 0123456789abcdef0123456789abcdef\n\n",
    "data: open",
    "data: a\n\ndata: open\r",
    "data: a\ndata",
    "event: a\n\nevent",
    "\n\n\r\n\r\rdata:x\n\n"
};


int
main(void)
{
    test_lines();
    test_fields();
    test_data();
    test_names();
    test_comments();
    test_blank();
    test_bom();
    test_end();
    test_feed();
    test_skip_lf();
    test_big();
    test_find();
    test_splits();

    return test_done();
}


static void
test_lines(void)
{
    is_split("data: a\n\ndata: b\n\n", "|a;|b;", "Lines end in LF.");
    is_split("data: a\r\n\r\ndata: b\r\n\r\n", "|a;|b;",
             "Lines end in CRLF.");
    is_split("data: a\r\rdata: b\r\r", "|a;|b;", "Lines end in CR.");
    is_split("data: a\r\n\ndata: b\n\r\n", "|a;|b;", "CRLF and LF may mix.");
    is_split("data: a\r\n\rdata: b\n\rdata: c\r\r\n", "|a;|b;|c;",
             "CR may mix with both.");
    is_split("data: a\rdata: b\ndata: c\r\n\n", "|a%0ab%0ac;",
             "Lines of one event may end in all three ways.");
    is_split("data: a\n\rdata: b\n\n", "|a;|b;",
             "LF CR is two ends of line.");
    is_split("data: a\r\r\ndata: b\n\n", "|a;|b;",
             "CR CRLF is two ends of line.");
    is_split("data: a\x0b\x0c\x1c\xc2\x85\xe2\x80\xa8z\n\n",
             "|a%0b%0c%1c%c2%85%e2%80%a8z;", "Nothing else ends a line.");
}


static void
test_fields(void)
{
    is_split("data:a\n\n", "|a;", "The space after the colon may be absent.");
    is_split("data: a\n\n", "|a;", "One space after the colon is dropped.");
    is_split("data:  a\n\n", "|%20a;", "Of two spaces one is dropped.");
    is_split("data:\ta\n\n", "|%09a;", "A tab is no space.");
    is_split("data: a \n\n", "|a%20;", "Space at the end is kept.");
    is_split("data: a: b:c\n\n", "|a:%20b:c;",
             "Only the first colon separates.");
    is_split("data::\n\n", "|:;", "A value may be a colon.");
    is_split(" data: a\n\n", "", "A space before the name makes another.");
    is_split("data : a\n\n", "", "So does a space after it.");
    is_split("Data: a\nDATA: b\nEvent: c\n\n", "",
             "Names are compared with their case.");
    is_split("dat: a\ndatab: b\neven: c\nevents: d\n\n", "",
             "Names are compared whole.");
    is_split("data: a\nid: 5\nretry: 10\nfoo: x\nbar\n\n", "|a;",
             "Other fields are ignored.");
    is_split("datadatadata: a\ndatadata: b\ndata: c\n\n", "|c;",
             "Names of eight bytes and more are ignored.");
    is_split("eventeventevent\ndata: c\n\n", "|c;",
             "A long name without a colon is ignored.");
    is_split("id: 1\n\nretry: 2\n\nfoo\n\ndata: a\n\n", "|a;",
             "Ignored fields make no event.");
    is_split("{\"error\":\"not a stream\"}\n\n", "",
             "A body that is no stream has no events.");
}


static void
test_data(void)
{
    is_split("data: a\ndata: b\ndata: c\n\n", "|a%0ab%0ac;",
             "Data lines join with LF.");
    is_split("data: a\ndata:\ndata: c\n\n", "|a%0a%0ac;",
             "An empty data line is a line.");
    is_split("data:\ndata: b\n\n", "|%0ab;", "So it is as the first one.");
    is_split("data: a\ndata:\n\n", "|a%0a;", "So it is as the last one.");
    is_split("data\n\n", "|;", "A name without a colon is an empty line.");
    is_split("data\ndata\n\n", "|%0a;", "Two of them are a line feed.");
    is_split("data: a\nevent: e\ndata: b\n\n", "e|a%0ab;",
             "Data lines join over other fields.");
    is_split("data: a\n: c\ndata: b\n\n", "|a%0ab;",
             "Data lines join over comments.");
    is_split("data: \n\n", "|;", "Data of one space is empty.");
    is_split("data: a\n\ndata: b\n\n", "|a;|b;",
             "Nothing is joined over events.");
    is_split("data: \xff\xfe\n\n", "|%ff%fe;", "Data may be any bytes.");
}


static void
test_names(void)
{
    is_split("event: ping\ndata: a\n\n", "ping|a;", "An event has a name.");
    is_split("event:ping\ndata: a\n\n", "ping|a;",
             "The space before it may be absent.");
    is_split("data: a\nevent: ping\n\n", "ping|a;",
             "The name may come after the data.");
    is_split("event: a\nevent: b\ndata: x\n\n", "b|x;",
             "Of two names the last one counts.");
    is_split("event: a\nevent\ndata: x\n\n", "|x;",
             "An empty name replaces one.");
    is_split("event: a\ndata: x\n\ndata: y\n\n", "a|x;|y;",
             "The name does not outlive its event.");
    is_split("event: a\n\ndata: y\n\n", "a-;|y;",
             "An event without data ends, too, and takes its name along.");
    is_split("event: response.completed\ndata: x\n\n",
             "response.completed|x;", "A name may have any characters.");

    is_split("event: 0123456789012345678901234567890123456789012345678901234"
             "567890123\ndata: x\n\n",
             "01234567890123456789012345678901234567890123456789012345678901"
             "23|x;", "A name of 64 bytes is kept.");
    is_split("event: 0123456789012345678901234567890123456789012345678901234"
             "5678901234\ndata: x\n\n", "|x;",
             "A name of 65 bytes counts as unknown.");
    is_split("event: 0123456789012345678901234567890123456789012345678901234"
             "5678901234567890\nevent: b\ndata: x\n\n", "b|x;",
             "A short name after a long one counts.");
    is_split("event: b\nevent: 01234567890123456789012345678901234567890123456"
             "78901234567890123456789\ndata: x\n\n", "|x;",
             "A long name after a short one makes it unknown.");
}


static void
test_comments(void)
{
    is_split(": hello\ndata: a\n\n", "|a;", "A comment is ignored.");
    is_split(":\ndata: a\n\n", "|a;", "An empty comment is ignored.");
    is_split(":data: x\ndata: a\n\n", "|a;", "Whatever it says.");
    is_split(": OPENROUTER PROCESSING\n\n: again\n\ndata: a\n\n", "|a;",
             "Comments make no event.");
    is_split("data: a\n:\n\n", "|a;", "A comment is no blank line.");
    is_split(":keep-alive\r\n\r\ndata: a\r\n\r\n", "|a;",
             "Comments end in CRLF as well.");
}


static void
test_blank(void)
{
    is_split("\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n", "|a;|b;",
             "Empty lines between events end no event.");
    is_split("\r\n\r\n\rdata: a\r\n\r\n\r\n\r\ndata: b\r\r\r", "|a;|b;",
             "Nor do they with CR.");
    is_split("data: a\n \n\n", "|a;",
             "A line of a space is a field, not a blank line.");
    is_split("", "", "An empty stream has no events.");
}


static void
test_bom(void)
{
    is_split("\xef\xbb\xbf" "data: a\n\n", "|a;", "A leading BOM is dropped.");
    is_split("\xef\xbb\xbf\xef\xbb\xbf" "data: a\n\ndata: b\n\n", "|b;",
             "A second BOM is part of a name.");
    is_split("\xef\xbb\xbf\ndata: a\n\n", "|a;",
             "A BOM may stand before a blank line.");
    is_split("data: a\n\n\xef\xbb\xbf" "data: b\n\ndata: c\n\n", "|a;|c;",
             "A BOM that does not lead is part of a name.");
    is_split("\ndata: a\n\xef\xbb\xbf" "data: b\n\n", "|a;",
             "So it is after an empty line.");
    is_split("\xef\xbb" "data: a\ndata: b\n\n", "|b;",
             "Two bytes of a BOM are part of a name.");
    is_split("\xef" "data: a\ndata: b\n\n", "|b;",
             "One byte of a BOM is part of a name.");
    is_split("\xef\xef\xbb\xbf" "data: a\ndata: b\n\n", "|b;",
             "A BOM after its first byte is none.");
    is_split("\xef\ndata: b\n\n", "|b;", "Half a BOM may be a whole name.");
    is_split("\xef\xbb: x\ndata: b\n\n", "|b;",
             "Half a BOM may stand before a colon.");
    is_split("\xef\xbb", "", "A stream may end within a BOM.");
}


static void
test_end(void)
{
    is_split("data: a\n", "|a?", "Data is open without a blank line.");
    is_split("data: a", "|a?", "Data is open without an end of line.");
    is_split("data: a\r", "|a?", "Data is open after a CR.");
    is_split("data: a\n\ndata: b", "|a;|b?",
             "Data of the last event is open.");
    is_split("data: a\ndata: b", "|a%0ab?", "Two lines may be open.");
    is_split("data:", "|?", "Empty data may be open.");
    is_split("data: a\n\n", "|a;", "Nothing is open after a blank line.");
    is_split("data: a\r\r", "|a;", "Nothing is open after a blank CR.");
    is_split("data: a\n\n: bye", "|a;", "A comment is not open data.");
    is_split("event: a\n", "", "An event without data is not open.");
    is_split("data: a\n\nevent: a\n", "|a;",
             "Data of the event before is not open.");
    is_split("data: x\nevent: a", "a|x?", "An open event has its name.");
}


static void
test_feed(void)
{
    int                   event;
    size_t                n;
    test_log_t            log;
    llmb_sse_t            sse;
    const unsigned char  *p;

    memset(&log, 0, sizeof(test_log_t));
    llmb_sse_init(&sse, split_data, &log);

    event = 5;
    n = llmb_sse_feed(&sse, NULL, 0, &event);

    ok(n == 0 && event == 0, "Nothing fed is no event.");

    p = (const unsigned char *) "event: a\ndata: b\n\ndata: c\n\n";
    n = llmb_sse_feed(&sse, p, 27, &event);

    ok(n == 18 && event == 1,
       "Feed stops after the blank line that ends an event.");

    ok(sse.name_len == 1 && sse.name[0] == 'a' && sse.has_data == 1
       && log.event_len == 1,
       "The name and the data are there when it returns.");

    n = llmb_sse_feed(&sse, NULL, 0, &event);

    ok(n == 0 && event == 0 && sse.name_len == 1,
       "Feeding nothing begins no event.");

    n = llmb_sse_feed(&sse, p + 18, 4, &event);

    ok(n == 4 && event == 0 && sse.name_len == 0 && sse.has_data == 0,
       "The next bytes begin a new event, without a name.");

    n = llmb_sse_feed(&sse, p + 22, 5, &event);

    ok(n == 5 && event == 1 && sse.name_len == 0 && sse.has_data == 1,
       "An event may come in two pieces.");

    is_int(llmb_sse_end(&sse), 0, "No data is open after an event.");

    memset(&log, 0, sizeof(test_log_t));
    llmb_sse_init(&sse, split_data, &log);

    n = llmb_sse_feed(&sse, (const unsigned char *) "data: abc", 9, &event);

    ok(n == 9 && event == 0 && log.event_len == 3,
       "Data is handed on as it arrives.");

    is_int(sse.has_data, 1, "There is data as soon as its line is known.");
    is_int(llmb_sse_end(&sse), 1, "Open data counts at the end.");

    n = llmb_sse_feed(&sse, (const unsigned char *) "\n\n", 2, &event);

    ok(n == 2 && event == 1 && llmb_sse_end(&sse) == 0,
       "A blank line closes it.");

    n = llmb_sse_feed(&sse, (const unsigned char *) "\n\n\n", 3, &event);

    ok(n == 3 && event == 0, "Blank lines are consumed without an event.");

    n = llmb_sse_feed(&sse, (const unsigned char *) "event: x\n\n", 10,
                      &event);

    ok(n == 10 && event == 1 && sse.has_data == 0 && sse.name_len == 1,
       "An event without data is told by has_data.");
}


static void
test_skip_lf(void)
{
    int         event;
    size_t      n;
    test_log_t  log;
    llmb_sse_t  sse;

    memset(&log, 0, sizeof(test_log_t));
    llmb_sse_init(&sse, split_data, &log);

    n = llmb_sse_feed(&sse, (const unsigned char *) "data: a\r\n\r\n", 11,
                      &event);

    ok(n == 11 && event == 1 && sse.skip_lf == 0,
       "The LF of a blank CRLF is consumed with it.");

    n = llmb_sse_feed(&sse, (const unsigned char *) "data: a\r\n\r", 10,
                      &event);

    ok(n == 10 && event == 1 && sse.skip_lf == 1,
       "After a CR at the end of a piece an LF may follow.");

    n = llmb_sse_feed(&sse, NULL, 0, &event);

    ok(n == 0 && event == 0 && sse.skip_lf == 1,
       "When nothing is fed it still may.");

    n = llmb_sse_feed(&sse, (const unsigned char *) "\n", 1, &event);

    ok(n == 1 && event == 0 && sse.skip_lf == 0,
       "The LF is consumed and ends nothing.");

    n = llmb_sse_feed(&sse, (const unsigned char *) "data: b\r\r", 9, &event);

    ok(n == 9 && event == 1 && sse.skip_lf == 1, "So it is after CR CR.");

    n = llmb_sse_feed(&sse, (const unsigned char *) "\ndata: c\n\n", 10,
                      &event);

    ok(n == 10 && event == 1 && sse.skip_lf == 0,
       "The LF may come with the next event.");

    n = llmb_sse_feed(&sse, (const unsigned char *) "data: d\r\rdata: e", 16,
                      &event);

    ok(n == 9 && event == 1 && sse.skip_lf == 0,
       "When another byte follows the CR nothing is to be skipped.");

    n = llmb_sse_feed(&sse, (const unsigned char *) "data: e\r\r", 9, &event);

    ok(n == 9 && event == 1 && sse.skip_lf == 1, "The next event is fine.");

    n = llmb_sse_feed(&sse, (const unsigned char *) "data: f\r", 8, &event);

    ok(n == 8 && event == 0 && sse.skip_lf == 0,
       "A CR that ends no event sets no mark.");

    n = llmb_sse_feed(&sse, (const unsigned char *) "\n\ndata: g", 9, &event);

    ok(n == 2 && event == 1, "Its LF is skipped all the same.");

    n = llmb_sse_feed(&sse, (const unsigned char *) "\r\r", 2, &event);

    ok(n == 2 && event == 0 && sse.skip_lf == 0,
       "A blank CR between events sets no mark.");
}


/* An event of any length, in constant memory. */

static void
test_big(void)
{
    int             event, i;
    size_t          n, total;
    test_log_t      log;
    llmb_sse_t      sse;
    unsigned char  *big;

    total = 0;
    big = malloc(1000000);

    if (big == NULL) {
        exit(2);
    }

    memset(big, 'x', 1000000);
    memset(&log, 0, sizeof(test_log_t));

    llmb_sse_init(&sse, split_data, &log);

    (void) llmb_sse_feed(&sse, (const unsigned char *) "data:", 5, &event);

    for (i = 0; i < 8; i++) {
        log.event_len = 0;
        n = llmb_sse_feed(&sse, big, 1000000, &event);

        total += log.event_len;

        if (n != 1000000 || event) {
            break;
        }
    }

    n = llmb_sse_feed(&sse, (const unsigned char *) "\n\n", 2, &event);

    ok(i == 8 && n == 2 && event == 1 && total == 8000000,
       "An event of eight million bytes is handed on.");

    memset(big, '\r', 1000000);
    n = llmb_sse_feed(&sse, big, 1000000, &event);

    ok(n == 1000000 && event == 0, "A million blank lines end no event.");

    memset(big, 'x', 1000000);
    n = llmb_sse_feed(&sse, big, 1000000, &event);

    ok(n == 1000000 && event == 0, "A name of a million bytes is ignored.");

    free(big);
}


/* An end of line at each place of a long line: none is stepped over. */

static void
test_find(void)
{
    int            good, event;
    size_t         i, n;
    test_log_t     log;
    llmb_sse_t     sse;
    unsigned char  buf[100];

    good = 1;

    for (i = 5; i < sizeof(buf) - 1; i++) {
        memset(buf, 'x', sizeof(buf));
        memcpy(buf, "data:", 5);
        buf[i] = (i % 2) ? '\r' : '\n';
        buf[i + 1] = (i % 2) ? '\r' : '\n';

        memset(&log, 0, sizeof(test_log_t));
        llmb_sse_init(&sse, split_data, &log);

        n = llmb_sse_feed(&sse, buf, sizeof(buf), &event);

        good = good && n == i + 2 && event == 1 && log.event_len == i - 5;
    }

    ok(good, "An end of line is found at every place.");
}


static void
test_splits(void)
{
    int                   good;
    size_t                i, k, len;
    const unsigned char  *p;

    static test_log_t  whole, parts;

    for (k = 0; k < sizeof(streams) / sizeof(streams[0]); k++) {
        p = (const unsigned char *) streams[k];
        len = strlen(streams[k]);
        good = 1;

        split(&whole, p, len, len, 0);

        for (i = 0; i <= len; i++) {
            split(&parts, p, len, len, i);
            good = good && strcmp(whole.data, parts.data) == 0;

            split(&parts, p, len, 1 + i % 7, i);
            good = good && strcmp(whole.data, parts.data) == 0;
        }

        split(&parts, p, len, 1, 0);
        good = good && strcmp(whole.data, parts.data) == 0;

        if (!ok(good && whole.empty == 0 && parts.empty == 0,
                "No cut changes the events of stream %u, no piece is empty.",
                (unsigned) k))
        {
            printf("# whole: %s\n# parts: %s\n", whole.data, parts.data);
        }
    }
}


/*
 * Feeds a stream in pieces of the given size; if cut is not 0, it is also cut
 * there.
 */

static void
split(test_log_t *log, const unsigned char *p, size_t len, size_t piece,
    size_t cut)
{
    size_t      pos, n;
    llmb_sse_t  sse;

    memset(log, 0, sizeof(test_log_t));
    memset(&sse, 0xa5, sizeof(llmb_sse_t));

    llmb_sse_init(&sse, split_data, log);

    for (pos = 0; pos < len; pos += n) {
        n = (len - pos < piece) ? len - pos : piece;

        if (pos < cut && n > cut - pos) {
            n = cut - pos;
        }

        split_feed(&sse, log, p + pos, n);
    }

    if (llmb_sse_end(&sse)) {
        split_text(log, sse.name, sse.name_len);
        split_char(log, '|');
        split_text(log, log->event, log->event_len);
        split_char(log, '?');
    }
}


/* Each piece has its own memory, so that a sanitizer sees a step outside. */

static void
split_feed(llmb_sse_t *sse, test_log_t *log, const unsigned char *p,
    size_t len)
{
    int             event;
    size_t          pos, n;
    unsigned char  *copy;

    copy = malloc(len);

    if (copy == NULL) {
        exit(2);
    }

    memcpy(copy, p, len);

    for (pos = 0; pos < len; pos += n) {
        event = 5;
        n = llmb_sse_feed(sse, copy + pos, len - pos, &event);

        if (event == 1) {
            split_event(sse, log);

        } else if (event != 0 || n != len - pos) {
            split_char(log, '!');
        }

        if (n == 0 || n > len - pos) {
            split_char(log, '!');
            break;
        }
    }

    free(copy);
}


static void
split_event(llmb_sse_t *sse, test_log_t *log)
{
    split_text(log, sse->name, sse->name_len);

    if (sse->has_data) {
        split_char(log, '|');
        split_text(log, log->event, log->event_len);

    } else {
        split_char(log, '-');
    }

    split_char(log, ';');
    log->event_len = 0;
}


static void
split_data(void *data, const unsigned char *p, size_t len)
{
    test_log_t *log = data;

    if (len == 0) {
        log->empty++;
        return;
    }

    if (len < TEST_LOG - log->event_len) {
        memcpy(log->event + log->event_len, p, len);
    }

    log->event_len += len;
}


static void
split_text(test_log_t *log, const unsigned char *p, size_t len)
{
    size_t  i;

    static const char  hex[] = "0123456789abcdef";

    for (i = 0; i < len; i++) {

        if (p[i] > ' ' && p[i] < 0x7f && strchr("%|;-?!", p[i]) == NULL) {
            split_char(log, (char) p[i]);
            continue;
        }

        split_char(log, '%');
        split_char(log, hex[p[i] / 16]);
        split_char(log, hex[p[i] % 16]);
    }
}


static void
split_char(test_log_t *log, char c)
{
    if (log->len + 1 == TEST_LOG) {
        exit(2);
    }

    log->data[log->len++] = c;
    log->data[log->len] = '\0';
}


/* The same whole and byte by byte. */

static void
is_split(const char *text, const char *want, const char *title)
{
    size_t  len;

    static test_log_t  whole, parts;

    len = strlen(text);

    split(&whole, (const unsigned char *) text, len, len, 0);
    split(&parts, (const unsigned char *) text, len, 1, 0);

    if (strcmp(whole.data, parts.data) != 0) {
        printf("# byte by byte: \"%s\"\n", parts.data);
        ok(0, "%s", title);
        return;
    }

    is_str(whole.data, whole.len, want, title);
}
