
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The JSON scanner: its tokens, what it refuses and where, and that the way
 * a document is cut into pieces changes nothing.
 */


#include "core/llmb_json.h"

#include "llmb_test.h"


#define TEST_LOG   65536

#define TEST_MANY  1000000


/* what a scan said, as text: "O0:0-1 K1:1-4=a ... ok@9" */

typedef struct {
    size_t                  len;
    char                    data[TEST_LOG];
    unsigned                tokens;

    /* the handler refuses the token of this number, from 1 on */
    unsigned                refuse;
    llmb_rc_e               code;

    llmb_json_token_t       last;
    unsigned char           text[LLMB_JSON_TEXT];
} test_log_t;


typedef struct {
    const unsigned char    *data;
    size_t                  len;
    unsigned                flags;
    unsigned                depth;
    unsigned                refuse;
} test_doc_t;


static void test_tokens(void);
static void test_text(void);
static void test_cut_text(void);
static void test_numbers(void);
static void test_white_space(void);
static void test_refused(void);
static void test_utf8(void);
static void test_surrogates(void);
static void test_lax(void);
static void test_depth(void);
static void test_handler(void);
static void test_results(void);
static void test_init(void);
static void test_int(void);
static void test_long_runs(void);
static void test_splits(void);
static void test_split(const char *text, size_t len, unsigned flags);
static void test_long_split(void);

static void scan(test_log_t *log, const test_doc_t *doc, size_t piece,
    size_t cut);
static void scan_feed(llmb_json_t *js, const unsigned char *p, size_t len);
static llmb_rc_e scan_token(void *data, const llmb_json_token_t *token);
static void scan_printf(test_log_t *log, const char *fmt, ...);
static void is_scan(const char *text, const char *want, const char *title);
static void is_lax(const char *text, const char *want, const char *title);
static void is_refused(const char *text, size_t len, size_t offset,
    const char *title);
static void is_number(const char *text, llmb_rc_e rc, int64_t want);


static const char *const  rc_names[] = {
    "ok", "again", "declined", "invalid", "overflow", "nospace", "limit"
};


/* cut at every offset, in both modes; a NUL is not possible here */

