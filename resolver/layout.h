/* SPDX-License-Identifier: Apache-2.0
 *
 * What the mapped file holds. Two halves:
 *
 *   live     struct view_head and what it names by fixed place: lease, ledger, refusal ring, trace mailbox,
 * the directories of the counters' slabs. Changed in place with atomics by every process. records  everything
 * else: immutable once published, reached from the root by 32-bit references in granules of 64 bytes. A
 * publication writes new records into free space and swings `root` once.
 *
 * Free space is what the root does not reach. A publisher finds it by marking (resolver/space.c), raises
 * `recycled` and only then writes into it: a reader that sees `recycled` unchanged around its reads has read
 * what was published; one that sees it changed starts again. So nobody waits, and nothing has to be given
 * back by hand: a publisher that dies at any instruction leaves garbage that the next one finds.
 *
 * Nothing here is trusted by readers: references, lengths and counts are checked against the mapping on every
 * use.
 */
#ifndef MESH_RESOLVER_LAYOUT_H
#define MESH_RESOLVER_LAYOUT_H

#include <stdatomic.h>
#include <stdint.h>
#include "resolver/resolver.h"
#include "resolver/types.h"

enum {
    MESH_VIEW_LAYOUT = 2, /* changed with any struct below or in types.h */
    VIEW_GRANULE = 64,
    VIEW_PAGE_SLOTS = 512,
    VIEW_PAGES_MAX = 1 << 14, /* 8M slots in one table */
    VIEW_EXTENTS = 512,
    VIEW_SLABS = 8192, /* x 204 counters: 1.6 million endpoints */
    VIEW_SLAB_GRANULES = 256,
    VIEW_CHUNKS = 256, /* x 512 slots: 131072 connections */
    VIEW_CHUNK_SLOTS = 512,
    VIEW_PROCESSES = 2048,
    VIEW_TREES = 1024,
    VIEW_RING = 256,
    VIEW_RING_TEXT = 1008,
    VIEW_MAILS = 16,
    VIEW_DEPOSED = 4,
    VIEW_WILD_NAMES = 512,
    VIEW_DEMANDS = 2048,
    VIEW_USES = 8192,
};
#define VIEW_MAGIC UINT64_C(0x3157454956485345) /* "ESHVIEW1" */

/* ---- live -------------------------------------------------------------------------------------------------
 */
struct view_owner {         /* of the publisher's lease */
    _Atomic uint64_t who;   /* epoch << 40 | low 16 bits of the process's start << 24 | pid; pid 0: nobody */
    _Atomic uint64_t since; /* mesh_now() of its last transaction or beat */
    _Atomic uint64_t standing; /* its word once more when it beats (resolver/publisher.h): silence means that it is gone */
    _Atomic uint64_t agent;    /* start bits << 24 | pid of a process that comes before others; 0: none */
};

struct view_deposed { /* a publisher that was given up without being dead: its free space is never used while
                         it lives */
    _Atomic uint64_t who;   /* its word in the lease, 0: free */
    _Atomic uint64_t floor; /* granules below this may still be written by it */
};

struct view_process {
    _Atomic uint32_t pid;      /* 0: free */
    _Atomic uint32_t sequence; /* of identity: odd while it is written */
    _Atomic uint64_t tree, start, since;
    char identity[192];
};

struct view_tree {
    _Atomic uint64_t id;          /* 0: free */
    _Atomic uint64_t empty_since; /* first seen without a live process; 0: has some */
};

struct view_refusal {
    _Atomic uint64_t number; /* n << 1, lowest bit set while it is written */
    uint32_t len;
    uint32_t spare;
    char text[VIEW_RING_TEXT];
};

struct view_mail {
    _Atomic uint64_t state; /* 0 free, 1 being written, else pid << 2 | 2 */
    char spec[248];
};

