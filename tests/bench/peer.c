/* SPDX-License-Identifier: Apache-2.0
 *
 * The two ends that the measurements move bytes between, in plain TCP or with TLS 1.3 of their own, so that
 * the program is the same whatever carries it: peer [-t PKI-PREFIX,CA] serve PORT peer [-t PKI-PREFIX,CA]
 * bulk HOST PORT BYTES     one stream of 64 KiB writes peer [-t PKI-PREFIX,CA] connects HOST PORT N connect,
 * eight bytes there and back, close peer [-t PKI-PREFIX,CA] hold HOST PORT N         N idle connections,
 * until killed peer dial HOST PORT N                            connect and close alone, nothing is sent peer
 * spread HOST PORT N                            the same to 10,000 addresses from HOST on peer
 * resolve HOST N                              getaddrinfo peer wait HOST one getaddrinfo, then idle until
 * killed A PREFIX has PREFIX.pem and PREFIX.key; both ends must show a certificate, as in the mesh.
 *
 * A client sends the number of bytes that follow (HOLD: none, and the server keeps the connection), the
 * server answers with the nanoseconds of processor time that they cost it. A client prints "name value"
 * lines.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 64 << 10 };
#define HOLD UINT64_MAX

struct link {
    int fd;
    SSL *ssl;
};

static SSL_CTX *tls;

static void die(const char *what) {
    fprintf(stderr, "peer: %s: %s\n", what, strerror(errno));
    ERR_print_errors_fp(stderr);
    exit(1);
}

static uint64_t clock_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t spent(void) {
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

/* The suite that the mesh prefers, so that ciphers are not what is compared. */
static void tls_load(char *files, int server) {
    char *ca = strchr(files, ','), cert[4096], key[4096];
    if (!ca)
        die("-t PREFIX,CA");
    *ca++ = 0;
    snprintf(cert, sizeof cert, "%s.pem", files);
    snprintf(key, sizeof key, "%s.key", files);
    tls = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    if (!tls || !SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(tls, "TLS_AES_128_GCM_SHA256") ||
        SSL_CTX_use_certificate_chain_file(tls, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_load_verify_locations(tls, ca, NULL) != 1)
        die("certificates");
    SSL_CTX_set_session_id_context(tls, (const unsigned char *)"peer", 4);
    SSL_CTX_set_verify(tls, SSL_VERIFY_PEER | (server ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
}

static int link_open(struct link *l, int fd, int server) {
    int one = 1;
    *l = (struct link){.fd = fd};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (!tls)
        return 0;
    l->ssl = SSL_new(tls);
    if (!l->ssl || !SSL_set_fd(l->ssl, fd))
        die("SSL");
    return (server ? SSL_accept(l->ssl) : SSL_connect(l->ssl)) == 1 ? 0 : -1;
}

static void link_close(struct link *l) {
    if (l->ssl)
        SSL_shutdown(l->ssl);
    SSL_free(l->ssl);
    close(l->fd);
}

static ssize_t get(struct link *l, void *p, size_t n) {
    return l->ssl ? SSL_read(l->ssl, p, (int)n) : recv(l->fd, p, n, 0);
}

static int get_all(struct link *l, void *p, size_t n) {
    for (size_t at = 0; at < n;) {
        ssize_t r = get(l, (char *)p + at, n - at);
        if (r <= 0)
            return -1;
        at += (size_t)r;
    }
    return 0;
}

static int put_all(struct link *l, const void *p, size_t n) {
    for (size_t at = 0; at < n;) {
        ssize_t r = l->ssl ? SSL_write(l->ssl, (const char *)p + at, (int)(n - at))
                           : send(l->fd, (const char *)p + at, n - at, MSG_NOSIGNAL);
        if (r <= 0)
            return -1;
        at += (size_t)r;
    }
    return 0;
}

/* ---- server ---- */

static int take(struct link *l, uint64_t n) {
    static char piece[PIECE];
    while (n) {
        ssize_t r = get(l, piece, n < sizeof piece ? n : sizeof piece);
        if (r <= 0)
            return -1;
        n -= (uint64_t)r;
    }
    return 0;
}

static void serve_one(int fd) {
    struct link l;
    uint64_t n;
    if (link_open(&l, fd, 1) == 0 && get_all(&l, &n, sizeof n) == 0) {
        uint64_t start = spent(), cost;
        if (n == HOLD) {
            (void)put_all(&l, &n, sizeof n);
            return;
        }
        if (take(&l, n) == 0) {
            cost = spent() - start;
            (void)put_all(&l, &cost, sizeof cost);
            (void)get(&l, &n, sizeof n); /* the client closes first */
        }
    }
    link_close(&l);
}

static void serve(int port) {
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&sa, sizeof sa) || listen(fd, 4096))
        die("listen");
    for (;;) {
        int conn = accept(fd, NULL, NULL);
        if (conn >= 0)
            serve_one(conn);
        else if (errno != EINTR && errno != ECONNABORTED)
            die("accept");
    }
}

/* ---- client ---- */

static struct addrinfo *find(const char *host, const char *port) {
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *ai;
    int err = getaddrinfo(host, port, &hints, &ai);
    if (err) {
        fprintf(stderr, "peer: %s: %s\n", host, gai_strerror(err));
        exit(1);
    }
    return ai;
}

static void dialled(struct link *l, const struct addrinfo *ai) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, ai->ai_addr, ai->ai_addrlen))
        die("connect");
    if (link_open(l, fd, 0))
        die("handshake");
}

