
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Identity of an account: keyed BLAKE2s (RFC 7693) with 128 bits of digest.
 * Parts of it are chosen by clients, and whoever finds another account's
 * identity spends on it, so a mere mixing function does not do.
 */


#include "core/llmb_ledger.h"

#include <string.h>


#define LLMB_LEDGER_BLOCK       64
#define LLMB_LEDGER_ROUNDS      10

/* digest and key lengths, fanout 1, depth 1 */
#define LLMB_LEDGER_PARAM       UINT32_C(0x01011010)


typedef struct {
    uint32_t                h[8];
    uint64_t                total;
    size_t                  len;        /* in the block; full until more */
    unsigned char           block[LLMB_LEDGER_BLOCK];
} llmb_ledger_hash_t;


static void llmb_ledger_hash_add(llmb_ledger_hash_t *hash,
    const unsigned char *p, size_t len);
static void llmb_ledger_hash_block(llmb_ledger_hash_t *hash, unsigned last);
static void llmb_ledger_hash_mix(uint32_t v[4][4], unsigned column,
    unsigned diagonal, uint32_t x, uint32_t y);
static uint32_t llmb_ledger_hash_rotate(uint32_t n, unsigned bits);


static const uint32_t  llmb_ledger_iv[8] = {
    UINT32_C(0x6a09e667), UINT32_C(0xbb67ae85), UINT32_C(0x3c6ef372),
    UINT32_C(0xa54ff53a), UINT32_C(0x510e527f), UINT32_C(0x9b05688c),
    UINT32_C(0x1f83d9ab), UINT32_C(0x5be0cd19)
};


static const unsigned char  llmb_ledger_sigma[LLMB_LEDGER_ROUNDS][16] = {
    { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
    { 14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3 },
    { 11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4 },
    { 7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8 },
    { 9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13 },
    { 2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9 },
    { 12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11 },
    { 13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10 },
    { 6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5 },
    { 10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0 }
};


void
llmb_ledger_key(uint64_t key[2], const llmb_str_t *parts, unsigned n)
{
    unsigned            i, k;
    uint64_t            len;
    unsigned char       prefix[8];
    llmb_ledger_hash_t  hash;

    static const unsigned char  seed[LLMB_LEDGER_BLOCK] = "llmb ledger key1";

    memcpy(hash.h, llmb_ledger_iv, sizeof(hash.h));
    hash.h[0] ^= LLMB_LEDGER_PARAM;
    hash.total = 0;
    hash.len = 0;

    llmb_ledger_hash_add(&hash, seed, sizeof(seed));

    for (i = 0; i < n; i++) {
        len = parts[i].len;

        /* with its length, so that "ab", "c" is not "a", "bc" */

        for (k = 0; k < 8; k++) {
            prefix[k] = (unsigned char) (len >> (8 * k) & 0xff);
        }

        llmb_ledger_hash_add(&hash, prefix, sizeof(prefix));
        llmb_ledger_hash_add(&hash, parts[i].data, parts[i].len);
    }

    memset(hash.block + hash.len, 0, LLMB_LEDGER_BLOCK - hash.len);
    llmb_ledger_hash_block(&hash, 1);

    key[0] = (uint64_t) hash.h[1] << 32 | hash.h[0];
    key[1] = (uint64_t) hash.h[3] << 32 | hash.h[2];
}


static void
llmb_ledger_hash_add(llmb_ledger_hash_t *hash, const unsigned char *p,
    size_t len)
{
    size_t  n;

    while (len != 0) {

        if (hash->len == LLMB_LEDGER_BLOCK) {
            llmb_ledger_hash_block(hash, 0);
        }

        n = LLMB_LEDGER_BLOCK - hash->len;

        if (n > len) {
            n = len;
        }

        memcpy(hash->block + hash->len, p, n);
        hash->len += n;
        p += n;
        len -= n;
    }
}


static void
llmb_ledger_hash_block(llmb_ledger_hash_t *hash, unsigned last)
{
    unsigned              i, k;
    uint32_t              m[16], v[4][4];
    const unsigned char  *p, *s;

    hash->total += hash->len;
    hash->len = 0;

    for (i = 0; i < 16; i++) {
        p = hash->block + 4 * i;
        m[i] = (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16
               | (uint32_t) p[3] << 24;
    }

    memcpy(v, hash->h, sizeof(hash->h));
    memcpy(v[2], llmb_ledger_iv, sizeof(llmb_ledger_iv));

    v[3][0] ^= (uint32_t) (hash->total & UINT32_MAX);
    v[3][1] ^= (uint32_t) (hash->total >> 32);

    if (last) {
        v[3][2] ^= UINT32_MAX;
    }

    for (i = 0; i < LLMB_LEDGER_ROUNDS; i++) {
        s = llmb_ledger_sigma[i];

        for (k = 0; k < 8; k++) {
            llmb_ledger_hash_mix(v, k % 4, k / 4, m[s[2 * k]],
                                 m[s[2 * k + 1]]);
        }
    }

    for (i = 0; i < 8; i++) {
        hash->h[i] ^= v[i / 4][i % 4] ^ v[2 + i / 4][i % 4];
    }
}


/* One quarter: a column, or the diagonal that starts there. */

static void
llmb_ledger_hash_mix(uint32_t v[4][4], unsigned column, unsigned diagonal,
    uint32_t x, uint32_t y)
{
    uint32_t  *a, *b, *c, *d;

    a = &v[0][column];
    b = &v[1][(column + diagonal) % 4];
    c = &v[2][(column + 2 * diagonal) % 4];
    d = &v[3][(column + 3 * diagonal) % 4];

    *a += *b + x;
    *d = llmb_ledger_hash_rotate(*d ^ *a, 16);
    *c += *d;
    *b = llmb_ledger_hash_rotate(*b ^ *c, 12);
    *a += *b + y;
    *d = llmb_ledger_hash_rotate(*d ^ *a, 8);
    *c += *d;
    *b = llmb_ledger_hash_rotate(*b ^ *c, 7);
}


static uint32_t
llmb_ledger_hash_rotate(uint32_t n, unsigned bits)
{
    return n >> bits | n << (32 - bits);
}