struct view_wild { /* a name that only a wildcard lists: its virtual address is noted when it is first asked
                      for */
    _Atomic uint32_t state;  /* 0 free, 1 being written, 2 in force */
    _Atomic uint32_t writer; /* pid, while it is written */
    uint64_t hash;
    uint8_t v4[4];
    uint8_t v6[16];
    uint8_t has4, has6;
    uint16_t len;
    char text[MESH_NAME_MAX + 1];
};

enum demand_state { DEMAND_FREE, DEMAND_WRITING, DEMAND_ASKED, DEMAND_SILENT, DEMAND_KNOWN, DEMAND_DENIED };
struct view_demand { /* a name that somebody asked for and the view did not list (resolver/demand.h) */
    _Atomic uint32_t state;    /* enum demand_state */
    _Atomic uint32_t writer;   /* pid, while it is written */
    _Atomic uint64_t asked;    /* mesh_now() of the last asking */
    _Atomic uint64_t answered; /* mesh_now() of DENIED */
    uint64_t hash;             /* of the text */
    uint16_t port;             /* 0: not known */
    uint16_t len;
    char text[MESH_NAME_MAX + 1];
};

struct view_head {
    uint64_t magic;
    uint32_t layout, head_size;
    uint8_t digest[16];
    uint64_t boot;         /* of the kernel that this state belongs to */
    uint64_t seed;         /* random, of this view: random_subsetting */
    _Atomic uint64_t root; /* publisher's epoch << 40 | reference; 0: nothing published yet */
    _Atomic uint64_t recycled;
    _Atomic uint64_t size; /* bytes in use; the file is at least that long */
    struct view_owner lease;
    struct view_deposed deposed[VIEW_DEPOSED];
    _Atomic uint64_t
        extents[VIEW_EXTENTS]; /* kind << 62 | granules << 32 | first granule; filled in order, 0 ends */
    /* source */
    _Atomic uint64_t checked_at;     /* mesh_now() of the last stat */
    _Atomic uint64_t bad_stamp;      /* of a source that could not be read; 0: none */
    _Atomic uint32_t error_sequence; /* odd while error is written */
    char error[240];
    /* ledger */
    _Atomic uint64_t settled_at;
    _Atomic uint32_t settle_round;
    _Atomic uint32_t settler;  /* pid of who settles just now */
    _Atomic uint32_t suspects; /* some slot may be PHASE_SUSPECT */
    _Atomic uint32_t chunks[VIEW_CHUNKS];
    struct view_tree trees[VIEW_TREES];
    struct view_process processes[VIEW_PROCESSES];
    /* counters */
    _Atomic uint32_t stat_slabs[VIEW_SLABS];
    _Atomic uint32_t live_slabs[VIEW_SLABS / 8];
    /* refusals, trace */
    _Atomic uint64_t refusals;
    struct view_refusal ring[VIEW_RING];
    _Atomic uint32_t mails_posted;
    struct view_mail mails[VIEW_MAILS];
    struct view_wild wild[VIEW_WILD_NAMES];
    /* demand and its answers */
    _Atomic uint64_t waker;           /* names the socket on which the publisher is woken; 0: none */
    _Atomic int64_t confirmed;        /* wall clock, s: a control plane said so then; 0: never */
    _Atomic uint32_t demands_posted;  /* counts */
    _Atomic uint32_t demand_answers;  /* counts; waited for as a futex */
    struct view_demand demands[VIEW_DEMANDS];
    _Atomic uint32_t uses[VIEW_USES]; /* mesh_now() in seconds of the last look-up of a name with this hash */
};

enum view_extent { EXTENT_RECORDS = 1, EXTENT_LEDGER = 2 };

/* A slab of counters: what each belongs to, then the counters, a granule each. Slabs stay slabs, so a late
 * report finds a counter of some endpoint, never something else. It starts at a multiple of
 * VIEW_SLAB_GRANULES. */
