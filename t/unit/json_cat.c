
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Says what the JSON scanner makes of a file: "json_cat [options] file".
 *
 *     -1      feed byte by byte, else whole
 *     -t      a line per token: type, depth, start, end, length of the text,
 *             the text in hex ("-" if there is none)
 *     -l      lax text
 *     -d N    max_depth, else that of a request
 *
 * The last line is "accept" or "refuse <code> <offset>".
 */


#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/llmb_json.h"


typedef struct {
    const char             *name;
    unsigned                flags;
    unsigned                depth;
    int                     bytes;
    int                     tokens;
} cat_args_t;


static int cat_parse(cat_args_t *args, int argc, char *const *argv);
static unsigned char *cat_read(const char *name, size_t *len);
static llmb_rc_e cat_token(void *data, const llmb_json_token_t *token);


static const char *const  cat_types[] = {
    "object", "object_end", "array", "array_end", "key", "string", "number",
    "true", "false", "null"
};


static const char *const  cat_codes[] = {
    "ok", "again", "declined", "invalid", "overflow", "nospace", "limit"
};


int
main(int argc, char *argv[])
{
    size_t          i, len, piece;
    llmb_rc_e       rc;
    cat_args_t      args;
    llmb_json_t     js;
    unsigned char  *data;

    if (cat_parse(&args, argc, argv) != 0) {
        fprintf(stderr, "usage: json_cat [-1] [-t] [-l] [-d depth] file\n");
        return 2;
    }

    data = cat_read(args.name, &len);

    if (data == NULL) {
        fprintf(stderr, "json_cat: cannot read %s\n", args.name);
        return 2;
    }

    piece = args.bytes ? 1 : len;

    llmb_json_init(&js, args.flags, args.depth, cat_token, &args);

    for (i = 0; i < len; i += piece) {
        (void) llmb_json_feed(&js, data + i, piece);
    }

    rc = llmb_json_end(&js);

    if (rc == LLMB_OK) {
        printf("accept\n");

    } else {
        printf("refuse %s %llu\n", cat_codes[rc],
               (unsigned long long) js.offset);
    }

    free(data);

    return 0;
}


static int
cat_parse(cat_args_t *args, int argc, char *const *argv)
{
    int  i;

    memset(args, 0, sizeof(cat_args_t));
    args->depth = LLMB_REQUEST_DEPTH;

    for (i = 1; i < argc; i++) {

        if (strcmp(argv[i], "-1") == 0) {
            args->bytes = 1;

        } else if (strcmp(argv[i], "-t") == 0) {
            args->tokens = 1;

        } else if (strcmp(argv[i], "-l") == 0) {
            args->flags = LLMB_JSON_LAX_TEXT;

        } else if (strcmp(argv[i], "-d") == 0 && i + 1 < argc) {
            args->depth = (unsigned) strtoul(argv[++i], NULL, 10);

        } else if (args->name == NULL) {
            args->name = argv[i];

        } else {
            return 1;
        }
    }

    return args->name == NULL;
}


/* The whole file, never NULL if it could be read. */

static unsigned char *
cat_read(const char *name, size_t *len)
{
    FILE           *f;
    size_t          n, size;
    unsigned char  *data, *more;

    f = fopen(name, "rb");

    if (f == NULL) {
        return NULL;
    }

    n = 0;
    size = 65536;
    data = malloc(size);

    while (data != NULL) {
        n += fread(data + n, 1, size - n, f);

        if (n < size) {
            break;
        }

        size *= 2;
        more = realloc(data, size);

        if (more == NULL) {
            free(data);
        }

        data = more;
    }

    if (data != NULL && ferror(f)) {
        free(data);
        data = NULL;
    }

    fclose(f);
    *len = n;

    return data;
}


static llmb_rc_e
cat_token(void *data, const llmb_json_token_t *token)
{
    cat_args_t *args = data;

    size_t  i;

    if (!args->tokens) {
        return LLMB_OK;
    }

    printf("%s %u %llu %llu %llu ", cat_types[token->type], token->depth,
           (unsigned long long) token->start,
           (unsigned long long) token->end,
           (unsigned long long) token->text_len);

    for (i = 0; i < token->text.len; i++) {
        printf("%02x", token->text.data[i]);
    }

    printf("%s\n", (token->text.len == 0) ? "-" : "");

    return LLMB_OK;
}
