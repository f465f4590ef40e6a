/* What the load side was asked to do: its command line. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdint.h>
#include <stddef.h>
#include <sys/types.h>

enum { MESSAGES_MAX = 64, HEADERS_MAX = 16, EXPECT_BYTES_MAX = 32 };

struct payload {
    int is_text;
    size_t size;
    uint8_t *bytes;
};

struct options {
    const char *host;
    int port;
    const char *path;
    const char *headers[HEADERS_MAX];
    int header_count;
    int links;      /* that ask and read */
    int idle;       /* that are open, and say nothing */
    int deaf;       /* that ask twice as often as the others and never read */
    int in_flight;  /* questions of a link that wait for their answer at a time */
    int greetings;  /* messages that come before a link is ready */
    int concurrent; /* connections that are being made at a time */
    int sources;    /* addresses 127.0.0.1, .2, … that connections come from */
    int numbers;    /* storm: how many different link numbers there are */
    int is_storm;
    int is_tls;
    double pace_s;  /* between two questions of a link, if the first is answered by then; 0: it asks when it is answered */
    double seconds, warm_up_s;
    struct payload first;                   /* said once, when the link opens; its size is 0 for nothing */
    struct payload questions[MESSAGES_MAX]; /* sent together; the last one is answered */
    int question_count;
    uint8_t expected[EXPECT_BYTES_MAX]; /* how every answer begins */
    size_t expected_size;
    pid_t server; /* whose CPU time is read when the window begins and ends */
};

extern struct options asked;

void read_options(int count, char **words);

/* Copies `from`, and writes the link's number over every `#####` in it. */
void fill_number(uint8_t *to, const uint8_t *from, size_t size, int number);

#endif
