/* Bytes to and from the peer, over TCP or TLS. */
#ifndef TRANSPORT_H
#define TRANSPORT_H

#include "link.h"

#include <sys/types.h>

enum { AGAIN = -1, GONE = -2 };

/* Before the first connection. Ends the program, and says why, where TLS was asked for and is not built in. */
void transport_prepare(int is_tls);

/* One more step of the TLS handshake: 1 when it is done, AGAIN or GONE. `wants_write` is set when it waits to write. */
int transport_shake(struct link *link, int *wants_write);

/* Bytes, 0 never, AGAIN or GONE. */
ssize_t transport_read(struct link *link, uint8_t *to, size_t size);
ssize_t transport_write(struct link *link, const uint8_t *from, size_t size);

/* Whether bytes were read from the socket that nobody has asked for yet: epoll does not know of them. */
int transport_holds(struct link *link);

void transport_free(struct link *link);

#endif
