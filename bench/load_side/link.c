#define _GNU_SOURCE
#include "link.h"

#include "options.h"
#include "transport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RESPONSE_BYTES_MAX = 8192, DEAF_BUFFER_BYTES = 2048 };

/* The example of RFC 6455 §1.3: the same key for all, so that the answer can be compared. */
static const char key[] = "dGhlIHNhbXBsZSBub25jZQ==", accepted[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
static const uint8_t mask[4] = {0x11, 0x22, 0x33, 0x44};

uint8_t scratch[1 << 16];

size_t frame_write(uint8_t *to, int opcode, const uint8_t *payload, size_t size)
{
    size_t head = size < 126 ? 2 : 4;
    if (size > 65535)
        fail("a message of %zu bytes: at most 65,535", size);
    if (!to)
        return head + 4 + size;
    to[0] = (uint8_t)(0x80 | opcode);
    to[1] = (uint8_t)(0x80 | (size < 126 ? size : 126));
    if (size >= 126) {
        to[2] = (uint8_t)(size >> 8);
        to[3] = (uint8_t)size;
    }
    memcpy(to + head, mask, 4);
    for (size_t i = 0; i < size; i++)
        to[head + 4 + i] = payload[i] ^ mask[i & 3];
    return head + 4 + size;
}

static void watch(struct link *link, int how, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = link};
    if (epoll_ctl(poller, how, link->fd, &event))
        fail("epoll: %s", strerror(errno));
}

static uint32_t wanted(struct link *link)
{
    uint32_t reads = link->role == DEAF && link->stage == OPEN ? 0 : EPOLLIN;
    return reads | (link->unsent_size ? EPOLLOUT : 0);
}

