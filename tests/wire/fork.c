// SPDX-License-Identifier: Apache-2.0
// Connections across fork: handed on, shared, kept by either side; counters of both directions stay in step.
#include "t.h"

enum { PIECE = 3000 };

static void exchange(int c, int s, uint64_t off) {
    PUT(c, off, PIECE);
    GET(s, off, PIECE);
    PUT(s, off, PIECE);
    GET(c, off, PIECE);
}

static void echo(int fd) {
    char buf[8192];
    ssize_t n;
    while ((n = SYS(recv(fd, buf, sizeof buf, 0))) > 0)
        for (ssize_t done = 0; done < n;)
            done += SYS(send(fd, buf + done, (size_t)(n - done), 0));
}

// accept, fork, the child serves, the parent closes
static void child_serves_each_connection(void) {
    int l = t_listen(AF_INET);
    pid_t server = SYS(fork());
    if (server == 0) {
        signal(SIGCHLD, SIG_IGN);
        for (int i = 0; i < 8; i++) {
            int s = SYS(accept(l, NULL, NULL));
            pid_t pid = SYS(fork());
            if (pid == 0) {
                SYS(close(l));
                echo(s);
                _exit(0);
            }
            SYS(close(s));
        }
        _exit(0);
    }
    int c[8];
    for (int i = 0; i < 8; i++)
        c[i] = t_dial(t_local(l));
    for (int i = 0; i < 8; i++) {
        PUT(c[i], i, PIECE);
        SYS(shutdown(c[i], SHUT_WR));
    }
    for (int i = 0; i < 8; i++) {
        GET(c[i], i, PIECE);
        END(c[i]);
    }
    CHILD_END(server);
}

static void prefork(void) {
    int l = t_listen(AF_INET);
    pid_t workers[3];
    for (int i = 0; i < 3; i++)
        if ((workers[i] = SYS(fork())) == 0)
            for (;;) {
                int s = SYS(accept(l, NULL, NULL));
                echo(s);
                SYS(close(s));
            }
    for (int i = 0; i < 30; i++) {
        int c = t_dial(t_local(l));
        PUT(c, i, PIECE);
        GET(c, i, PIECE);
        SYS(shutdown(c, SHUT_WR));
        END(c);
        SYS(close(c));
    }
    for (int i = 0; i < 3; i++)
        SYS(kill(workers[i], SIGKILL));
}

static void child_goes_on_with_a_used_connection(void) {
    for (int end = 0; end < 2; end++) {
        int p[2], status;
        t_pair(p);
        exchange(p[0], p[1], 0);
        pid_t pid = SYS(fork());
        if (pid == 0) {
            SYS(close(p[!end]));
            GET(p[end], PIECE, PIECE);
            PUT(p[end], PIECE, PIECE);
            _exit(0);
        }
        SYS(close(p[end]));
        PUT(p[!end], PIECE, PIECE);
        GET(p[!end], PIECE, PIECE);
        END(p[!end]);
        EQ(waitpid(pid, &status, 0), pid);
        EQ(status, 0);
        SYS(close(p[!end]));
    }
}

static void parent_goes_on_and_child_closes(void) {
    int p[2];
    t_pair(p);
    for (int i = 0; i < 5; i++) {
        pid_t pid = SYS(fork());
        if (pid == 0) {
            t_close_pair(p);
            exit(0);
        }
        CHILD_END(pid);
        CHECK(!t_wait(p[0], POLLIN, 5)); // the child's close and exit ended nothing
        exchange(p[0], p[1], (uint64_t)i * PIECE);
    }
    SYS(close(p[0]));
    END(p[1]);
}

static void child_killed_while_parent_goes_on(void) {
    int p[2], status;
    t_pair(p);
    for (int i = 0; i < 5; i++) {
        pid_t pid = SYS(fork());
        if (pid == 0)
            for (;;)
                pause();
        SYS(kill(pid, SIGKILL));
        EQ(waitpid(pid, &status, 0), pid);
        exchange(p[0], p[1], (uint64_t)i * PIECE);
    }
}

