/* One WebSocket connection of the load side: how it opens, what it says, and what it hears. */
#ifndef LINK_H
#define LINK_H

#include <stddef.h>
#include <stdint.h>

enum stage { CONNECTING, SHAKING, UPGRADING, GREETED, OPEN, CLOSING, ENDED };
enum role { BUSY, IDLE, DEAF, PASSING };

struct link {
    int fd;
    int number;
    enum stage stage;
    enum role role;
    void *tls;
    int greetings_left;
    uint64_t begun_at;
    uint8_t *opening; /* the response to our upgrade, while it comes */
    size_t opening_size;
    uint8_t *unsent; /* what the socket would not take */
    size_t unsent_size;
    /* the frame that is being heard */
    uint8_t head[14];
    uint8_t head_got;
    uint8_t is_control;
    uint8_t is_final;
    uint8_t is_closed; /* a close frame came */
    uint64_t left;  /* bytes of its payload that have not come yet */
    uint64_t heard; /* bytes of the message that came, fragments before it included */
    uint8_t control[125];
    /* what it asks */
    uint8_t *questions; /* as many of them, masked, as may be in flight */
    size_t question_size;
    uint64_t *asked_at; /* a ring, of as many times as there are questions in flight */
    int oldest;
};

extern int poller;
extern uint8_t scratch[1 << 16];

uint64_t now_ns(void);
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

void link_begin(struct link *link, int number, enum role role);
void link_happened(struct link *link, uint32_t events);
void link_say(struct link *link, const uint8_t *data, size_t size);
void link_close(struct link *link);
void link_end(struct link *link);

/* One masked frame with this payload, written to `to`; its size. With `to` NULL only the size. */
size_t frame_write(uint8_t *to, int opcode, const uint8_t *payload, size_t size);

/* What the link tells: it is open, so many answers came in one read, one was not as expected, it is gone. */
void hear_open(struct link *link);
void hear_answers(struct link *link, int answers);
void hear_wrong(struct link *link, const uint8_t *data, size_t size);
void hear_end(struct link *link);

#endif