struct view_counter {
    uint64_t key;  /* hash of (cluster, address, port) or of the cluster's name; 0: free */
    uint32_t live; /* of an endpoint: index of its cluster's counters */
    uint32_t time; /* when it joined, in units of 2^24 ns; with COUNTER_RETIRED when it left */
};
#define COUNTER_RETIRED UINT32_C(0x80000000)
enum { VIEW_SLAB_FIRST = 52, VIEW_SLAB_COUNTERS = VIEW_SLAB_GRANULES - VIEW_SLAB_FIRST };
struct view_slab {
    uint32_t kind; /* KIND_STATS or KIND_LIVES */
    uint32_t len;
    uint32_t spare[14];
    struct view_counter owners[VIEW_SLAB_COUNTERS];
};
_Static_assert(sizeof(struct view_slab) == VIEW_SLAB_FIRST * VIEW_GRANULE, "the counters follow");

enum ledger_phase { PHASE_NONE, PHASE_NAMED, PHASE_COUNTED, PHASE_EASING, PHASE_LOWERING, PHASE_SUSPECT };
struct view_slot {
    _Atomic uint64_t owner; /* tree, 0: free */
    _Atomic uint64_t what;  /* enum mesh_ledger_dial << 40 | phase << 32 | stat */
};
struct view_slot_info {
    _Atomic uint32_t sequence; /* odd while it is written; 0: nothing said */
    uint32_t spare;
    struct mesh_conn_info info;
};
struct view_chunk { /* a block of ledger slots */
    uint32_t kind, len;
    _Atomic uint64_t taken[VIEW_CHUNK_SLOTS / 64]; /* hint only: the slot's owner decides */
    struct view_slot slots[VIEW_CHUNK_SLOTS];
    struct view_slot_info infos[VIEW_CHUNK_SLOTS];
};

/* ---- records ----------------------------------------------------------------------------------------------
 */
enum view_kind {
    KIND_ROOT = 0x4d560001,
    KIND_DIR,
    KIND_PAGE,
    KIND_NAME,
    KIND_ADDR,
    KIND_ROUTE,
    KIND_CLUSTER,
    KIND_CLUSTER_NAME,
    KIND_CONFIG,
    KIND_ENDPOINTS,
    KIND_TABLE,
    KIND_RESOURCE,
    KIND_INBOUND,
    KIND_ASSIGN,
    KIND_STATS,
    KIND_LIVES,
    KIND_CHUNK,
    KIND_REPORT,
};

struct view_rec { /* every record begins so */
    uint32_t kind;
    uint32_t len; /* bytes, this included */
};
struct view_span { /* bytes inside the record */
    uint32_t off, len;
};

/* An array of 64-bit slots in pages: a change copies one page and the directory. Hash tables lie in it as
 * well. */
struct view_pages {
    uint32_t dir;    /* reference of a KIND_DIR: npages references of KIND_PAGE; 0: empty */
    uint32_t npages; /* hash tables: a power of two */
    uint32_t used;   /* slots in use, or the vector's length */
    uint32_t dead;   /* hash tables: slots of removed entries */
};
struct view_page {
    struct view_rec rec;
    uint64_t spare[7];
    uint64_t slots[VIEW_PAGE_SLOTS];
};

struct view_root {
    struct view_rec rec;
    uint64_t version;
    int64_t built_wall;
    uint64_t stamp;                  /* of the source that it was built from */
    struct view_pages names;         /* hash: KIND_NAME */
    struct view_pages addrs;         /* hash: KIND_ADDR, and KIND_NAME under its virtual addresses */
    struct view_pages assigns;       /* hash: KIND_ASSIGN */
    struct view_pages cluster_names; /* hash: KIND_CLUSTER_NAME */
    struct view_pages clusters;      /* vector: flags << 32 | KIND_CLUSTER */
    struct view_pages resources;     /* vector: KIND_RESOURCE */
    uint32_t inbound;                /* KIND_INBOUND or 0 */
    uint32_t report;                 /* KIND_REPORT or 0 */
    uint32_t names_n, clusters_n, endpoints_n, listeners_n, faults_n;
    uint64_t suffixes[4]; /* bit n: some wildcard `*SUFFIX` has n bytes after the star */
    uint64_t prefixes[4]; /* the same of `PREFIX*` */
    uint32_t flags;
    uint64_t ranges4, ranges6[3]; /* bit n: some address range has n bits */
    uint64_t policy;              /* digest of the inbound record, 0: none */
};
enum {
    ROOT_SOURCE_IP = 1, /* some route hashes the source address */
    ROOT_STANDS = 2,    /* some endpoint is a host name, or is checked: a standing publisher is needed */
    ROOT_BEFORE = 4,    /* something in it is there only until the control plane has answered */
};