// Turns are taken over a pipe: parent and child write and read the same stream, byte-exact.
static void parent_and_child_alternate(void) {
    enum { TURNS = 40 };
    int p[2], there[2], back[2];
    char c = 'x';
    t_pair(p);
    SYS(pipe(there));
    SYS(pipe(back));
    pid_t pid = SYS(fork());
    for (uint64_t turn = 0; turn < TURNS; turn++) {
        bool mine = (pid == 0) == (turn & 1);
        if (!mine) {
            EQ(read(pid ? back[0] : there[0], &c, 1), 1);
            continue;
        }
        uint64_t off = turn * PIECE;
        PUT(p[0], off, PIECE);
        GET(p[1], off, PIECE / 2);
        GET(p[1], off + PIECE / 2, PIECE - PIECE / 2);
        exchange(p[1], p[0], off);
        EQ(write(pid ? there[1] : back[1], &c, 1), 1);
    }
    if (pid == 0)
        _exit(0);
    CHILD_END(pid);
    exchange(p[0], p[1], 0);
}

// A piece half read before the fork is read to its end by the child, or by the parent.
static void rest_of_a_piece(bool by_child) {
    int p[2];
    t_pair(p);
    PUT(p[0], 0, 10000);
    GET(p[1], 0, 100);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        if (by_child)
            GET(p[1], 100, 9900);
        _exit(0);
    }
    CHILD_END(pid);
    if (!by_child)
        GET(p[1], 100, 9900);
    exchange(p[0], p[1], 10000);
}

static void rest_of_a_piece_is_read_by_the_child(void) {
    rest_of_a_piece(true);
}

static void rest_of_a_piece_is_read_by_the_parent(void) {
    rest_of_a_piece(false);
}

static void one_reads_the_other_writes(void) {
    enum { ALL = 4 * 1024 * 1024 };
    int p[2];
    t_pair(p);
    // On p[0] the child writes and the parent reads; a second child is the peer and echoes.
    pid_t peer = SYS(fork());
    if (peer == 0) {
        SYS(close(p[0]));
        echo(p[1]);
        _exit(0);
    }
    SYS(close(p[1]));
    pid_t writer = SYS(fork());
    if (writer == 0) {
        PUT(p[0], 0, ALL);
        SYS(shutdown(p[0], SHUT_WR));
        _exit(0);
    }
    GET(p[0], 0, ALL);
    END(p[0]);
    CHILD_END(writer);
    CHILD_END(peer);
}

static void both_write_whole_pieces(void) {
    enum { EACH = 200, LEN = 512 };
    int p[2];
    char buf[LEN];
    t_pair(p);
    pid_t pids[3];
    for (int k = 0; k < 3; k++)
        if ((pids[k] = SYS(fork())) == 0) {
            for (int i = 0; i < EACH; i++) {
                memset(buf, 'a' + k, LEN);
                memcpy(buf, T_MARK, 16);
                EQ(send(p[0], buf, LEN, 0), LEN);
            }
            _exit(0);
        }
    // A small blocking send is not mixed with another's.
    int seen[3] = {0};
    for (int i = 0; i < 3 * EACH; i++) {
        EQ(recv(p[1], buf, LEN, MSG_WAITALL), LEN);
        int k = buf[16] - 'a';
        CHECK(k >= 0 && k < 3);
        EQ(memcmp(buf, T_MARK, 16), 0);
        for (int j = 16; j < LEN; j++)
            EQ(buf[j], 'a' + k);
        seen[k]++;
    }
    for (int k = 0; k < 3; k++) {
        EQ(seen[k], EACH);
        CHILD_END(pids[k]);
    }
}

static void child_shares_the_end(void) {
    int p[2];
    t_pair(p);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        SYS(close(p[1]));
        t_sleep_ms(150);
        PUT(p[0], 0, PIECE);
        _exit(0); // the last holder of p[0] is gone: now it ends
    }
    SYS(close(p[0]));
    CHECK(!t_wait(p[1], POLLIN, 20));
    GET(p[1], 0, PIECE);
    END(p[1]);
    CHILD_END(pid);
}

