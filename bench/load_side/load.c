/*
 * The load side: so many links on one epoll set, so cheap that the server is what is measured. `load --help` tells the options.
 *
 * The window begins after the warm-up. When it begins and when it ends the CPU clock of the server's process is read here, in the
 * same instant as the count of messages, so that neither has a share of what lies outside.
 */
#define _GNU_SOURCE
#include "latency.h"
#include "link.h"
#include "options.h"
#include "transport.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_MAX = 512, WRONG_SHOWN_BYTES = 160 };
#define BUSY_SHARE 0.95
#define DEAF_PACE 2 /* they ask so many times as often as the others, so that the bounds of the server are met within seconds */

int poller;

static struct link *links;
static int all, begun, opened_links, ended_links;
static int is_asking, is_counted;
static uint64_t messages, wrong;
static double deaf_due; /* questions that deaf links owe, to keep their pace */
static int next_deaf, next_number;
static uint64_t next_beat, beat_ns; /* paced: when the next link asks, and how long after it the one behind it */
static int next_beating;
static struct latencies latencies;

static struct {
    uint64_t at_ns;
    double own_s, server_s;
} window_begin, window_end;

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void fail(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    exit(1);
}

static double clock_s(clockid_t clock)
{
    struct timespec time;
    if (clock_gettime(clock, &time))
        fail("the CPU clock of the server cannot be read: %s", strerror(errno));
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* All threads of the server, user and system. */
static double server_s(void)
{
    clockid_t clock;
    if (!asked.server)
        return 0;
    if (clock_getcpuclockid(asked.server, &clock))
        fail("there is no server process %d", (int)asked.server);
    return clock_s(clock);
}

static void ask(struct link *link, int count)
{
    link_say(link, link->questions, (size_t)count * link->question_size);
}

static void prepare_questions(struct link *link)
{
    size_t size = 0;
    for (int i = 0; i < asked.question_count; i++)
        size += frame_write(NULL, 0, NULL, asked.questions[i].size);
    link->question_size = size;
    link->questions = malloc(size * (size_t)asked.in_flight + 16);
    uint8_t *to = link->questions;
    for (int copy = 0; copy < asked.in_flight; copy++)
        for (int i = 0; i < asked.question_count; i++) {
            struct payload *question = &asked.questions[i];
            uint8_t *filled = malloc(question->size + 1);
            fill_number(filled, question->bytes, question->size, link->number);
            to += frame_write(to, question->is_text ? 0x1 : 0x2, filled, question->size);
            free(filled);
        }
    link->asked_at = calloc((size_t)asked.in_flight, sizeof *link->asked_at);
}

void hear_open(struct link *link)
{
    opened_links++;
    if (link->role == PASSING) {
        if (is_counted)
            latency_add(&latencies, now_ns() - link->begun_at);
        link_close(link);
    } else if (asked.question_count && link->role != IDLE) {
        prepare_questions(link);
    }
}

/* Links take turns, each in its time: one whose answer is late misses a turn, and all others keep theirs. */
static void keep_pace(void)
{
    for (uint64_t now = now_ns(); is_asking && next_beat <= now; next_beat += beat_ns) {
        struct link *link = &links[next_beating];
        next_beating = (next_beating + 1) % asked.links;
        if (link->asked_at[0])
            continue;
        link->asked_at[0] = now;
        ask(link, 1);
    }
}

void hear_answers(struct link *link, int answers)
{
    if (link->role != BUSY || !is_asking)
        return;
    if (answers > asked.in_flight)
        fail("link %d heard %d answers to %d questions", link->number, answers, asked.in_flight);
    uint64_t now = now_ns();
    for (int i = 0; i < answers; i++) {
        uint64_t *at = &link->asked_at[link->oldest];
        if (is_counted)
            latency_add(&latencies, now - *at);
        *at = beat_ns ? 0 : now;
        link->oldest = (link->oldest + 1) % asked.in_flight;
    }
    messages += (uint64_t)(answers * asked.question_count);
    if (!beat_ns)
        ask(link, answers);
    deaf_due += asked.deaf ? DEAF_PACE * (double)(answers * asked.deaf) / asked.links : 0;
}

void hear_wrong(struct link *link, const uint8_t *data, size_t size)
{
    if (!wrong++)
        fprintf(stderr, "load: link %d heard what was not expected: %.*s\n", link->number,
                (int)(size < WRONG_SHOWN_BYTES ? size : WRONG_SHOWN_BYTES), (const char *)data);
}

static void begin_passing(struct link *link)
{
    link_begin(link, next_number, PASSING);
    next_number = (next_number + 1) % asked.numbers;
}

void hear_end(struct link *link)
{
    if (link->role == PASSING) {
        messages++;
        if (is_asking)
            begin_passing(link);
        return;
    }
    ended_links++;
    if (link->role != DEAF)
        fail("link %d was lost", link->number);
}

static void begin_next(void)
{
    struct link *link = &links[begun];
    enum role role = begun < asked.links ? BUSY : begun < asked.links + asked.deaf ? DEAF : IDLE;
    link_begin(link, begun++, role);
}

static void let_deaf_ask(void)
{
    for (; deaf_due >= 1; deaf_due--) {
        struct link *link = &links[asked.links + next_deaf];
        next_deaf = (next_deaf + 1) % asked.deaf;
        if (link->stage == OPEN && !link->unsent_size)
            ask(link, 1);
    }
}

/* One turn; 1 when a line, or the end, came on stdin. */
static int turn(int wait_ms)
{
    static struct epoll_event events[EVENTS_MAX];
    if (beat_ns && is_asking)
        wait_ms = 1; /* as finely as epoll counts */
    int ready = epoll_wait(poller, events, EVENTS_MAX, wait_ms), line = 0;
    for (int i = 0; i < ready; i++) {
        struct link *link = events[i].data.ptr;
        if (!link)
            line = 1;
        else if (link->stage != ENDED)
            link_happened(link, events[i].events);
    }
    if (beat_ns)
        keep_pace();
    if (deaf_due >= 1)
        let_deaf_ask();
    return line;
}

static void open_all(void)
{
    while (opened_links < all) {
        while (begun < all && begun - opened_links < asked.concurrent)
            begin_next();
        turn(1000);
    }
}

static void wait_for_line(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    char line[64];
    puts("READY");
    fflush(stdout);
    epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event);
    while (!turn(1000))
        ;
    epoll_ctl(poller, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
    if (read(STDIN_FILENO, line, sizeof line) <= 0 && asked.seconds > 0)
        exit(0); /* whoever asked is gone */
}

static void begin_asking(void)
{
    is_asking = 1;
    beat_ns = (uint64_t)(asked.pace_s * 1e9 / (asked.links ? asked.links : 1));
    if (beat_ns) {
        next_beat = now_ns();
        return;
    }
    for (int i = 0; asked.is_storm && i < asked.concurrent; i++)
        begin_passing(&links[i]);
    for (int i = 0; !asked.is_storm && i < asked.links; i++) {
        for (int j = 0; j < asked.in_flight; j++)
            links[i].asked_at[j] = now_ns();
        ask(&links[i], asked.in_flight);
    }
}

static void run_until(uint64_t ends_at)
{
    for (uint64_t now = now_ns(); now < ends_at; now = now_ns())
        turn((int)((ends_at - now) / 1000000) + 1);
}

static void drive(void)
{
    begin_asking();
    run_until(now_ns() + (uint64_t)(asked.warm_up_s * 1e9));
    messages = 0;
    is_counted = 1;
    window_begin.at_ns = now_ns();
    window_begin.own_s = clock_s(CLOCK_PROCESS_CPUTIME_ID);
    window_begin.server_s = server_s();
    run_until(window_begin.at_ns + (uint64_t)(asked.seconds * 1e9));
    window_end.at_ns = now_ns();
    window_end.own_s = clock_s(CLOCK_PROCESS_CPUTIME_ID);
    window_end.server_s = server_s();
    is_asking = is_counted = 0;
}

static void tell(void)
{
    double seconds = (double)(window_end.at_ns - window_begin.at_ns) / 1e9;
    double own = (window_end.own_s - window_begin.own_s) / seconds;
    double spent_s = window_end.server_s - window_begin.server_s, server = spent_s / seconds;
    printf("{\"messages\": %llu, \"seconds\": %.6f, \"per_second\": %.1f, \"cpu_us\": %.4f, ", (unsigned long long)messages, seconds,
           (double)messages / seconds, messages ? 1e6 * spent_s / (double)messages : 0);
    printf("\"p50_ms\": %.5f, \"p99_ms\": %.5f, \"worst_ms\": %.5f, ", latency_at(&latencies, 0.5) / 1e6, latency_at(&latencies, 0.99) / 1e6,
           latency_at(&latencies, 1 - 1e-12) / 1e6);
    printf("\"server_share\": %.4f, \"load_share\": %.4f, \"load_is_bottleneck\": %s, ", server, own,
           own >= BUSY_SHARE && server < BUSY_SHARE ? "true" : "false");
    printf("\"wrong\": %llu, \"ended\": %d}\n", (unsigned long long)wrong, ended_links);
    fflush(stdout);
}

int main(int count, char **words)
{
    struct rlimit files;
    read_options(count, words);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    poller = epoll_create1(0);
    transport_prepare(asked.is_tls);
    all = asked.is_storm ? 0 : asked.links + asked.deaf + asked.idle;
    links = calloc((size_t)(asked.is_storm ? asked.concurrent : all) + 1, sizeof *links);
    open_all();
    wait_for_line();
    if (asked.seconds > 0) {
        drive();
        tell();
    }
    fflush(stdout);
    _exit(wrong ? 1 : 0); /* thousands of links need not be closed one by one */
}
