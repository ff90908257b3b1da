// SPDX-License-Identifier: Apache-2.0
// Sizes from 1 to 20000 and beyond a record, cut on either side in every way (sampled, the same sample each
// time), and many small pieces. Whatever the library calls a record must not show.
#include "t.h"

enum { MOST = 20000 };
static char out[4 * 1024 * 1024], in[sizeof out];

// Without Nagle's wait: each case is thousands of exchanges.
static void quick_pair(int p[2]) {
    int on = 1;
    t_pair(p);
    SYS(setsockopt(p[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    SYS(setsockopt(p[1], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
}

static void send_cut(int fd, uint64_t off, size_t n, size_t first) {
    t_fill(out, off, n);
    for (size_t done = 0; done < n;) {
        size_t want = done == 0 && first < n ? first : n - done;
        ssize_t got = send(fd, out + done, want, 0);
        CHECK(got > 0);
        done += (size_t)got;
    }
}

static void recv_cut(int fd, uint64_t off, size_t n, size_t step) {
    for (size_t done = 0; done < n;) {
        size_t want = step < n - done ? step : n - done;
        ssize_t got = recv(fd, in, want, 0);
        CHECK(got > 0);
        SAME(in, off + done, got);
        done += (size_t)got;
    }
}

static void every_size(void) {
    int p[2];
    uint64_t off = 0;
    quick_pair(p);
    for (size_t n = 1; n <= MOST; n += n < 300 || (n > 16300 && n < 16500) ? 1 : 1 + t_mix(n) % 60) {
        size_t a = 1 + t_mix(off) % n, b = 1 + t_mix(off + 1) % n;
        send_cut(p[n & 1], off, n, a);
        recv_cut(p[!(n & 1)], off, n, b < n / 50 ? n / 50 : b);
        off += n;
    }
}

static void every_split_of(size_t n, size_t stride) {
    int p[2];
    uint64_t off = 0;
    quick_pair(p);
    for (size_t cut = 1; cut < n; cut += stride) {
        send_cut(p[0], off, n, n);
        recv_cut(p[1], off, cut, cut);
        recv_cut(p[1], off + cut, n - cut, n - cut);
        off += n;
    }
}

static void every_split_of_small_pieces(void) {
    every_split_of(2, 1);
    every_split_of(17, 1);
    every_split_of(500, 1);
}

static void splits_of_a_full_record(void) {
    every_split_of(16384, 131);
}

static void splits_beyond_a_record(void) {
    every_split_of(16385, 257);
    every_split_of(40000, 997);
}

static void one_byte_at_a_time_from_a_large_piece(void) {
    int p[2];
    t_pair(p);
    send_cut(p[0], 0, 20000, 20000);
    recv_cut(p[1], 0, 20000, 1);
}

static void one_byte_at_a_time_into_a_large_read(void) {
    int p[2];
    t_pair(p);
    for (size_t i = 0; i < 5000; i++)
        send_cut(p[0], i, 1, 1);
    recv_cut(p[1], 0, 5000, 5000);
}

struct bulk {
    int fd;
    size_t n, piece;
};

static void *send_pieces(void *arg) {
    struct bulk *b = arg;
    char piece[4096];
    for (size_t done = 0; done < b->n; done += b->piece) {
        t_fill(piece, done, b->piece);
        for (size_t sent = 0; sent < b->piece;)
            sent += (size_t)SYS(send(b->fd, piece + sent, b->piece - sent, 0));
    }
    return NULL;
}

static void many_small_pieces(void) {
    static const size_t pieces[] = {1, 2, 3, 5, 16, 100, 1400};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        int p[2];
        t_pair(p);
        struct bulk b = {p[0], 20000 * pieces[i], pieces[i]};
        pthread_t t = t_thread(send_pieces, &b);
        recv_cut(p[1], 0, b.n, sizeof in);
        t_join(t);
        t_close_pair(p);
    }
}

static void *send_whole(void *arg) {
    struct bulk *b = arg;
    t_fill(out, 0, b->n);
    EQ(send(b->fd, out, b->n, 0), b->n); // a blocking send takes it all
    return NULL;
}

static void one_send_of_four_megabytes(void) {
    int p[2];
    t_pair(p);
    struct bulk b = {p[0], sizeof out, 0};
    pthread_t t = t_thread(send_whole, &b);
    recv_cut(p[1], 0, b.n, 33333);
    t_join(t);
}

static void small_buffers(void) {
    int l = t_listen(AF_INET), size = 4096;
    struct t_addr a = t_local(l);
    SYS(setsockopt(l, SOL_SOCKET, SO_RCVBUF, &size, sizeof size));
    int c = SYS(socket(AF_INET, SOCK_STREAM, 0));
    SYS(setsockopt(c, SOL_SOCKET, SO_RCVBUF, &size, sizeof size));
    SYS(setsockopt(c, SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
    SYS(connect(c, &a.sa, a.len));
    int s = SYS(accept(l, NULL, NULL));
    // A full record does not fit these buffers, and still each byte arrives, both ways.
    for (int turn = 0; turn < 2; turn++) {
        struct bulk b = {turn ? s : c, 400000, 0};
        pthread_t t = t_thread(send_whole, &b);
        recv_cut(turn ? c : s, 0, b.n, 7000);
        t_join(t);
    }
}

T_MAIN(T_CASE(every_size), T_CASE(every_split_of_small_pieces), T_CASE(splits_of_a_full_record),
       T_CASE(splits_beyond_a_record), T_CASE(one_byte_at_a_time_from_a_large_piece),
       T_CASE(one_byte_at_a_time_into_a_large_read), T_CASE(many_small_pieces),
       T_CASE(one_send_of_four_megabytes), T_CASE(small_buffers))
