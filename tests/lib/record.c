// SPDX-License-Identifier: Apache-2.0
//
// record -r REPORT [-m MARKER]... [-w PCAP] -- CMD...: runs CMD and watches every TCP payload byte on
// loopback meanwhile. Without a command it watches until SIGTERM and prints `ready` once it does.
//
// REPORT gets `NAME COUNT` lines: packets, bytes, dropped, marker (occurrences of any marker, also across
// segments), hello (payloads that start as a TLS handshake record), alert and data (TLS record types at a
// payload's start), other. Exit status: CMD's, or 125 when the recorder itself cannot work (no right to open
// a packet socket).
//
// Loopback shows each packet twice, going out and coming in; only the outgoing one is counted.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MARKERS_MAX = 16, MARKER_MAX = 64, FLOWS = 4096, SNAP = 1 << 17 };

// The end of what a flow carried last: a marker may be cut by a segment's end.
struct flow {
    uint32_t id;
    size_t n;
    uint8_t tail[MARKER_MAX];
};

static const char *markers[MARKERS_MAX];
static size_t nmarkers, longest;
static struct flow flows[FLOWS];
static unsigned long long packets, bytes, dropped, found, hello, alert, data, other;
static uint8_t frame[SNAP], joined[SNAP + MARKER_MAX];
static FILE *pcap;

static void die(const char *what) {
    fprintf(stderr, "record: %s: %s\n", what, strerror(errno));
    exit(125);
}

static void scan(const uint8_t *p, size_t n, size_t already) {
    for (size_t i = 0; i < nmarkers; i++) {
        size_t len = strlen(markers[i]);
        const uint8_t *at = p, *end = p + n;
        while ((at = memmem(at, (size_t)(end - at), markers[i], len)) != NULL) {
            if ((size_t)(at - p) + len > already)
                found++;
            at++;
        }
    }
}

static void payload(uint32_t id, const uint8_t *p, size_t n) {
    struct flow *f = &flows[(id * 2654435761u) >> 20];
    size_t keep;

    bytes += n;
    if (n >= 3 && p[1] == 3 && p[2] <= 4 && p[0] >= 20 && p[0] <= 23) {
        hello += p[0] == 22;
        alert += p[0] == 21;
        data += p[0] == 23;
    } else
        other++;
    if (f->id != id) {
        f->id = id;
        f->n = 0;
    }
    memcpy(joined, f->tail, f->n);
    memcpy(joined + f->n, p, n);
    scan(joined, f->n + n, f->n);
    keep = longest > 0 ? longest - 1 : 0;
    if (keep > f->n + n)
        keep = f->n + n;
    memcpy(f->tail, joined + f->n + n - keep, keep);
    f->n = keep;
}

static void save(const uint8_t *p, size_t n) {
    struct timeval now;
    uint32_t head[4];

    if (!pcap)
        return;
    gettimeofday(&now, NULL);
    head[0] = (uint32_t)now.tv_sec;
    head[1] = (uint32_t)now.tv_usec;
    head[2] = head[3] = (uint32_t)n;
    fwrite(head, sizeof head, 1, pcap);
    fwrite(p, n, 1, pcap);
}

static void packet(const uint8_t *p, size_t n) {
    size_t ip = 0, total = 0;
    uint8_t protocol = 0;

    if (n >= 20 && p[0] >> 4 == 4) {
        ip = (size_t)(p[0] & 15) * 4;
        total = (size_t)(p[2] << 8 | p[3]);
        protocol = p[9];
    } else if (n >= 40 && p[0] >> 4 == 6) {
        ip = 40;
        total = (size_t)(p[4] << 8 | p[5]) + 40;
        protocol = p[6];
    }
    if (protocol != IPPROTO_TCP || n < ip + 20)
        return;
    packets++;
    save(p, n);
    // A packet beyond 64 KiB carries no length of its own.
    if (total == 0 || total == 40 || total > n)
        total = n;
    size_t head = ip + (size_t)(p[ip + 12] >> 4) * 4;
    if (head < total) {
        uint32_t ports;
        memcpy(&ports, p + ip, sizeof ports);
        payload(ports, p + head, total - head);
    }
}

static int open_loopback(void) {
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL)), size = 256 << 20;

    if (fd < 0)
        die("packet socket");
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    at.sll_ifindex = (int)if_nametoindex("lo");
    if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0)
        die("bind to lo");
    return fd;
}

static void drain(int fd) {
    struct sockaddr_ll from;
    socklen_t len = sizeof from;
    ssize_t n;

    while ((n = recvfrom(fd, frame, sizeof frame, 0, (struct sockaddr *)&from, &len)) >= 0) {
        if (from.sll_pkttype == PACKET_OUTGOING)
            packet(frame, (size_t)n);
        len = sizeof from;
    }
}

static void report(int fd, const char *path) {
    struct tpacket_stats st = {0};
    socklen_t len = sizeof st;
    FILE *out = fopen(path, "we");

    if (!out)
        die(path);
    if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &st, &len) == 0)
        dropped = st.tp_drops;
    fprintf(out,
            "packets %llu\nbytes %llu\ndropped %llu\nmarker %llu\nhello %llu\nalert %llu\ndata %llu\nother "
            "%llu\n",
            packets, bytes, dropped, found, hello, alert, data, other);
    if (fclose(out) != 0)
        die(path);
    if (pcap && fclose(pcap) != 0)
        die("pcap");
}

static FILE *open_pcap(const char *path) {
    static const uint32_t head[6] = {0xa1b2c3d4, 0x00040002, 0, 0, SNAP, 101 /* raw IP */};
    FILE *out = fopen(path, "we");

    if (!out || fwrite(head, sizeof head, 1, out) != 1)
        die(path);
    return out;
}

static int watch(int fd, int sig, pid_t child) {
    struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = sig, .events = POLLIN}};
    struct signalfd_siginfo si;
    int status;

    for (;;) {
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            die("poll");
        drain(fd);
        if (read(sig, &si, sizeof si) != (ssize_t)sizeof si)
            continue;
        if (si.ssi_signo == SIGCHLD && child > 0 && waitpid(child, &status, WNOHANG) == child)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (si.ssi_signo == SIGTERM && child <= 0)
            return 0;
    }
}

int main(int argc, char **argv) {
    const char *path = NULL;
    sigset_t set;
    pid_t child = 0;
    int opt, rc;

    while ((opt = getopt(argc, argv, "+r:m:w:")) != -1) {
        if (opt == 'r')
            path = optarg;
        else if (opt == 'w')
            pcap = open_pcap(optarg);
        else if (opt == 'm' && nmarkers < MARKERS_MAX && *optarg && strlen(optarg) <= MARKER_MAX) {
            markers[nmarkers++] = optarg;
            if (strlen(optarg) > longest)
                longest = strlen(optarg);
        } else
            path = NULL, optind = argc;
    }
    if (!path) {
        fprintf(stderr, "usage: record -r REPORT [-m MARKER]... [-w PCAP] [-- CMD...]\n");
        return 125;
    }
    int fd = open_loopback();
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int sig = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (optind < argc && (child = fork()) == 0) {
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        execvp(argv[optind], argv + optind);
        fprintf(stderr, "record: %s: %s\n", argv[optind], strerror(errno));
        _exit(127);
    }
    if (child < 0)
        die("fork");
    if (child == 0)
        puts("ready"), fflush(stdout);
    rc = watch(fd, sig, child);
    drain(fd);
    report(fd, path);
    return rc;
}
