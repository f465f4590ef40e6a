#define _GNU_SOURCE
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options asked = {
    .host = "127.0.0.1", .path = "/", .links = 100, .in_flight = 1, .concurrent = 64, .sources = 1, .numbers = 100000, .seconds = 2, .warm_up_s = 0.5};

static const char usage[] =
    "load --port N [--host 127.0.0.1] [--path /] [--header 'Name: value']... [--tls] [--sources 1] [--concurrent 64]\n"
    "     [--links 100] [--idle 0] [--deaf 0] [--in-flight 1 | --pace SECONDS] [--seconds 2] [--warm-up 0.5] [--server PID]\n"
    "     [--first HEX] [--greetings 0] [--binary HEX | --text HEX]... [--expect HEX] [--storm [--numbers 100000]]\n"
    "\n"
    "Opens every link, prints READY, waits for a line on stdin, asks for so many seconds, prints one JSON object.\n"
    "Five # in a path, header or message become the number of the link. With --seconds 0 it only holds the links open\n"
    "until that line comes. With --storm it connects, hears the greetings, closes, and does so again.\n";

static const struct option known[] = {
    {"host", 1, 0, 'h'},      {"port", 1, 0, 'p'},    {"path", 1, 0, 'P'},    {"header", 1, 0, 'H'},   {"links", 1, 0, 'l'},
    {"idle", 1, 0, 'i'},      {"deaf", 1, 0, 'd'},    {"in-flight", 1, 0, 'f'}, {"greetings", 1, 0, 'g'}, {"concurrent", 1, 0, 'c'},
    {"sources", 1, 0, 's'},   {"numbers", 1, 0, 'n'}, {"storm", 0, 0, 'S'},   {"tls", 0, 0, 'T'},      {"seconds", 1, 0, 't'},
    {"warm-up", 1, 0, 'w'},   {"pace", 1, 0, 'r'},    {"first", 1, 0, 'F'},   {"binary", 1, 0, 'b'},  {"text", 1, 0, 'x'},     {"expect", 1, 0, 'e'},
    {"server", 1, 0, 'V'},    {"help", 0, 0, '?'},    {0, 0, 0, 0}};

static void refuse(const char *why, const char *what)
{
    fprintf(stderr, "load: %s%s; load --help tells more\n", why, what);
    exit(2);
}

static struct payload read_hex(const char *hex, int is_text)
{
    size_t size = strlen(hex) / 2;
    struct payload payload = {is_text, size, malloc(size + 1)};
    for (size_t i = 0; i < size; i++) {
        unsigned byte;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
            refuse("this is not hex: ", hex);
        payload.bytes[i] = (uint8_t)byte;
    }
    return payload;
}

static void add_question(const char *hex, int is_text)
{
    if (asked.question_count == MESSAGES_MAX)
        refuse("too many questions", "");
    asked.questions[asked.question_count++] = read_hex(hex, is_text);
}

static void read_expected(const char *hex)
{
    struct payload expected = read_hex(hex, 0);
    if (expected.size > EXPECT_BYTES_MAX)
        refuse("too long: ", hex);
    memcpy(asked.expected, expected.bytes, expected.size);
    asked.expected_size = expected.size;
    free(expected.bytes);
}

static void read_option(int letter)
{
    switch (letter) {
    case 'h': asked.host = optarg; break;
    case 'p': asked.port = atoi(optarg); break;
    case 'P': asked.path = optarg; break;
    case 'H':
        if (asked.header_count == HEADERS_MAX)
            refuse("too many headers", "");
        asked.headers[asked.header_count++] = optarg;
        break;
    case 'l': asked.links = atoi(optarg); break;
    case 'i': asked.idle = atoi(optarg); break;
    case 'd': asked.deaf = atoi(optarg); break;
    case 'f': asked.in_flight = atoi(optarg); break;
    case 'g': asked.greetings = atoi(optarg); break;
    case 'c': asked.concurrent = atoi(optarg); break;
    case 's': asked.sources = atoi(optarg); break;
    case 'n': asked.numbers = atoi(optarg); break;
    case 'S': asked.is_storm = 1; break;
    case 'T': asked.is_tls = 1; break;
    case 't': asked.seconds = atof(optarg); break;
    case 'r': asked.pace_s = atof(optarg); break;
    case 'w': asked.warm_up_s = atof(optarg); break;
    case 'F': asked.first = read_hex(optarg, 0); break;
    case 'b': add_question(optarg, 0); break;
    case 'x': add_question(optarg, 1); break;
    case 'e': read_expected(optarg); break;
    case 'V': asked.server = atoi(optarg); break;
    default: fputs(usage, stderr); exit(2);
    }
}

void read_options(int count, char **words)
{
    int letter;
    while ((letter = getopt_long(count, words, "", known, NULL)) != -1)
        read_option(letter);
    if (optind < count || !asked.port)
        refuse(optind < count ? "what is this: " : "--port is missing", optind < count ? words[optind] : "");
    if (asked.seconds > 0 && !asked.is_storm && (!asked.question_count || asked.links < 1))
        refuse("nothing to ask: say --binary or --text, and at least one link", "");
    if (asked.in_flight < 1 || asked.concurrent < 1 || asked.sources < 1 || asked.sources > 200 || asked.numbers < 1)
        refuse("--in-flight, --concurrent, --sources (up to 200) and --numbers are at least 1", "");
    if (asked.pace_s > 0 && (asked.in_flight != 1 || asked.is_storm || asked.deaf))
        refuse("--pace is for links with one question in flight, without --storm or --deaf", "");
    if (strncmp(asked.host, "127.", 4) != 0)
        refuse("load goes to this machine only, 127.0.0.0/8, not to ", asked.host);
}

void fill_number(uint8_t *to, const uint8_t *from, size_t size, int number)
{
    char digits[16];
    snprintf(digits, sizeof digits, "%05d", number % 100000);
    memcpy(to, from, size);
    for (size_t i = 0; i + 5 <= size; i++)
        if (!memcmp(to + i, "#####", 5))
            memcpy(to + i, digits, 5);
}