enum { NAME_OWN4 = 1, NAME_OWN6 = 2, NAME_HAS4 = 4, NAME_HAS6 = 8, NAME_HEADLESS = 16, NAME_PATTERN = 32 };
struct view_entry {
    uint16_t port;  /* 0: any */
    uint16_t level; /* enum view_level */
    uint32_t route; /* KIND_ROUTE */
};
enum view_level {
    LEVEL_LISTENER = 1,
    LEVEL_DOMAIN,
    LEVEL_SUFFIX,
    LEVEL_PREFIX,
    LEVEL_ADDRESS,
    LEVEL_CLUSTER,
    LEVEL_STAR
};
struct view_name {
    struct view_rec rec;
    uint32_t flags;
    uint8_t v4[4]; /* virtual, or the service's own */
    uint8_t v6[16];
    struct view_span text;     /* lower case, no trailing dot; a pattern keeps its star */
    struct view_span entries;  /* struct view_entry, in the order in which they win */
    struct view_span clusters; /* uint32_t: all that it may lead to */
};

struct view_addr {
    struct view_rec rec;
    uint8_t family; /* 4 or 6 */
    uint8_t headless;
    uint8_t range; /* bits of a range + 1; 0: one address */
    uint8_t spare;
    uint16_t port; /* 0: any */
    uint8_t addr[16];
    uint32_t level; /* of route */
    uint32_t route; /* KIND_ROUTE, or 0: the name's own entries */
    uint32_t name;  /* KIND_NAME, or 0 */
};

enum view_route_kind { ROUTE_CLUSTERS, ROUTE_PASS, ROUTE_REFUSE };
enum view_hash_policy { HASH_NONE, HASH_SOURCE_IP };
struct view_target {
    uint32_t cluster;
    uint32_t weight;
};
struct view_route {
    struct view_rec rec;
    uint8_t kind, hash;
    uint16_t attempts;     /* 0: not said */
    uint32_t max_age_ms;   /* 0: none */
    uint32_t max_age_jitter; /* percent */
    int32_t error;         /* ROUTE_REFUSE: enum mesh_err */
    struct view_span text; /* the route's or listener's name */
    struct view_span why;
    struct view_span targets; /* struct view_target; weights sum up to at most 2^32-1 */
};

enum {
    CLUSTER_HAS4 = 1,
    CLUSTER_HAS6 = 2,
    CLUSTER_ORIGINAL_DST = 4,
    CLUSTER_PLAIN = 8,
    CLUSTER_SOME_PLAIN = 16,
    CLUSTER_PENDING = 32, /* its endpoints are host names that nobody has answered for yet */
    CLUSTER_DRAIN_UNHEALTHY = 64,
    CLUSTER_DRAIN_REMOVED = 128
};
struct view_cluster {
    struct view_rec rec;
    uint32_t id, generation;
    uint32_t flags;
    int32_t error;      /* not 0: refused, why says */
    uint32_t live;      /* index of its struct mesh_cluster_stat */
    uint32_t limits;    /* of the cluster that it is a subset of; `live` when it is none */
    uint32_t whole, whole_generation; /* that cluster's id, or its own */
    uint32_t config;    /* KIND_CONFIG */
    uint32_t endpoints; /* KIND_ENDPOINTS or 0 */
    uint32_t n;
    uint32_t table, table_len; /* KIND_TABLE or 0; bytes of the table itself */
    struct view_span text, why;
    struct mesh_policy policy;
};
struct view_cluster_name {
    struct view_rec rec;
    uint32_t id, generation;
    struct view_span text;
};