void link_begin(struct link *link, int number, enum role role)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)asked.port)}, from = {.sin_family = AF_INET};
    int yes = 1, small = DEAF_BUFFER_BYTES;
    inet_aton(asked.host, &to.sin_addr);
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (unsigned)(number % asked.sources));
    link->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (link->fd < 0)
        fail("socket: %s", strerror(errno));
    link->number = number;
    link->role = role;
    link->stage = CONNECTING;
    link->greetings_left = asked.greetings;
    link->head_got = link->is_closed = 0;
    link->left = link->heard = 0;
    link->begun_at = now_ns();
    setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (role == DEAF)
        setsockopt(link->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (asked.sources > 1) {
        setsockopt(link->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
        if (bind(link->fd, (struct sockaddr *)&from, sizeof from))
            fail("bind: %s", strerror(errno));
    }
    if (connect(link->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    watch(link, EPOLL_CTL_ADD, EPOLLOUT);
}

void link_end(struct link *link)
{
    transport_free(link);
    close(link->fd);
    free(link->opening);
    free(link->unsent);
    link->opening = link->unsent = NULL;
    link->opening_size = link->unsent_size = 0;
    link->stage = ENDED;
}

static void lose(struct link *link)
{
    if (link->stage < OPEN)
        fail("link %d was lost before it was open%s", link->number, link->stage == GREETED ? " (refused?)" : "");
    link_end(link);
    hear_end(link);
}

void link_say(struct link *link, const uint8_t *data, size_t size)
{
    ssize_t sent = link->unsent_size ? AGAIN : transport_write(link, data, size);
    if (sent == GONE) /* the read that follows tells, too, and it alone ends the link */
        return;
    size_t taken = sent == AGAIN ? 0 : (size_t)sent;
    if (taken == size)
        return;
    link->unsent = realloc(link->unsent, link->unsent_size + size - taken);
    memcpy(link->unsent + link->unsent_size, data + taken, size - taken);
    link->unsent_size += size - taken;
    watch(link, EPOLL_CTL_MOD, wanted(link));
}

static void say_rest(struct link *link)
{
    ssize_t sent = transport_write(link, link->unsent, link->unsent_size);
    if (sent <= 0)
        return;
    link->unsent_size -= (size_t)sent;
    memmove(link->unsent, link->unsent + sent, link->unsent_size);
    if (!link->unsent_size)
        watch(link, EPOLL_CTL_MOD, wanted(link));
}

void link_close(struct link *link)
{
    static const uint8_t normal[2] = {1000 >> 8, 1000 & 0xFF};
    uint8_t frame[16];
    link->stage = CLOSING;
    link_say(link, frame, frame_write(frame, 0x8, normal, sizeof normal));
}

static void upgrade(struct link *link)
{
    char head[4096], filled[sizeof head];
    int size = snprintf(head, sizeof head,
                        "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n",
                        asked.path, asked.host, asked.port, key);
    for (int i = 0; i < asked.header_count; i++)
        size += snprintf(head + size, sizeof head - (size_t)size, "%s\r\n", asked.headers[i]);
    size += snprintf(head + size, sizeof head - (size_t)size, "\r\n");
    fill_number((uint8_t *)filled, (uint8_t *)head, (size_t)size, link->number);
    link->stage = UPGRADING;
    link_say(link, (uint8_t *)filled, (size_t)size);
    watch(link, EPOLL_CTL_MOD, wanted(link));
}

static void opened(struct link *link)
{
    link->stage = OPEN;
    if (link->role == DEAF)
        watch(link, EPOLL_CTL_MOD, wanted(link));
    hear_open(link);
}

static void upgraded(struct link *link)
{
    if (asked.first.size) {
        uint8_t *payload = malloc(asked.first.size), *frame = malloc(asked.first.size + 16);
        fill_number(payload, asked.first.bytes, asked.first.size, link->number);
        link_say(link, frame, frame_write(frame, 0x2, payload, asked.first.size));
        free(payload);
        free(frame);
    }
    link->stage = GREETED;
    if (!link->greetings_left)
        opened(link);
}

static size_t head_size(const uint8_t *head)
{
    uint8_t size = head[1] & 0x7F;
    return size < 126 ? 2 : size == 126 ? 4 : 10;
}

static void begin_frame(struct link *link)
{
    uint8_t size = link->head[1] & 0x7F;
    link->left = size < 126 ? size : 0;
    for (size_t i = 2; size >= 126 && i < head_size(link->head); i++)
        link->left = link->left << 8 | link->head[i];
    link->is_control = (link->head[0] & 0x08) != 0;
    link->is_final = link->head[0] >> 7;
    if (link->head[1] & 0x80 || link->head[0] & 0x70 || (link->is_control && link->left > sizeof link->control))
        fail("link %d heard a frame that no server may send: %02x %02x", link->number, link->head[0], link->head[1]);
}

/* Payload of a data message: compared with what is expected, then forgotten. */
static void hear_payload(struct link *link, const uint8_t *data, size_t size)
{
    if (link->stage == OPEN && link->heard < asked.expected_size) {
        size_t compared = asked.expected_size - link->heard < size ? asked.expected_size - link->heard : size;
        if (memcmp(data, asked.expected + link->heard, compared))
            hear_wrong(link, data, size);
    }
    link->heard += size;
}

/* 1 when a whole data message has ended with this frame. */
static int end_frame(struct link *link)
{
    uint8_t opcode = link->head[0] & 0x0F, size = link->head[1] & 0x7F, pong[160];
    link->head_got = 0;
    if (opcode == 0x8)
        link->is_closed = 1;
    if (opcode == 0x9)
        link_say(link, pong, frame_write(pong, 0xA, link->control, size));
    if (link->is_control || !link->is_final)
        return 0;
    link->heard = 0;
    return 1;
}

static int hear(struct link *link, const uint8_t *data, size_t size)
{
    int answers = 0;
    const uint8_t *end = data + size;
    while (data < end) {
        if (link->head_got < 2 || link->head_got < head_size(link->head)) {
            link->head[link->head_got++] = *data++;
            if (link->head_got < 2 || link->head_got < head_size(link->head))
                continue;
            begin_frame(link);
        }
        size_t taken = link->left < (size_t)(end - data) ? (size_t)link->left : (size_t)(end - data);
        if (link->is_control)
            memcpy(link->control + (link->head[1] & 0x7F) - link->left, data, taken);
        else
            hear_payload(link, data, taken);
        data += taken;
        link->left -= taken;
        if (!link->left && end_frame(link)) {
            if (link->stage == GREETED && !--link->greetings_left)
                opened(link);
            else if (link->stage == OPEN)
                answers++;
        }
    }
    return answers;
}

/* The response to our upgrade may come in pieces, and with the first frames behind it. */
static int hear_response(struct link *link, const uint8_t *data, size_t size)
{
    link->opening = realloc(link->opening, link->opening_size + size + 1);
    memcpy(link->opening + link->opening_size, data, size);
    link->opening_size += size;
    link->opening[link->opening_size] = '\0';
    char *text = (char *)link->opening, *end = strstr(text, "\r\n\r\n");
    if (!end && link->opening_size < RESPONSE_BYTES_MAX)
        return 0;
    if (!end || strncmp(text, "HTTP/1.1 101", 12) || !strstr(text, accepted))
        fail("link %d was refused: %.300s", link->number, text);
    upgraded(link);
    uint8_t *rest = (uint8_t *)end + 4, *whole = link->opening;
    link->opening = NULL;
    int answers = hear(link, rest, (size_t)(whole + link->opening_size - rest));
    link->opening_size = 0;
    free(whole);
    return answers;
}

static void read_all(struct link *link)
{
    do {
        ssize_t size = transport_read(link, scratch, sizeof scratch);
        if (size == GONE)
            return lose(link);
        if (size == AGAIN)
            return;
        int answers = link->stage == UPGRADING ? hear_response(link, scratch, (size_t)size) : hear(link, scratch, (size_t)size);
        if (answers)
            hear_answers(link, answers);
        if (link->is_closed)
            return lose(link);
    } while (link->stage != ENDED && transport_holds(link));
}

static void shake(struct link *link)
{
    int wants_write = 0, done = transport_shake(link, &wants_write);
    if (done == GONE)
        fail("link %d: the TLS handshake failed", link->number);
    if (done == 1)
        upgrade(link);
    else
        watch(link, EPOLL_CTL_MOD, wants_write ? EPOLLOUT : EPOLLIN);
}

void link_happened(struct link *link, uint32_t events)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (link->stage == CONNECTING) {
        getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error)
            fail("connect: %s", strerror(error));
        link->stage = SHAKING;
    }
    if (link->stage == SHAKING)
        return shake(link);
    if (events & EPOLLOUT && link->unsent_size)
        say_rest(link);
    if (link->role == DEAF && link->stage == OPEN) {
        if (events & (EPOLLERR | EPOLLHUP))
            lose(link);
    } else if (events & ~(uint32_t)EPOLLOUT) {
        read_all(link);
    }
}
