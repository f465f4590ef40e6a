/* SHA-1 (RFC 3174) and base64, for the one thing that a WebSocket needs them for: Sec-WebSocket-Accept (RFC 6455 §4.2.2). */
#ifndef SHA1_H
#define SHA1_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { ACCEPT_CHARS = 28 };

static uint32_t rotated(uint32_t word, int by)
{
    return word << by | word >> (32 - by);
}

static void sha1_block(uint32_t state[5], const uint8_t block[64])
{
    uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 80; i++)
        w[i] = rotated(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t mixed = i < 20   ? ((b & c) | (~b & d)) + 0x5A827999
                         : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                         : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDC
                                  : (b ^ c ^ d) + 0xCA62C1D6;
        uint32_t next = rotated(a, 5) + mixed + e + w[i];
        e = d, d = c, c = rotated(b, 30), b = a, a = next;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
}

/* The SHA-1 of up to 119 bytes. */
static void sha1(const char *text, size_t size, uint8_t digest[20])
{
    uint32_t state[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    uint8_t padded[128] = {0};
    size_t blocks = size + 9 <= 64 ? 1 : 2;
    memcpy(padded, text, size);
    padded[size] = 0x80;
    padded[64 * blocks - 2] = (uint8_t)(8 * size >> 8);
    padded[64 * blocks - 1] = (uint8_t)(8 * size);
    for (size_t i = 0; i < blocks; i++)
        sha1_block(state, padded + 64 * i);
    for (int i = 0; i < 20; i++)
        digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}

/* What a server answers to `key`, which has up to 80 characters. */
static void websocket_accept(const char *key, char accept[ACCEPT_CHARS + 1])
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char text[120];
    uint8_t digest[21] = {0};
    int size = snprintf(text, sizeof text, "%.80s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    sha1(text, (size_t)size, digest);
    for (int i = 0; i < 7; i++) {
        uint32_t three = (uint32_t)digest[3 * i] << 16 | (uint32_t)digest[3 * i + 1] << 8 | digest[3 * i + 2];
        for (int j = 0; j < 4; j++)
            accept[4 * i + j] = letters[three >> (18 - 6 * j) & 63];
    }
    accept[ACCEPT_CHARS - 1] = '='; /* 20 bytes leave one character over */
    accept[ACCEPT_CHARS] = '\0';
}

#endif