enum view_pem { PEM_NONE, PEM_INLINE, PEM_PATH };
struct view_match {
    uint8_t kind, san_type, ignore_case, spare;
    uint32_t off, len;
};
struct view_tls { /* one transport socket */
    uint8_t plain, any_peer_san, no_alpn, no_client_cert;
    uint16_t min_version, max_version;
    uint8_t ca_kind, cert_kind, key_kind, spare; /* enum view_pem */
    int32_t error;
    struct view_span why, sni, alpn, ca, cert, key;
    struct view_span peers; /* struct view_match */
};
struct view_config {
    struct view_rec rec;
    uint32_t connect_timeout_ms;
    uint32_t spare;
    struct view_span transports; /* struct view_tls; the first is the default */
};

struct view_endpoints {
    struct view_rec rec;
    uint32_t n;
    uint32_t spare[13];
    struct mesh_endpoint items[]; /* n, then hash key texts: uint16_t length, bytes */
};
_Static_assert(sizeof(struct view_endpoints) == 64, "endpoints start on a cache line");
struct view_table {
    struct view_rec rec;
    uint32_t spare[14];
    uint8_t bytes[];
};

struct view_assign { /* a virtual address, kept after the name has left */
    struct view_rec rec;
    uint64_t name; /* hash */
    uint8_t has4, has6;
    uint8_t v4[4];
    uint8_t v6[16];
};

struct view_resource {
    struct view_rec rec;
    uint32_t rank, spare;  /* enum mesh_rank */
    struct view_span type; /* protobuf name */
    struct view_span name, path, why;
    struct view_span bytes; /* packed */
};

struct view_report_server {
    uint8_t state, is_active, spare[6]; /* enum mesh_channel_state */
    uint32_t acks, nacks;
    uint64_t since; /* mesh_now() */
    struct view_span uri, authority, peer, error;
};
struct view_report_resource {
    uint32_t status, spare; /* enum mesh_xds_status */
    int64_t updated;        /* wall clock, s */
    struct view_span type, name, version, error, error_version;
};
struct view_report { /* what the publisher says of itself and of the control plane */
    struct view_rec rec;
    int32_t pid;
    uint32_t is_agent;
    int64_t wall;
    uint64_t word; /* its lease */
    struct view_span servers, resources;
};

struct view_range {
    uint8_t family, bits;
    uint8_t addr[16];
};
struct view_at {            /* where a listener listens */
    struct view_range addr; /* bits 0: any address */
    uint16_t port;          /* 0: any, it takes redirected connections */
};
struct view_chain {            /* one inbound filter chain */
    uint16_t port;             /* destination_port, 0: any */
    uint8_t transport;         /* 0 any, 1 tls, 2 raw_buffer */
    uint8_t has_tls, fallback; /* default_filter_chain */
    uint8_t source_type;       /* 0 any, 1 same address or loopback, 2 another host */
    uint8_t spare[2];
    int32_t error;
    struct view_span why, name;
    struct view_span ats;              /* struct view_at, of its listener */
    struct view_span ranges;           /* struct view_range: of the destination */
    struct view_span servers;          /* texts: uint16_t length, bytes, one after the other */
    struct view_span protocols;        /* the same */
    struct view_span directs, sources; /* struct view_range: of the caller */
    struct view_span source_ports;     /* uint16_t */
    struct view_span authz;            /* struct authz_head, self-contained; empty: nobody is refused */
    struct view_tls tls;
};
struct view_inbound {
    struct view_rec rec;
    struct view_span chains; /* struct view_chain */
};

#endif
