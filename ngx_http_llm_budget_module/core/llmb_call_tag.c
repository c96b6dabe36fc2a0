
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The names of the operations, and what stands between braces in keys.
 */


#include "core/llmb_call.h"
#include "core/llmb_out.h"

#include <string.h>


static int llmb_call_is_made(const llmb_str_t *text);


static const char *const  llmb_call_names[LLMB_CALLS] = {
    "open",
    "post",
    "void",
    "extend",
    "peek",
    "walk"
};


const char *
llmb_call_name(llmb_call_e kind)
{
    return ((unsigned) kind < LLMB_CALLS) ? llmb_call_names[kind] : "";
}


size_t
llmb_call_tag(unsigned char *tag, const llmb_str_t *text)
{
    unsigned       i;
    uint64_t       key[2];
    llmb_out_t     out;
    unsigned char  digits[32];

    llmb_out_init(&out, tag, LLMB_CALL_TAG);

    if (text->len == 0) {
        llmb_out_text(&out, "-");

    } else if (llmb_call_is_tag(text) && !llmb_call_is_made(text)) {
        llmb_out_str(&out, text);

    } else {
        llmb_ledger_key(key, text, 1);
        llmb_out_text(&out, "h:");

        for (i = 0; i < 32; i++) {
            digits[i] = (unsigned char)
                "0123456789abcdef"[key[i / 16] >> (60 - 4 * (i % 16)) & 15];
        }

        llmb_out_bytes(&out, digits, sizeof(digits));
    }

    return (size_t) (out.pos - out.start);
}


unsigned
llmb_call_slot(const llmb_str_t *tag)
{
    size_t    i;
    unsigned  k, crc;

    crc = 0;

    for (i = 0; i < tag->len; i++) {
        crc ^= (unsigned) tag->data[i] << 8;

        for (k = 0; k < 8; k++) {
            crc = (crc & 0x8000) ? (crc << 1) ^ 0x1021 : crc << 1;
        }

        crc &= 0xffff;
    }

    return crc % 16384;
}


int
llmb_call_is_tag(const llmb_str_t *text)
{
    size_t         i;
    unsigned char  c;

    if (text->len == 0 || text->len > LLMB_CALL_TAG) {
        return 0;
    }

    for (i = 0; i < text->len; i++) {
        c = text->data[i];

        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
            || (c >= '0' && c <= '9')
            || c == '_' || c == '.' || c == ':' || c == '@' || c == '/'
            || c == '-')
        {
            continue;
        }

        return 0;
    }

    return 1;
}


/* Looks like what stands for another text: no two texts have one tag. */

static int
llmb_call_is_made(const llmb_str_t *text)
{
    return (text->len == 1 && text->data[0] == '-')
           || (text->len == 34 && memcmp(text->data, "h:", 2) == 0);
}
