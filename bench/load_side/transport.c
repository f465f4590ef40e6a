#define _GNU_SOURCE
#include "transport.h"

#include <errno.h>
#include <sys/socket.h>

static ssize_t plain(ssize_t result, int end_is_gone)
{
    if (result > 0 || (result == 0 && !end_is_gone))
        return result;
    return result < 0 && (errno == EAGAIN || errno == EINTR) ? AGAIN : GONE;
}

#ifdef WITH_TLS
#include <openssl/ssl.h>

static SSL_CTX *context;

void transport_prepare(int is_tls)
{
    if (!is_tls)
        return;
    context = SSL_CTX_new(TLS_client_method());
    if (!context)
        fail("OpenSSL does not start");
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL); /* the certificate is the bench's own, on loopback */
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1); /* one read for a record, not one for its head and one for the rest */
}

static int verdict(struct link *link, int result, int *wants_write)
{
    int error = SSL_get_error(link->tls, result);
    if (wants_write)
        *wants_write = error == SSL_ERROR_WANT_WRITE;
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? AGAIN : GONE;
}

int transport_shake(struct link *link, int *wants_write)
{
    if (!context)
        return 1;
    if (!link->tls) {
        link->tls = SSL_new(context);
        SSL_set_fd(link->tls, link->fd);
        SSL_set_connect_state(link->tls);
    }
    int result = SSL_do_handshake(link->tls);
    return result == 1 ? 1 : verdict(link, result, wants_write);
}

ssize_t transport_read(struct link *link, uint8_t *to, size_t size)
{
    if (!link->tls)
        return plain(recv(link->fd, to, size, 0), 1);
    int result = SSL_read(link->tls, to, (int)size);
    return result > 0 ? result : verdict(link, result, NULL);
}

ssize_t transport_write(struct link *link, const uint8_t *from, size_t size)
{
    if (!link->tls)
        return plain(send(link->fd, from, size, MSG_NOSIGNAL), 0);
    int result = SSL_write(link->tls, from, (int)size);
    return result > 0 ? result : verdict(link, result, NULL);
}

int transport_holds(struct link *link)
{
    return link->tls && SSL_has_pending(link->tls);
}

void transport_free(struct link *link)
{
    if (link->tls)
        SSL_free(link->tls);
    link->tls = 0;
}

#else

void transport_prepare(int is_tls)
{
    if (is_tls)
        fail("built without TLS: the headers of OpenSSL are missing (Debian: libssl-dev)");
}

int transport_shake(struct link *link, int *wants_write)
{
    (void)link, (void)wants_write;
    return 1;
}

ssize_t transport_read(struct link *link, uint8_t *to, size_t size)
{
    return plain(recv(link->fd, to, size, 0), 1);
}

ssize_t transport_write(struct link *link, const uint8_t *from, size_t size)
{
    return plain(send(link->fd, from, size, MSG_NOSIGNAL), 0);
}

int transport_holds(struct link *link)
{
    (void)link;
    return 0;
}

void transport_free(struct link *link)
{
    (void)link;
}

#endif