static const char *const  documents[] = {
    "{}",
    "[]",
    " [ ] ",
    "null",
    "true ",
    "\tfalse\r\n",
    "0",
    "-0",
    "-12.5e+10",
    "1E400 ",
    "\"\"",
    "\"a\"",
    "[1,2.50,-3e-7,0,-0.0,10]",
    "{\"a\":1,\"b\":{\"c\":[true,false,null]},\"\":\"\"}",
    "[[[[]]],{\"x\":[{}]}]",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
    "\"\\u0000\\u00e9\\u20AC\\ud83d\\uDE00\\u005f\"",
    "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80 plain\"",
    "\"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\"",
    "\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\xc2\x80\xdf\xbf\"",
    "{\"\\u006dodel\":\"gpt-4o\",\"stream\":true}",
    "{\"model\" : \"x\" , \"messages\" : [ { \"role\" : \"user\" } ] }",
    "\"0123456789abcdef0123456789abcdef\\n0123456789abcdef\xc3\xa9\"",

    /* refused */
    "",
    " ",
    "{",
    "[",
    "[1",
    "[1,",
    "[,1]",
    "[1,]",
    "[1 2]",
    "[1}",
    "{]",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{\"a\" 1}",
    "{1:2}",
    "{'a':1}",
    "]",
    "}",
    ":",
    ",",
    "tru",
    "trux",
    "nul ",
    "True",
    "nan",
    "Infinity",
    "-Infinity",
    "01",
    "-01",
    "+1",
    ".5",
    "1.",
    "1.]",
    "1e",
    "1e+",
    "1e+]",
    "-",
    "--1",
    "1.5.5",
    "1e5e5",
    "0x10",
    "1a",
    "{} {}",
    "{}x",
    "1 2",
    "\"a\" \"b\"",
    "\"abc",
    "\"a\nb\"",
    "\"a\x1f\"",
    "\"\\x41\"",
    "\"\\u12g4\"",
    "\"\\u12",
    "\"\\",
    "\"\\u00G0\"",
    "/* c */ 1",
    "[1] // c",
    "\xef\xbb\xbf{}",
    "\"\\ud800\"",
    "\"\\ud800x\"",
    "\"\\ud800\\n\"",
    "\"\\ud800\\u0041\"",
    "\"\\ud800\\ud800\\udc00\"",
    "\"\\udc00\"",
    "\"\\udc00\\ud800\"",
    "\"\\ud83d\\ude0",
    "\"\x80\"",
    "\"a\xc3\"",
    "\"a\xc3(\"",
    "\"\xc0\xaf\"",
    "\"\xe0\x9f\xbf\"",
    "\"\xed\xa0\x80\"",
    "\"\xf0\x8f\xbf\xbf\"",
    "\"\xf4\x90\x80\x80\"",
    "\"\xf5\x80\x80\x80\"",
    "\"\xe2\x82\"",
    "\"\xe2(\xa1\"",
    "\"\xf0\x9f\x98\"",
    "\"\xf0\x9f(\x80\"",
    "\"\xff\xfe\"",
    "[[[[[[[[[1]]]]]]]]]"
};


int
main(void)
{
    test_tokens();
    test_text();
    test_cut_text();
    test_numbers();
    test_white_space();
    test_refused();
    test_utf8();
    test_surrogates();
    test_lax();
    test_depth();
    test_handler();
    test_results();
    test_init();
    test_int();
    test_long_runs();
    test_splits();
    test_long_split();

    return test_done();
}


static void
test_tokens(void)
{
    is_scan("{}", "O0:0-1 o0:1-2 ok@2",
            "An object and its end have the same depth, each one bracket.");

    is_scan("[]", "A0:0-1 a0:1-2 ok@2",
            "An array and its end have the same depth, each one bracket.");

    is_scan("{\"a\":1}", "O0:0-1 K1:1-4=a N1:5-6=1 o0:6-7 ok@7",
            "A member is a key and a value at depth 1, quotes in the range.");

    is_scan("[{\"a\":[true]},null]",
            "A0:0-1 O1:1-2 K2:2-5=a A2:6-7 T3:7-11 a2:11-12 o1:12-13 "
            "U1:14-18 a0:18-19 ok@19",
            "Depth counts the containers around a token.");

    is_scan("[true,false,null]",
            "A0:0-1 T1:1-5 F1:6-11 U1:12-16 a0:16-17 ok@17",
            "Literals carry no text.");

    is_scan(" \"x\" ", "S0:1-4=x ok@5", "A top-level string is at depth 0.");
    is_scan("7", "N0:0-1=7 ok@1", "A top-level number is done at the end.");

    is_scan("{\"a\":{},\"b\":[],\"c\":2}",
            "O0:0-1 K1:1-4=a O1:5-6 o1:6-7 K1:8-11=b A1:12-13 a1:13-14 "
            "K1:15-18=c N1:19-20=2 o0:20-21 ok@21",
            "After an inner container the outer one goes on as what it is.");

    is_scan("[{},[1,2],{\"a\":1}]",
            "A0:0-1 O1:1-2 o1:2-3 A1:4-5 N2:5-6=1 N2:7-8=2 a1:8-9 O1:10-11 "
            "K2:11-14=a N2:15-16=1 o1:16-17 a0:17-18 ok@18",
            "A container does not remember the one before it.");

    is_scan("{\"a\":1,\"a\":2}",
            "O0:0-1 K1:1-4=a N1:5-6=1 K1:7-10=a N1:11-12=2 o0:12-13 ok@13",
            "Duplicate keys are the handler's business.");
}


static void
test_text(void)
{
    is_scan("\"\"", "S0:0-2= ok@2", "An empty string has no text.");

    is_scan("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
            "S0:0-18=\"\\/%08%0c%0a%0d%09 ok@18",
            "All two-character escapes are decoded.");

    is_scan("\"\\u0041\\u00e9\\u20ac\\u20AC\"",
            "S0:0-26=A%c3%a9%e2%82%ac%e2%82%ac ok@26",
            "Unicode escapes become UTF-8, in either case of the digits.");

    is_scan("\"\\u007f\\u0080\\u07ff\\u0800\\uffff\"",
            "S0:0-32=%7f%c2%80%df%bf%e0%a0%80%ef%bf%bf ok@32",
            "Unicode escapes are right at the borders of UTF-8 lengths.");

    is_scan("\"a\\u0000b\"", "S0:0-10=a%00b ok@10",
            "An escaped NUL is kept as a byte, so it cannot end a name.");

    is_scan("{\"mod\\u0065l\":\"x\"}",
            "O0:0-1 K1:1-13=model S1:14-17=x o0:17-18 ok@18",
            "Escapes in keys are decoded.");

    is_scan("\"\x7f\"", "S0:0-3=%7f ok@3", "DEL is no control character.");
}


static void
test_cut_text(void)
{
    size_t         i, n;
    test_log_t     log;
    test_doc_t     doc;
    unsigned char  buf[4 * LLMB_JSON_TEXT];

    for (n = LLMB_JSON_TEXT - 1; n <= LLMB_JSON_TEXT + 1; n++) {
        memset(buf, 'x', sizeof(buf));
        buf[0] = '"';
        buf[n + 1] = '"';

        memset(&doc, 0, sizeof(test_doc_t));
        doc.data = buf;
        doc.len = n + 2;
        doc.depth = 8;

        scan(&log, &doc, doc.len, 0);

        i = (n > LLMB_JSON_TEXT) ? LLMB_JSON_TEXT : n;

        ok(log.last.text.len == i && log.last.text_len == n
           && log.last.end == n + 2,
           "A string of %u bytes keeps %u and tells its length.",
           (unsigned) n, (unsigned) i);
    }

    /* 255 letters, then a euro sign of three bytes, plain and escaped */

    memset(buf, 'x', sizeof(buf));
    buf[0] = '"';
    memcpy(&buf[LLMB_JSON_TEXT], "\xe2\x82\xac\"", 4);
    doc.len = LLMB_JSON_TEXT + 4;

    scan(&log, &doc, doc.len, 0);

    ok(log.last.text.len == LLMB_JSON_TEXT
       && log.last.text_len == LLMB_JSON_TEXT + 2
       && log.text[LLMB_JSON_TEXT - 1] == 0xe2,
       "Text may be cut inside a character.");

    memcpy(&buf[LLMB_JSON_TEXT], "\\u20ac\"", 7);
    doc.len = LLMB_JSON_TEXT + 7;

    scan(&log, &doc, doc.len, 0);

    ok(log.last.text.len == LLMB_JSON_TEXT
       && log.last.text_len == LLMB_JSON_TEXT + 2
       && log.text[LLMB_JSON_TEXT - 1] == 0xe2,
       "Text may be cut inside an escaped character.");

    memset(buf, '1', sizeof(buf));
    doc.len = LLMB_JSON_TEXT + 10;

    scan(&log, &doc, doc.len, 0);

    ok(log.last.type == LLMB_JSON_NUMBER
       && log.last.text.len == LLMB_JSON_TEXT
       && log.last.text_len == LLMB_JSON_TEXT + 10,
       "A long number is cut likewise.");

    is_scan("[\"long ago\",1]", "A0:0-1 S1:1-11=long%20ago N1:12-13=1 "
            "a0:13-14 ok@14", "A token holds nothing of the one before.");
}


static void
test_numbers(void)
{
    is_scan("[0,-0,10,-1.5,1e5,1E+5,1e-05,0.00,0e0]",
            "A0:0-1 N1:1-2=0 N1:3-5=-0 N1:6-8=10 N1:9-13=-1.5 N1:14-17=1e5 "
            "N1:18-22=1E+5 N1:23-28=1e-05 N1:29-33=0.00 N1:34-37=0e0 "
            "a0:37-38 ok@38", "Numbers of all forms keep their literal.");

    is_scan("12 ", "N0:0-2=12 ok@3", "White space ends a top-level number.");
}


static void
test_white_space(void)
{
    is_scan(" \t\r\n{ \"a\"\n:\t1\r, \"b\" : [ ] } \n",
            "O0:4-5 K1:6-9=a N1:12-13=1 K1:16-19=b A1:22-23 a1:24-25 "
            "o0:26-27 ok@29", "White space may stand around every token.");

    is_refused("\f1", 2, 0, "A form feed is no white space.");
    is_refused("\v1", 2, 0, "A vertical tab is no white space.");
    is_refused("\xc2\xa0" "1", 3, 0, "A no-break space is no white space.");
    is_refused("1\0", 2, 1, "A NUL is no white space.");
}


static void
test_refused(void)
{
    is_refused("", 0, 0, "An empty document is refused.");
    is_refused("  \n", 3, 3, "A document of white space is refused.");
    is_refused("\xef\xbb\xbf{}", 5, 0, "A BOM is refused.");
    is_refused("{\0}\0", 4, 1, "UTF-16LE is refused.");
    is_refused("\0{\0}", 4, 0, "UTF-16BE is refused.");
    is_refused("\xff\xfe{\0}\0", 6, 0, "UTF-16 with a BOM is refused.");
    is_refused("NaN", 3, 0, "NaN is refused.");
    is_refused("[Infinity]", 10, 1, "Infinity is refused.");
    is_refused("-Infinity", 9, 1, "Minus infinity is refused.");
    is_refused("01", 2, 1, "A leading zero is refused.");
    is_refused("-01", 3, 2, "A leading zero after a minus is refused.");
    is_refused("+1", 2, 0, "A leading plus is refused.");
    is_refused(".5", 2, 0, "A leading point is refused.");
    is_refused("[1.]", 4, 3, "A trailing point is refused.");
    is_refused("1.", 2, 2, "A trailing point is refused at the end.");
    is_refused("-", 1, 1, "A lone minus is refused.");
    is_refused("[-]", 3, 2, "A lone minus is refused in an array.");
    is_refused("[1e]", 4, 3, "An empty exponent is refused.");
    is_refused("[1e+]", 5, 4, "A signed empty exponent is refused.");
    is_refused("1.5.5", 5, 3, "A second point is refused.");
    is_refused("1e5.5", 5, 3, "A point in an exponent is refused.");
    is_refused("1e5e5", 5, 3, "A second exponent is refused.");
    is_refused("0x10", 4, 1, "A hexadecimal number is refused.");
    is_refused("1_000", 5, 1, "A separator of thousands is refused.");
    is_refused("[1,]", 4, 3, "A trailing comma in an array is refused.");
    is_refused("{\"a\":1,}", 8, 7, "A trailing comma is refused.");
    is_refused("[,1]", 4, 1, "A leading comma is refused.");
    is_refused("[1,,2]", 6, 3, "A doubled comma is refused.");
    is_refused("[1 2]", 5, 3, "A missing comma is refused.");
    is_refused("{\"a\" 1}", 7, 5, "A missing colon is refused.");
    is_refused("{\"a\"::1}", 8, 5, "A doubled colon is refused.");
    is_refused("[1:2]", 5, 2, "A colon in an array is refused.");
    is_refused("{\"a\",1}", 7, 4, "A comma for a colon is refused.");
    is_refused("{\"a\"}", 5, 4, "A key without a value is refused.");
    is_refused("{a:1}", 5, 1, "A bare key is refused.");
    is_refused("{1:1}", 5, 1, "A number for a key is refused.");
    is_refused("{'a':1}", 7, 1, "Single quotes are refused.");
    is_refused("[1}", 3, 2, "A brace does not close an array.");
    is_refused("{\"a\":1]", 7, 6, "A bracket does not close an object.");
    is_refused("{]", 2, 1, "A bracket does not close an empty object.");
    is_refused("[}", 2, 1, "A brace does not close an empty array.");
    is_refused("{} {}", 5, 3, "A second document is refused.");
    is_refused("{}}", 3, 2, "A bracket too many is refused.");
    is_refused("1 2", 3, 2, "A second number is refused.");
    is_refused("{}\n,", 4, 3, "A comma after the document is refused.");
    is_refused("[", 1, 1, "An open array is refused at the end.");
    is_refused("[1", 2, 2, "A number in an open array is refused.");
    is_refused("{\"a\":", 5, 5, "A missing value is refused at the end.");
    is_refused("tru", 3, 3, "A cut literal is refused.");
    is_refused("[tru]", 5, 4, "A short literal is refused.");
    is_refused("truE", 4, 3, "A literal in upper case is refused.");
    is_refused("nulll", 5, 4, "A literal with a tail is refused.");
    is_refused("// c\n1", 6, 0, "A line comment is refused.");
    is_refused("[1/* c */]", 10, 2, "A block comment is refused.");
    is_refused("# c\n1", 5, 0, "A hash comment is refused.");
    is_refused("\"abc", 4, 4, "An open string is refused.");
    is_refused("\"a\nb\"", 5, 2, "A raw line feed in a string is refused.");
    is_refused("\"a\tb\"", 5, 2, "A raw tab in a string is refused.");
    is_refused("\"a\0b\"", 5, 2, "A raw NUL in a string is refused.");
    is_refused("\"\x1f\"", 3, 1, "A raw 0x1f in a string is refused.");
    is_refused("\"\\a\"", 4, 2, "An unknown escape is refused.");
    is_refused("\"\\x41\"", 6, 2, "A hexadecimal escape is refused.");
    is_refused("\"\\N\"", 4, 2, "An escape in upper case is refused.");
    is_refused("\"\\U0041\"", 8, 2, "A Unicode escape has a small u.");
    is_refused("\"\\u004\"", 7, 6, "A Unicode escape has four digits.");
    is_refused("\"\\u00g0\"", 8, 5, "A Unicode escape has hex digits.");
    is_refused("\"\\u+041\"", 8, 3, "A Unicode escape has no sign.");
    is_refused("\"\\u 041\"", 8, 3, "A Unicode escape has no space.");
    is_refused("\"\\", 2, 2, "A cut escape is refused.");
}


static void
test_utf8(void)
{
    is_scan("\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\"",
            "S0:0-15=%c2%80%df%bf%e0%a0%80%ed%9f%bf%ee%80%80 ok@15",
            "Two- and three-byte characters at their borders are accepted.");

    is_scan("\"\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"",
            "S0:0-13=%ef%bf%bf%f0%90%80%80%f4%8f%bf%bf ok@13",
            "Noncharacters and U+10FFFF are accepted.");

    is_scan("\"\xef\xbb\xbf\"", "S0:0-5=%ef%bb%bf ok@5",
            "U+FEFF inside a string is a character like others.");

    /* each once with a tail, so that the quick way meets it too */

    is_refused("\"\x80\"", 3, 1, "A lone continuation byte is refused.");
    is_refused("\"\x80zzzz\"", 7, 1, "A lone continuation is refused early.");
    is_refused("\"\xc0\xaf\"", 4, 1, "An overlong slash is refused.");
    is_refused("\"\xc0\xafzzz\"", 7, 1, "An overlong slash is refused early.");
    is_refused("\"\xc1\xbfzzz\"", 7, 1, "An overlong DEL is refused.");
    is_refused("\"\xe0\x9f\xbf\"", 5, 2, "An overlong U+07FF is refused.");
    is_refused("\"\xe0\x9f\xbfzzz\"", 8, 2, "So it is the quick way.");
    is_refused("\"\xf0\x8f\xbf\xbf\"", 6, 2, "An overlong U+FFFF is refused.");
    is_refused("\"\xf0\x8f\xbf\xbfzz\"", 8, 2, "So it is the quick way, too.");
    is_refused("\"\xed\xa0\x80\"", 5, 2, "An encoded U+D800 is refused.");
    is_refused("\"\xed\xbf\xbfzzz\"", 8, 2, "An encoded U+DFFF is refused.");
    is_refused("\"\xf4\x90\x80\x80\"", 6, 2, "U+110000 is refused.");
    is_refused("\"\xf4\x90\x80\x80zz\"", 8, 2, "U+110000 is refused early.");
    is_refused("\"\xf5\x80\x80\x80\"", 6, 1, "A byte 0xf5 is refused.");
    is_refused("\"\xf8\x88\x80\x80\x80\"", 7, 1, "Five bytes are refused.");
    is_refused("\"\xfe\"", 3, 1, "A byte 0xfe is refused.");
    is_refused("\"\xffzzzz\"", 7, 1, "A byte 0xff is refused.");
    is_refused("\"\xc3\"", 3, 2, "A cut two-byte character is refused.");
    is_refused("\"\xc3(zzz\"", 7, 2, "A two-byte one must have two bytes.");
    is_refused("\"\xe2\x82\"", 4, 3, "A cut three-byte character is refused.");
    is_refused("\"\xe2\x82zzz\"", 7, 3, "A three-byte one has a third.");
    is_refused("\"\xe2zzzz\"", 7, 2, "A three-byte one has a second.");
    is_refused("\"\xf0\x9f\x98\"", 5, 4, "A cut four-byte one is refused.");
    is_refused("\"\xf0\x9f\x98zzz\"", 8, 4, "A four-byte one has a fourth.");
    is_refused("\"\xf0\x9fzzzz\"", 8, 3, "A four-byte one has a third.");
    is_refused("\"\xf0zzzzz\"", 8, 2, "A four-byte one has a second.");
    is_refused("\"\xc3\xc3zzz\"", 7, 2, "A lead byte is no second byte.");
    is_refused("\"\xe2\x82\xc3zz\"", 7, 3, "A lead byte is no third byte.");
    is_refused("\"\xf0\x9f\x98\xc3z\"", 7, 4, "Nor is it a fourth byte.");
    is_refused("\"\xe2\x82", 3, 3, "A character cut by the end is refused.");
    is_refused("{\"\xff\":1}", 6, 2, "Invalid UTF-8 in a key is refused.");
    is_refused("\xc3\xa9", 2, 0, "A character outside strings is refused.");
    is_refused("[1,\xc3\xa9]", 6, 3, "A character for a value is refused.");
}


static void
test_surrogates(void)
{
    is_scan("\"\\ud83d\\ude00\"", "S0:0-14=%f0%9f%98%80 ok@14",
            "A pair of surrogate escapes is one character.");

    is_scan("\"\\uD800\\uDC00\\uDBFF\\uDFFF\"",
            "S0:0-26=%f0%90%80%80%f4%8f%bf%bf ok@26",
            "Pairs reach from U+10000 to U+10FFFF.");

    is_scan("\"\\ud7ff\\ue000\"", "S0:0-14=%ed%9f%bf%ee%80%80 ok@14",
            "The neighbors of the surrogates are characters.");

    is_refused("\"\\ud800\"", 8, 7, "A lone high surrogate is refused.");
    is_refused("\"\\ud800x\"", 9, 7, "A high one before text is refused.");
    is_refused("\"\\ud800\\n\"", 10, 8, "A high one before \\n is refused.");
    is_refused("\"\\ud800\\u0041\"", 14, 12, "A high one before A is refused.");
    is_refused("\"\\ud800\\ud800\\udc00\"", 20, 12, "Two high ones fail.");
    is_refused("\"\\udc00\"", 8, 6, "A lone low surrogate is refused.");
    is_refused("\"\\udfff\\ud800\"", 14, 6, "A pair in the wrong order fails.");
    is_refused("\"\\ud83d\\ude0\"", 13, 12, "A pair that is cut is refused.");
    is_refused("\"\\ud83d\xed\xb8\x80\"", 11, 7, "A pair half encoded fails.");
    is_refused("{\"\\udead\":1}", 12, 7, "A lone one in a key is refused.");
}


static void
test_lax(void)
{
    is_lax("\"\\ud800\"", "S0:0-8=%ef%bf%bd ok@8",
           "Lax: a lone high surrogate is U+FFFD.");

    is_lax("\"\\udc00a\"", "S0:0-9=%ef%bf%bda ok@9",
           "Lax: a lone low surrogate is U+FFFD.");

    is_lax("\"\\ud800x\"", "S0:0-9=%ef%bf%bdx ok@9",
           "Lax: the text after a lone surrogate is kept.");

    is_lax("\"\\ud800\\n\"", "S0:0-10=%ef%bf%bd%0a ok@10",
           "Lax: an escape after a lone surrogate is decoded.");

    is_lax("\"\\ud800\\u0041\"", "S0:0-14=%ef%bf%bdA ok@14",
           "Lax: a Unicode escape after a lone surrogate is decoded.");

    is_lax("\"\\ud800\\ud83d\\ude00\"", "S0:0-20=%ef%bf%bd%f0%9f%98%80 ok@20",
           "Lax: a pair after a lone high surrogate is a pair.");

    is_lax("\"\\ud800\\ud800\"", "S0:0-14=%ef%bf%bd%ef%bf%bd ok@14",
           "Lax: two high ones are two U+FFFD.");

    is_lax("\"\\ud83d\\ude00\"", "S0:0-14=%f0%9f%98%80 ok@14",
           "Lax: a pair is still a character.");

    is_lax("\"\xff\xc3\x80\xe2\x82\"", "S0:0-7=%ff%c3%80%e2%82 ok@7",
           "Lax: invalid UTF-8 is kept as it is.");

    is_lax("{\"\xff\":\"0123456789abcdef\xed\xa0\x80\"}",
           "O0:0-1 K1:1-4=%ff S1:5-26=0123456789abcdef%ed%a0%80 o0:26-27 "
           "ok@27", "Lax: so it is in keys and far inside strings.");

    is_lax("\"\\ud800\n\"", "invalid@7",
           "Lax: a raw control character is still refused.");

    is_lax("\"0123456789\n0123456789\"", "invalid@11",
           "Lax: so is one far inside a string.");

    is_lax("\"\\ud800\\x\"", "invalid@8",
           "Lax: a bad escape after a surrogate is still refused.");

    is_lax("\"\\ud80", "invalid@6", "Lax: an open string is still refused.");
    is_lax("\"\\ud800", "invalid@7", "Lax: also after a lone surrogate.");
    is_lax("\xff", "invalid@0", "Lax: outside strings nothing is lax.");
    is_lax("[1,]", "A0:0-1 N1:1-2=1 invalid@3", "Lax: nor is the grammar.");
}


static void
test_depth(void)
{
    size_t          i;
    unsigned        depth;
    llmb_rc_e       rc;
    test_log_t      log;
    test_doc_t      doc;
    llmb_json_t     js;
    unsigned char  *many, *p;

    many = malloc(TEST_MANY);

    if (many == NULL) {
        exit(2);
    }

    memset(&log, 0, sizeof(test_log_t));

    for (depth = 0; depth <= 3; depth++) {
        memset(&doc, 0, sizeof(test_doc_t));
        doc.data = (const unsigned char *) "[{\"a\":[0]}]";
        doc.len = 11;
        doc.depth = depth;

        scan(&log, &doc, doc.len, 0);

        ok(strstr(log.data, (depth == 0) ? "limit@0"
                            : (depth == 1) ? "limit@1"
                            : (depth == 2) ? "limit@6" : "ok@11") != NULL,
           "Of three levels, %u are allowed: %s.", depth, log.data);
    }

    memset(&doc, 0, sizeof(test_doc_t));
    doc.data = (const unsigned char *) "[]";
    doc.len = 2;

    scan(&log, &doc, 2, 0);
    ok(strcmp(log.data, "limit@0") == 0,
       "The bracket that is too deep is no token.");

    doc.data = (const unsigned char *) "\"x\"";
    doc.len = 3;

    scan(&log, &doc, 3, 0);
    ok(strstr(log.data, "ok@3") != NULL,
       "With no depth allowed a scalar is still a document.");

    memset(many, '[', TEST_MANY);
    memset(&log, 0, sizeof(test_log_t));

    llmb_json_init(&js, 0, LLMB_REQUEST_DEPTH, scan_token, &log);
    rc = llmb_json_feed(&js, many, TEST_MANY);

    ok(rc == LLMB_LIMIT && js.offset == LLMB_REQUEST_DEPTH
       && log.tokens == LLMB_REQUEST_DEPTH,
       "A million brackets are refused at the limit of depth.");

    memset(&log, 0, sizeof(test_log_t));

    llmb_json_init(&js, 0, 100000, scan_token, &log);
    rc = llmb_json_feed(&js, many, TEST_MANY);

    ok(rc == LLMB_LIMIT && js.offset == LLMB_ANSWER_DEPTH,
       "The limit of depth is at most that of answers.");

    /* objects and arrays take turns in a way no word of bits repeats */

    p = many;

    for (i = 0; i < LLMB_ANSWER_DEPTH; i++) {

        if (i % 3 == 0 || i % 7 == 1) {
            memcpy(p, "{\"k\":", 5);
            p += 5;

        } else {
            *p++ = '[';
        }
    }

    *p++ = '1';

    while (i-- > 0) {
        *p++ = (i % 3 == 0 || i % 7 == 1) ? '}' : ']';
    }

    memset(&log, 0, sizeof(test_log_t));

    llmb_json_init(&js, 0, LLMB_ANSWER_DEPTH, scan_token, &log);
    rc = llmb_json_feed(&js, many, (size_t) (p - many));

    ok(rc == LLMB_OK && log.last.depth == 0,
       "Mixed brackets match at the greatest depth.");

    p[-70] = (unsigned char) ((p[-70] == '}') ? ']' : '}');

    llmb_json_init(&js, 0, LLMB_ANSWER_DEPTH, scan_token, &log);
    rc = llmb_json_feed(&js, many, (size_t) (p - many));

    ok(rc == LLMB_INVALID && js.offset == (uint64_t) (p - many) - 70,
       "A wrong bracket is refused at great depth.");

    free(many);
}


static void
test_handler(void)
{
    llmb_rc_e    rc, again;
    unsigned     i;
    test_log_t   log;
    llmb_json_t  js;

    static const char  text[] = "{\"a\":[1,true,\"x\"]}";

    /* tokens: { a [ 1 true x ] } and where each is refused */

    static const uint64_t  offsets[] = { 0, 3, 5, 7, 11, 15, 16, 17 };

    for (i = 0; i < 8; i++) {
        memset(&log, 0, sizeof(test_log_t));
        log.refuse = i + 1;
        log.code = LLMB_NOSPACE;

        llmb_json_init(&js, 0, 8, scan_token, &log);
        rc = llmb_json_feed(&js, (const unsigned char *) text,
                            sizeof(text) - 1);

        ok(rc == LLMB_NOSPACE && js.offset == offsets[i]
           && log.tokens == i + 1,
           "The handler stops the scanner at token %u.", i + 1);

        again = llmb_json_feed(&js, (const unsigned char *) text,
                               sizeof(text) - 1);

        ok(again == LLMB_NOSPACE && js.offset == offsets[i]
           && log.tokens == i + 1 && llmb_json_end(&js) == LLMB_NOSPACE,
           "Its code stays, also at the end.");
    }

    memset(&log, 0, sizeof(test_log_t));
    log.refuse = 1;
    log.code = LLMB_AGAIN;

    llmb_json_init(&js, 0, 8, scan_token, &log);
    (void) llmb_json_feed(&js, (const unsigned char *) "[1]", 3);

    ok(js.offset == 0 && log.tokens == 1 && js.rc == LLMB_AGAIN
       && llmb_json_end(&js) == LLMB_AGAIN,
       "Even LLMB_AGAIN of a handler stops the scanner for good.");

    memset(&log, 0, sizeof(test_log_t));
    log.refuse = 1;
    log.code = LLMB_DECLINED;

    llmb_json_init(&js, 0, 8, scan_token, &log);
    rc = llmb_json_feed(&js, (const unsigned char *) "12", 2);

    ok(rc == LLMB_AGAIN && llmb_json_end(&js) == LLMB_DECLINED
       && js.rc == LLMB_DECLINED,
       "The handler may refuse a top-level number at the end.");
}


static void
test_results(void)
{
    test_log_t   log;
    llmb_json_t  js;

    memset(&log, 0, sizeof(test_log_t));

    llmb_json_init(&js, 0, 8, scan_token, &log);

    is_int(llmb_json_feed(&js, NULL, 0), LLMB_AGAIN,
           "Nothing fed is not a document yet.");
    is_int(llmb_json_feed(&js, (const unsigned char *) " [", 2), LLMB_AGAIN,
           "An open array wants more.");
    is_int((int64_t) js.offset, 2, "The offset counts the bytes fed.");
    is_int(llmb_json_feed(&js, (const unsigned char *) "] ", 2), LLMB_OK,
           "A closed array is a document.");
    is_int(llmb_json_feed(&js, NULL, 0), LLMB_OK, "It stays one.");
    is_int(llmb_json_feed(&js, (const unsigned char *) "\n", 1), LLMB_OK,
           "White space may follow.");
    is_int(llmb_json_end(&js), LLMB_OK, "The end is fine.");
    is_int(llmb_json_end(&js), LLMB_OK, "The end may be said twice.");
    is_int(llmb_json_feed(&js, (const unsigned char *) " x", 2),
           LLMB_INVALID, "Anything else after the document is refused.");
    is_int((int64_t) js.offset, 6, "The offset is that of the refused byte.");
    is_int(llmb_json_feed(&js, (const unsigned char *) " ", 1), LLMB_INVALID,
           "A failure stays.");
    is_int(llmb_json_feed(&js, NULL, 0), LLMB_INVALID,
           "It stays when nothing is fed.");
    is_int(llmb_json_end(&js), LLMB_INVALID, "It stays at the end.");
    is_int((int64_t) js.offset, 6, "The offset stays, too.");

    memset(&log, 0, sizeof(test_log_t));

    llmb_json_init(&js, 0, 8, scan_token, &log);

    is_int(llmb_json_feed(&js, (const unsigned char *) "42", 2), LLMB_AGAIN,
           "A top-level number may go on.");
    is_int(log.tokens, 0, "So it is no token yet.");
    is_int(llmb_json_end(&js), LLMB_OK, "The end completes it.");
    is_int(log.tokens, 1, "Then it is a token.");
    is_int(llmb_json_end(&js), LLMB_OK, "The second end says the same.");
    is_int(log.tokens, 1, "It is a token once.");
    is_int(llmb_json_feed(&js, (const unsigned char *) "1", 1), LLMB_INVALID,
           "After the end the number does not go on.");

    llmb_json_init(&js, 0, 8, scan_token, &log);

    is_int(llmb_json_feed(&js, (const unsigned char *) "[1", 2), LLMB_AGAIN,
           "An open array with a number wants more.");
    is_int(llmb_json_end(&js), LLMB_INVALID, "Its end is refused.");
    is_int(llmb_json_feed(&js, (const unsigned char *) "]", 1), LLMB_INVALID,
           "It cannot be closed after that.");
}


static void
test_init(void)
{
    llmb_rc_e    rc;
    test_log_t   log;
    llmb_json_t  js;

    memset(&log, 0, sizeof(test_log_t));
    memset(&js, 0xa5, sizeof(llmb_json_t));

    llmb_json_init(&js, 0, 8, scan_token, &log);
    rc = llmb_json_feed(&js, (const unsigned char *) "\"\\ud83d", 7);

    ok(rc == LLMB_AGAIN && js.offset == 7, "Init forgets what was there.");

    llmb_json_init(&js, 0, 8, scan_token, &log);
    rc = llmb_json_feed(&js, (const unsigned char *) "{\"a\":\"\\u0041\"}", 14);

    ok(rc == LLMB_OK && js.offset == 14,
       "A scanner can be used again after init, from any state.");
}


static void
test_int(void)
{
    int64_t            n;
    llmb_json_token_t  token;

    is_number("28", LLMB_OK, 28);
    is_number("28.0", LLMB_OK, 28);
    is_number("2.8e1", LLMB_OK, 28);
    is_number("2.80E+1", LLMB_OK, 28);
    is_number("280e-1", LLMB_OK, 28);
    is_number("28000.000e-3", LLMB_OK, 28);
    is_number("0.028e3", LLMB_OK, 28);
    is_number("0.0000000000000000000000028e25", LLMB_OK, 28);
    is_number("28e0", LLMB_OK, 28);
    is_number("28e-0", LLMB_OK, 28);
    is_number("28e00000000000000000000000000000", LLMB_OK, 28);
    is_number("-28", LLMB_OK, -28);
    is_number("-2.8e1", LLMB_OK, -28);
    is_number("0", LLMB_OK, 0);
    is_number("-0", LLMB_OK, 0);
    is_number("-0.00", LLMB_OK, 0);
    is_number("0e99999999999999999999", LLMB_OK, 0);
    is_number("0.0e-99999999999999999999", LLMB_OK, 0);
    is_number("1000", LLMB_OK, 1000);
    is_number("100.00", LLMB_OK, 100);
    is_number("10020.0", LLMB_OK, 10020);
    is_number("1e18", LLMB_OK, INT64_C(1000000000000000000));
    is_number("9223372036854775807", LLMB_OK, INT64_MAX);
    is_number("9223372036854775807.000", LLMB_OK, INT64_MAX);
    is_number("9.223372036854775807e18", LLMB_OK, INT64_MAX);
    is_number("-9223372036854775807", LLMB_OK, -INT64_MAX);
    is_number("-9223372036854775808", LLMB_OK, INT64_MIN);
    is_number("-9223372036854775808.0", LLMB_OK, INT64_MIN);

    is_number("9223372036854775808", LLMB_OVERFLOW, 0);
    is_number("-9223372036854775809", LLMB_OVERFLOW, 0);
    is_number("9223372036854775810", LLMB_OVERFLOW, 0);
    is_number("18446744073709551616", LLMB_OVERFLOW, 0);
    is_number("18446744073709551644", LLMB_OVERFLOW, 0);
    is_number("92233720368547758070", LLMB_OVERFLOW, 0);
    is_number("1e19", LLMB_OVERFLOW, 0);
    is_number("-1e19", LLMB_OVERFLOW, 0);
    is_number("1e400", LLMB_OVERFLOW, 0);
    is_number("1e99999999999999999999", LLMB_OVERFLOW, 0);
    is_number("1e4294967296", LLMB_OVERFLOW, 0);
    is_number("1e18446744073709551616", LLMB_OVERFLOW, 0);

    is_number("0.5", LLMB_INVALID, 0);
    is_number("28.5", LLMB_INVALID, 0);
    is_number("2.85e1", LLMB_INVALID, 0);
    is_number("28e-1", LLMB_INVALID, 0);
    is_number("1e-1", LLMB_INVALID, 0);
    is_number("1e-99999999999999999999", LLMB_INVALID, 0);
    is_number("1e-18446744073709551616", LLMB_INVALID, 0);
    is_number("1.000000000000000000000000001", LLMB_INVALID, 0);
    is_number("1.4e-07", LLMB_INVALID, 0);

    memset(&token, 0, sizeof(llmb_json_token_t));
    token.type = LLMB_JSON_NUMBER;
    token.text.data = (unsigned char *) malloc(2);

    if (token.text.data == NULL) {
        exit(2);
    }

    memcpy(token.text.data, "28", 2);
    token.text.len = 2;
    token.text_len = 3;

    is_int(llmb_json_int(&token, &n), LLMB_INVALID,
           "A number that was cut is no integer.");

    token.text_len = 2;
    token.type = LLMB_JSON_STRING;

    is_int(llmb_json_int(&token, &n), LLMB_INVALID,
           "A string of digits is no integer.");

    token.type = LLMB_JSON_NUMBER;
    token.text.len = 0;
    token.text_len = 0;

    is_int(llmb_json_int(&token, &n), LLMB_INVALID,
           "An empty literal is no integer.");

    free(token.text.data);
}


/* A special byte at each place of a long string: none is stepped over. */

static void
test_long_runs(void)
{
    int            good, lax;
    char           want[64];
    size_t         i;
    test_log_t     log;
    test_doc_t     doc;
    unsigned char  buf[102];

    memset(&doc, 0, sizeof(test_doc_t));
    doc.data = buf;
    doc.len = sizeof(buf);
    doc.depth = 8;

    for (lax = 0; lax < 2; lax++) {
        doc.flags = lax ? LLMB_JSON_LAX_TEXT : 0;

        good = 1;

        for (i = 1; i < sizeof(buf) - 1; i++) {
            memset(buf, 'a', sizeof(buf));
            buf[0] = '"';
            buf[sizeof(buf) - 1] = '"';
            buf[i] = 0x1f;

            (void) snprintf(want, sizeof(want), "invalid@%u", (unsigned) i);

            scan(&log, &doc, doc.len, 0);
            good = good && strcmp(log.data, want) == 0;
        }

        ok(good, "A control character is found at every place%s.",
           lax ? ", lax" : "");

        good = 1;

        for (i = 1; i < sizeof(buf) - 1; i++) {
            memset(buf, 'a', sizeof(buf));
            buf[0] = '"';
            buf[sizeof(buf) - 1] = '"';
            buf[i] = 0xff;

            (void) snprintf(want, sizeof(want), "invalid@%u", (unsigned) i);

            scan(&log, &doc, doc.len, 0);
            good = good && (lax ? log.last.text_len == 100
                                : strcmp(log.data, want) == 0);
        }

        ok(good, "A byte 0xff is found at every place%s.",
           lax ? " but passes, lax" : "");

        good = 1;

        for (i = 1; i < sizeof(buf) - 2; i++) {
            memset(buf, 'a', sizeof(buf));
            buf[0] = '"';
            buf[sizeof(buf) - 1] = '"';
            buf[i] = '\\';
            buf[i + 1] = 'n';

            scan(&log, &doc, doc.len, 0);
            good = good && log.last.text_len == 99 && log.last.end == 102
                   && log.text[i - 1] == '\n';
        }

        ok(good, "An escape is decoded at every place%s.",
           lax ? ", lax" : "");
    }
}


static void
test_splits(void)
{
    size_t  i;

    for (i = 0; i < sizeof(documents) / sizeof(documents[0]); i++) {
        test_split(documents[i], strlen(documents[i]), 0);
        test_split(documents[i], strlen(documents[i]), LLMB_JSON_LAX_TEXT);
    }

    test_split("\"a\0b\"", 5, 0);
    test_split("{\0}\0", 4, 0);
}


/* One title for a document: two pieces at each offset, byte by byte. */

static void
test_split(const char *text, size_t len, unsigned flags)
{
    int         good;
    size_t      i;
    test_doc_t  doc;

    static test_log_t  whole, parts;

    memset(&doc, 0, sizeof(test_doc_t));
    doc.data = (const unsigned char *) text;
    doc.len = len;
    doc.flags = flags;
    doc.depth = 8;

    good = 1;

    /* the last round: nobody refuses */

    for (doc.refuse = 1; /* void */ ; doc.refuse++) {
        scan(&whole, &doc, len, 0);

        for (i = 0; i <= len; i++) {
            scan(&parts, &doc, len, i);
            good = good && strcmp(whole.data, parts.data) == 0;
        }

        for (i = 1; i <= 3; i++) {
            scan(&parts, &doc, i, 0);
            good = good && strcmp(whole.data, parts.data) == 0;
        }

        if (whole.tokens < doc.refuse) {
            break;
        }
    }

    if (!good) {
        printf("# whole: %s\n# parts: %s\n", whole.data, parts.data);
    }

    ok(good, "No cut changes %s of document of %u bytes%s.",
       strstr(whole.data, "ok@") ? "the tokens" : "the refusal",
       (unsigned) len, flags ? ", lax" : "");
}


/* Long strings and numbers, so that the bulk search is cut everywhere. */

static void
test_long_split(void)
{
    int             good;
    size_t          i, n;
    test_doc_t      doc;
    unsigned char  *buf;

    static test_log_t  whole, parts;

    static const char *const  units[] = {
        "plain text, a long run of it; ",
        "\xd0\xbf\xd1\x80\xd0\xb8 \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x98\x80 ",
        "a\\nb\\u20ac\\ud83d\\ude00\\\" ",
        "123456789012345678901234567890"
    };

    buf = malloc(4096);

    if (buf == NULL) {
        exit(2);
    }

    memset(&doc, 0, sizeof(test_doc_t));
    doc.depth = 8;
    doc.data = buf;

    for (i = 0, n = 0; i < 4; i++) {
        buf[n++] = (unsigned char) (i ? ',' : '[');

        if (i < 3) {
            buf[n++] = '"';
        }

        while (n < (i + 1) * 350) {
            memcpy(buf + n, units[i], strlen(units[i]));
            n += strlen(units[i]);
        }

        if (i < 3) {
            buf[n++] = '"';
        }
    }

    buf[n++] = ']';
    doc.len = n;

    scan(&whole, &doc, n, 0);

    ok(strstr(whole.data, "ok@") != NULL && whole.tokens == 6,
       "Long texts are scanned whole.");

    good = 1;

    for (i = 0; i <= n; i++) {
        scan(&parts, &doc, n, i);
        good = good && strcmp(whole.data, parts.data) == 0;
    }

    ok(good, "Long texts cut in two at each offset give the same tokens.");

    good = 1;

    for (i = 1; i < 70; i++) {
        scan(&parts, &doc, i, 0);
        good = good && strcmp(whole.data, parts.data) == 0;
    }

    ok(good, "Long texts in pieces of 1 to 69 bytes give the same tokens.");

    free(buf);
}


/*
 * Scans a document in pieces of the given size; if cut is not 0, it is also
 * cut there.
 */

static void
scan(test_log_t *log, const test_doc_t *doc, size_t piece, size_t cut)
{
    size_t       pos, n;
    llmb_rc_e    rc;
    llmb_json_t  js;

    log->len = 0;
    log->data[0] = '\0';
    log->tokens = 0;
    log->refuse = doc->refuse;
    log->code = LLMB_DECLINED;
    memset(&log->last, 0, sizeof(llmb_json_token_t));

    llmb_json_init(&js, doc->flags, doc->depth, scan_token, log);

    for (pos = 0; pos < doc->len; pos += n) {
        n = (doc->len - pos < piece) ? doc->len - pos : piece;

        if (pos < cut && n > cut - pos) {
            n = cut - pos;
        }

        scan_feed(&js, doc->data + pos, n);
    }

    rc = llmb_json_end(&js);

    if (rc != js.rc) {
        scan_printf(log, "rc differs from js->rc ");
    }

    scan_printf(log, "%s@%llu", rc_names[rc], (unsigned long long) js.offset);
}


/* Each piece has its own memory, so that a sanitizer sees a step outside. */

static void
scan_feed(llmb_json_t *js, const unsigned char *p, size_t len)
{
    unsigned char  *copy;

    copy = malloc(len);

    if (copy == NULL) {
        exit(2);
    }

    memcpy(copy, p, len);
    (void) llmb_json_feed(js, copy, len);
    free(copy);
}


static llmb_rc_e
scan_token(void *data, const llmb_json_token_t *token)
{
    test_log_t *log = data;

    size_t         i;
    unsigned char  c;

    static const char  letters[] = "OoAaKSNTFU";

    log->tokens++;
    log->last = *token;

    if (token->text.len != 0) {
        memcpy(log->text, token->text.data, token->text.len);
    }

    scan_printf(log, "%c%u:%llu-%llu", letters[token->type], token->depth,
                (unsigned long long) token->start,
                (unsigned long long) token->end);

    if (token->type == LLMB_JSON_KEY || token->type == LLMB_JSON_STRING
        || token->type == LLMB_JSON_NUMBER)
    {
        scan_printf(log, "=");

    } else if (token->text.len != 0 || token->text_len != 0) {
        scan_printf(log, "text?");
    }

    for (i = 0; i < token->text.len; i++) {
        c = token->text.data[i];

        if (c > ' ' && c < 0x7f && c != '%') {
            scan_printf(log, "%c", c);

        } else {
            scan_printf(log, "%%%02x", c);
        }
    }

    if (token->text_len != token->text.len) {
        scan_printf(log, "...%llu", (unsigned long long) token->text_len);
    }

    scan_printf(log, " ");

    return (log->tokens == log->refuse) ? log->code : LLMB_OK;
}


static void
scan_printf(test_log_t *log, const char *fmt, ...)
{
    int      n;
    va_list  args;

    va_start(args, fmt);
    n = vsnprintf(log->data + log->len, TEST_LOG - log->len, fmt, args);
    va_end(args);

    if (n < 0 || (size_t) n >= TEST_LOG - log->len) {
        exit(2);
    }

    log->len += (size_t) n;
}


static void
is_scan(const char *text, const char *want, const char *title)
{
    test_doc_t  doc;

    static test_log_t  log;

    memset(&doc, 0, sizeof(test_doc_t));
    doc.data = (const unsigned char *) text;
    doc.len = strlen(text);
    doc.depth = 8;

    scan(&log, &doc, doc.len, 0);
    is_str(log.data, log.len, want, title);
}


static void
is_lax(const char *text, const char *want, const char *title)
{
    test_doc_t  doc;

    static test_log_t  log;

    memset(&doc, 0, sizeof(test_doc_t));
    doc.data = (const unsigned char *) text;
    doc.len = strlen(text);
    doc.flags = LLMB_JSON_LAX_TEXT;
    doc.depth = 8;

    scan(&log, &doc, doc.len, 0);
    is_str(log.data, log.len, want, title);
}


static void
is_refused(const char *text, size_t len, size_t offset, const char *title)
{
    char        want[64];
    size_t      n;
    test_doc_t  doc;

    static test_log_t  log;

    memset(&doc, 0, sizeof(test_doc_t));
    doc.data = (const unsigned char *) text;
    doc.len = len;
    doc.depth = 8;

    (void) snprintf(want, sizeof(want), "invalid@%u", (unsigned) offset);

    scan(&log, &doc, len, 0);
    n = strlen(want);

    if (!ok(log.len >= n && strcmp(log.data + log.len - n, want) == 0,
            "%s", title))
    {
        printf("#      got: %s\n# expected: ... %s\n", log.data, want);
    }
}


static void
is_number(const char *text, llmb_rc_e rc, int64_t want)
{
    int64_t     n;
    llmb_rc_e   got;
    test_doc_t  doc;

    static test_log_t  log;

    memset(&doc, 0, sizeof(test_doc_t));
    doc.data = (const unsigned char *) text;
    doc.len = strlen(text);
    doc.depth = 8;

    scan(&log, &doc, doc.len, 0);

    n = 0;
    log.last.text.data = log.text;
    got = llmb_json_int(&log.last, &n);

    if (!ok(log.tokens == 1 && got == rc && (rc != LLMB_OK || n == want),
            "As an integer %s is %s.", text, rc_names[rc]))
    {
        printf("#      got: %s %lld\n# expected: %lld\n", rc_names[got],
               (long long) n, (long long) want);
    }
}
