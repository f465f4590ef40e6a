/*
 * The floor: what an echo over WebSocket costs when nothing but the work itself is done.
 *
 *     epoll_echo [PORT]        prints ws://127.0.0.1:PORT/ and serves until killed
 *
 * One thread, one epoll set, one read and one write per turn of a connection. Speaks RFC 6455 as far as small whole frames go: data frames
 * are sent back, pings answered, a close answered and followed by the end. A fragment, a frame without a mask or one that does not fit
 * the buffer ends the connection.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sha1.h"

enum { BUFFER_BYTES = 8192, EVENTS_MAX = 512 };

struct connection {
    int fd;
    int is_open;    /* the upgrade has been answered */
    int is_closing; /* ends once everything is written */
    size_t got;     /* bytes in `in` that are not heard yet */
    size_t unsent;  /* bytes in `out` that the socket would not take */
    uint8_t in[BUFFER_BYTES];
    uint8_t out[BUFFER_BYTES];
};

static int poller;

static void finish(struct connection *c)
{
    close(c->fd);
    free(c);
}

static void watch(struct connection *c, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
}

/* Writes what is in `out`; -1 when the peer is gone. What the socket does not take waits for EPOLLOUT, and nothing is read meanwhile. */
static int flush(struct connection *c, size_t size)
{
    int waited = c->unsent > 0;
    ssize_t sent = size ? send(c->fd, c->out, size, MSG_NOSIGNAL) : 0;
    if (sent < 0) {
        if (errno != EAGAIN)
            return -1;
        sent = 0;
    }
    c->unsent = size - (size_t)sent;
    if (c->unsent) {
        memmove(c->out, c->out + sent, c->unsent);
        if (!waited)
            watch(c, EPOLLOUT);
    } else if (waited) {
        watch(c, EPOLLIN);
    }
    return c->is_closing && !c->unsent ? -1 : 0;
}

/* Hears every whole frame in `in` and writes the answers into `out`; how many bytes those are, or -1. */
static ssize_t answer_frames(struct connection *c)
{
    size_t at = 0, out = 0;
    while (c->got - at >= 2 && !c->is_closing) {
        uint8_t *frame = c->in + at;
        size_t head = 2, size = frame[1] & 0x7F;
        if (!(frame[0] & 0x80) || !(frame[1] & 0x80) || size == 127)
            return -1;
        if (size == 126) {
            if (c->got - at < 4)
                break;
            head = 4;
            size = (size_t)frame[2] << 8 | frame[3];
        }
        if (head + 4 + size > BUFFER_BYTES)
            return -1;
        if (c->got - at < head + 4 + size)
            break;
        uint8_t opcode = frame[0] & 0x0F, *mask = frame + head, *from = mask + 4, *to = c->out + out + head;
        if (opcode == 0x8)
            c->is_closing = 1;
        if (opcode != 0xA) { /* a pong asks for nothing */
            memcpy(c->out + out, frame, head);
            c->out[out] = 0x80 | (opcode == 0x9 ? 0xA : opcode);
            c->out[out + 1] &= 0x7F;
            for (size_t i = 0; i < size; i++)
                to[i] = from[i] ^ mask[i & 3];
            out += head + size;
        }
        at += head + 4 + size;
    }
    c->got -= at;
    memmove(c->in, c->in + at, c->got);
    return (ssize_t)out;
}

/* Answers the upgrade once its head is whole; how many bytes the answer has, or -1. */
static ssize_t answer_head(struct connection *c)
{
    static const char name[] = "\r\nsec-websocket-key:";
    char *head = (char *)c->in, *end = memmem(head, c->got, "\r\n\r\n", 4);
    if (!end)
        return c->got == BUFFER_BYTES ? -1 : 0;
    *end = '\0';
    char *line = strcasestr(head, name), accept[ACCEPT_CHARS + 1];
    if (!line)
        return -1;
    line += sizeof name - 1;
    line += strspn(line, " ");
    line[strcspn(line, "\r")] = '\0';
    websocket_accept(line, accept);
    c->is_open = 1;
    c->got -= (size_t)(end + 4 - head);
    memmove(c->in, end + 4, c->got);
    return snprintf((char *)c->out, BUFFER_BYTES,
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
}

/* Hears what is in `in`. Behind the head of the upgrade there may be frames of an eager client already. */
static int hear(struct connection *c)
{
    int was_open = c->is_open;
    ssize_t answered = was_open ? answer_frames(c) : answer_head(c);
    if (answered < 0 || (answered > 0 && flush(c, (size_t)answered) < 0))
        return -1;
    return !was_open && c->is_open && c->got && !c->unsent ? hear(c) : 0;
}

static int readable(struct connection *c)
{
    ssize_t size = recv(c->fd, c->in + c->got, BUFFER_BYTES - c->got, 0);
    if (size <= 0)
        return size < 0 && errno == EAGAIN ? 0 : -1;
    c->got += (size_t)size;
    return hear(c);
}

static void accept_all(int listener)
{
    int fd, yes = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct connection *c = calloc(1, sizeof *c);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        if (!c)
            abort();
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

static int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&address, size) || listen(fd, 4096) || getsockname(fd, (struct sockaddr *)&address, &size)) {
        perror("epoll_echo");
        exit(1);
    }
    printf("ws://127.0.0.1:%d/\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int count, char **words)
{
    struct epoll_event events[EVENTS_MAX], accepts = {.events = EPOLLIN, .data.ptr = NULL};
    poller = epoll_create1(0);
    int listener = listen_on(count > 1 ? atoi(words[1]) : 0);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &accepts);
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS_MAX, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c)
                accept_all(listener);
            else if ((c->unsent ? flush(c, c->unsent) : readable(c)) < 0)
                finish(c);
        }
    }
}