static void accepted_but_untouched(void) {
    int p[2];
    t_pair_cold(AF_INET, p);
    PUT(p[0], 0, PIECE); // may still be held back
    pid_t pid = SYS(fork());
    if (pid == 0) {
        SYS(close(p[0]));
        GET(p[1], 0, PIECE);
        PUT(p[1], 0, PIECE);
        _exit(0);
    }
    SYS(close(p[1]));
    GET(p[0], 0, PIECE);
    END(p[0]);
    CHILD_END(pid);
}

static void connected_but_untouched(void) {
    int p[2];
    t_pair_cold(AF_INET, p);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        SYS(close(p[1]));
        PUT(p[0], 0, PIECE);
        GET(p[0], 0, PIECE);
        _exit(0);
    }
    SYS(close(p[0]));
    GET(p[1], 0, PIECE);
    PUT(p[1], 0, PIECE);
    END(p[1]);
    CHILD_END(pid);
}

static void connections_made_in_the_child(void) {
    int l = t_listen(AF_INET), p[2];
    t_pair(p);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        for (int i = 0; i < 5; i++) {
            int c = t_dial(t_local(l));
            PUT(c, 0, PIECE);
            GET(c, 0, PIECE);
            SYS(close(c));
        }
        _exit(0);
    }
    for (int i = 0; i < 5; i++) {
        int s = SYS(accept(l, NULL, NULL));
        GET(s, 0, PIECE);
        PUT(s, 0, PIECE);
        END(s);
        SYS(close(s));
    }
    CHILD_END(pid);
    exchange(p[0], p[1], 0);
}

static void generations(void) {
    int p[2];
    t_pair(p);
    for (int depth = 0; depth < 6; depth++) {
        exchange(p[0], p[1], (uint64_t)depth * PIECE);
        pid_t pid = SYS(fork());
        if (pid > 0) {
            CHILD_END(pid);
            _exit(0); // the grandchildren did the rest
        }
    }
    exchange(p[0], p[1], 0);
    SYS(close(p[0]));
    _exit(0);
}

static void generations_of_processes(void) {
    pid_t pid = SYS(fork());
    if (pid == 0)
        generations();
    CHILD_END(pid);
}

static void *stream(void *arg) {
    int *p = arg;
    for (uint64_t i = 0; i < 200; i++) {
        PUT(p[0], i * PIECE, PIECE);
        GET(p[1], i * PIECE, PIECE);
    }
    return NULL;
}

static void fork_beside_busy_threads(void) {
    enum { THREADS = 6 };
    int p[THREADS][2], q[2];
    pthread_t t[THREADS];
    if (getenv("ASAN_OPTIONS"))
        SKIP("gcc 12's AddressSanitizer does not hold its allocator's locks across fork");
    t_pair(q);
    for (int i = 0; i < THREADS; i++)
        t_pair(p[i]);
    for (int i = 0; i < THREADS; i++)
        t[i] = t_thread(stream, p[i]);
    for (int i = 0; i < 20; i++) {
        pid_t pid = SYS(fork());
        if (pid == 0) {
            // What other threads held at the fork must not stop the child from using what is its own.
            exchange(q[0], q[1], 0);
            int mine[2];
            t_pair(mine);
            exchange(mine[0], mine[1], 0);
            _exit(0);
        }
        CHILD_END(pid);
    }
    for (int i = 0; i < THREADS; i++)
        t_join(t[i]);
}

T_MAIN(T_CASE(child_serves_each_connection), T_CASE(prefork), T_CASE(child_goes_on_with_a_used_connection),
       T_CASE(parent_goes_on_and_child_closes), T_CASE(child_killed_while_parent_goes_on),
       T_CASE(parent_and_child_alternate), T_CASE(rest_of_a_piece_is_read_by_the_child),
       T_CASE(rest_of_a_piece_is_read_by_the_parent), T_CASE(one_reads_the_other_writes),
       T_CASE(both_write_whole_pieces), T_CASE(child_shares_the_end), T_CASE(accepted_but_untouched),
       T_CASE(connected_but_untouched), T_CASE(connections_made_in_the_child),
       T_CASE(generations_of_processes), T_CASE(fork_beside_busy_threads))
