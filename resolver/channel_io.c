/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "resolver/channel_dial.h"
#include "shim/base/sys.h"

static int broken(ssize_t rc, struct mesh_why *why) {
    return mesh_why(why, MESH_E_IO, "%s", strerrordesc_np((int)-rc));
}

/* ---- out --------------------------------------------------------------------------------------------------
 */
/* The next bytes for the socket. */
static int next_bytes(struct channel_io *io, const uint8_t **ret_p, size_t *ret_n) {
    if (!io->tls) {
        *ret_n = io->grpc ? mesh_grpc_out(io->grpc, ret_p) : 0;
        return 0;
    }
    *ret_n = mesh_tls_channel_out(io->tls, ret_p);
    if (*ret_n || !io->grpc)
        return 0;
    const uint8_t *text;
    size_t n = mesh_grpc_out(io->grpc, &text);
    if (!n)
        return 0;
    n = n < CHANNEL_SEAL ? n : CHANNEL_SEAL;
    int err = mesh_tls_channel_write(io->tls, text, n);
    if (err)
        return err;
    mesh_grpc_sent(io->grpc, n);
    *ret_n = mesh_tls_channel_out(io->tls, ret_p);
    return 0;
}

static int write_some(struct channel_io *io, struct mesh_why *why) {
    const uint8_t *p;
    size_t n;
    io->blocked = false;
    for (;;) {
        int err = next_bytes(io, &p, &n);
        if (err)
            return mesh_why(why, err, "%s", mesh_err_text(err));
        if (!n)
            return 0;
        ssize_t went = mesh_sys_sendto(io->fd, p, n, MSG_NOSIGNAL, NULL, 0);
        if (went == -EAGAIN) {
            io->blocked = true;
            return 0;
        }
        if (went < 0 && went != -EINTR)
            return broken(went, why);
        if (went < 0)
            continue;
        if (io->tls)
            mesh_tls_channel_sent(io->tls, (size_t)went);
        else
            mesh_grpc_sent(io->grpc, (size_t)went);
    }
}

void mesh_channel_io_flush(struct channel_io *io) {
    if (io->fd >= 0)
        (void)!write_some(io, NULL);
}

/* ---- in ---------------------------------------------------------------------------------------------------
 */
static int open_records(struct channel_io *io, uint64_t now, struct mesh_why *why) {
    while (io->grpc) {
        int n = mesh_tls_channel_read(io->tls, io->text, sizeof io->text, why);
        if (n == MESH_E_AGAIN)
            return 0;
        if (n < 0)
            return n;
        mesh_grpc_feed(io->grpc, io->text, (size_t)n, now);
    }
    return 0;
}

static int shake(struct channel_io *io, struct mesh_why *why) {
    int err = mesh_tls_channel_shake(io->tls, why);
    io->shaken = err == 0;
    return err == MESH_E_AGAIN ? 0 : err;
}

static int take(struct channel_io *io, size_t n, uint64_t now, struct mesh_why *why) {
    if (!io->tls) {
        mesh_grpc_feed(io->grpc, io->bytes, n, now);
        return 0;
    }
    int err = mesh_tls_channel_feed(io->tls, io->bytes, n);
    if (err)
        return mesh_why(why, err, "%s", mesh_err_text(err));
    return io->shaken ? open_records(io, now, why) : shake(io, why);
}

static int read_some(struct channel_io *io, uint64_t now, struct mesh_why *why) {
    bool wanted_shake = io->tls && !io->shaken;
    for (size_t total = 0; total < CHANNEL_TURN && (!wanted_shake || !io->shaken);) {
        ssize_t n = mesh_sys_recvfrom(io->fd, io->bytes, sizeof io->bytes, 0, NULL, NULL);
        if (n == -EAGAIN)
            return 0;
        if (n == -EINTR)
            continue;
        if (n == 0)
            return mesh_why(why, MESH_E_CLOSED, "the server closed the connection");
        if (n < 0)
            return broken(n, why);
        int err = take(io, (size_t)n, now, why);
        if (err)
            return err;
        total += (size_t)n;
    }
    return 0;
}

/* A peer that does not take our bytes any more has perhaps said why: an alert, a status. */
static int last_words(struct channel_io *io, uint64_t now, int err, struct mesh_why *why) {
    struct mesh_why said = {""};
    int other = io->tls || io->grpc ? read_some(io, now, &said) : 0;
    if (other != MESH_E_ALERT && other != MESH_E_PEER && other != MESH_E_PROTOCOL)
        return err;
    *why = said;
    return other;
}

int mesh_channel_io_move(struct channel_io *io, uint64_t now, struct mesh_why *why) {
    int err = io->tls && !io->shaken ? shake(io, why) : 0; /* our first flight */
    if (!err && io->tls && io->grpc)
        err = open_records(io, now, why); /* what came with the end of the handshake */
    if (!err)
        err = write_some(io, why);
    if (!err)
        err = read_some(io, now, why);
    if (!err)
        err = write_some(io, why);
    if (err == MESH_E_IO)
        return last_words(io, now, err, why);
    if (err)
        mesh_channel_io_flush(io); /* an alert, say */
    return err;
}