static uint64_t ask(struct link *l, uint64_t n) {
    uint64_t answer;
    if (put_all(l, &n, sizeof n) || get_all(l, &answer, sizeof answer))
        die("exchange");
    return answer;
}

static void bulk(const struct addrinfo *ai, uint64_t n) {
    static char piece[PIECE];
    struct link l;
    dialled(&l, ai);
    ask(&l, HOLD);
    link_close(&l); /* the first connection pays for what is made once */
    dialled(&l, ai);
    if (put_all(&l, &n, sizeof n))
        die("send");
    uint64_t cpu = spent(), wall = clock_ns(CLOCK_MONOTONIC), served;
    for (uint64_t left = n; left;) {
        size_t k = left < sizeof piece ? left : sizeof piece;
        if (put_all(&l, piece, k))
            die("send");
        left -= k;
    }
    cpu = spent() - cpu;
    if (get_all(&l, &served, sizeof served))
        die("answer");
    printf("bytes %lu\nwall_ns %lu\nclient_ns %lu\nserver_ns %lu\n", (unsigned long)n,
           (unsigned long)(clock_ns(CLOCK_MONOTONIC) - wall), (unsigned long)cpu, (unsigned long)served);
    link_close(&l);
}

static void connects(const struct addrinfo *ai, uint64_t n) {
    struct link l;
    uint64_t cpu = spent(), wall = clock_ns(CLOCK_MONOTONIC);
    for (uint64_t i = 0; i < n; i++) {
        dialled(&l, ai);
        ask(&l, 0);
        link_close(&l);
    }
    printf("connects %lu\nwall_ns %lu\nclient_ns %lu\n", (unsigned long)n,
           (unsigned long)(clock_ns(CLOCK_MONOTONIC) - wall), (unsigned long)(spent() - cpu));
}

static void hold(const struct addrinfo *ai, uint64_t n) {
    struct link l;
    for (uint64_t i = 0; i < n; i++) {
        dialled(&l, ai);
        ask(&l, HOLD);
    }
    printf("held %lu\n", (unsigned long)n);
    fflush(stdout);
    for (;;)
        pause();
}

/* A reset instead of an orderly end: thousands of connections a second would use the ports up. */
/* To HOST and the addresses after it, `spread` in all: the kernel pays for each destination. */
static void dial_many(const struct addrinfo *ai, uint64_t n, uint32_t spread) {
    struct linger now = {1, 0};
    struct sockaddr_in to;
    uint64_t cost = 0;
    memcpy(&to, ai->ai_addr, sizeof to);
    for (uint64_t i = 0; i < n; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        const struct sockaddr_in *first = (const struct sockaddr_in *)(const void *)ai->ai_addr;
        to.sin_addr.s_addr = htonl(ntohl(first->sin_addr.s_addr) + (uint32_t)(i * 7919 % spread));
        uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to))
            die("connect");
        cost += clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close(fd);
    }
    printf("connects %lu\nconnect_ns %lu\n", (unsigned long)n, (unsigned long)(cost / n));
}

static void dial(const struct addrinfo *ai, uint64_t n) {
    dial_many(ai, n, 1);
}

static void spread(const struct addrinfo *ai, uint64_t n) {
    dial_many(ai, n, 10000);
}

static void resolve(const char *host, uint64_t n) {
    freeaddrinfo(find(host, NULL)); /* what is loaded once */
    uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (uint64_t i = 0; i < n; i++)
        freeaddrinfo(find(host, NULL));
    printf("lookups %lu\nlookup_ns %.1f\n", (unsigned long)n,
           (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - start) / (double)n);
}

int main(int argc, char **argv) {
    char *files = NULL;
    if (argc > 2 && strcmp(argv[1], "-t") == 0) {
        files = argv[2];
        argv += 2;
        argc -= 2;
    }
    if (argc == 3 && strcmp(argv[1], "serve") == 0) {
        if (files)
            tls_load(files, 1);
        serve(atoi(argv[2]));
    } else if (argc == 4 && strcmp(argv[1], "resolve") == 0) {
        resolve(argv[2], strtoull(argv[3], NULL, 10));
        return 0;
    } else if (argc == 3 && strcmp(argv[1], "wait") == 0) {
        freeaddrinfo(find(argv[2], NULL));
        puts("waiting");
        fflush(stdout);
        for (;;)
            pause();
    } else if (argc == 5) {
        static const struct {
            const char *name;
            void (*run)(const struct addrinfo *, uint64_t);
        } table[] = {
            {"bulk", bulk}, {"connects", connects}, {"hold", hold}, {"dial", dial}, {"spread", spread}};
        if (files)
            tls_load(files, 0);
        for (size_t i = 0; i < sizeof table / sizeof *table; i++)
            if (strcmp(argv[1], table[i].name) == 0) {
                table[i].run(find(argv[2], argv[3]), strtoull(argv[4], NULL, 10));
                return 0;
            }
    }
    fprintf(stderr,
            "usage: peer [-t PREFIX,CA] serve PORT | bulk|connects|hold|dial|spread HOST PORT N | resolve "
            "HOST N | wait HOST\n");
    return 2;
}
