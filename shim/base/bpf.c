/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/base/bpf.h"

#include <stdbool.h>
#include <string.h>

struct machine {
    uint32_t a, x, mem[BPF_MEMWORDS];
};

static bool load(struct machine *m, const struct sock_filter *i, const struct seccomp_data *d) {
    uint32_t *to = BPF_CLASS(i->code) == BPF_LD ? &m->a : &m->x;
    switch (BPF_MODE(i->code)) {
    case BPF_IMM:
        *to = i->k;
        return true;
    case BPF_LEN:
        *to = sizeof *d;
        return true;
    case BPF_MEM:
        if (i->k < BPF_MEMWORDS)
            *to = m->mem[i->k];
        return i->k < BPF_MEMWORDS;
    case BPF_ABS:
        if (i->k > sizeof *d - sizeof *to || i->k % sizeof *to)
            return false;
        memcpy(to, (const char *)d + i->k, sizeof *to);
        return true;
    default:
        return false;
    }
}

static bool compute(struct machine *m, const struct sock_filter *i) {
    uint32_t v = BPF_SRC(i->code) == BPF_X ? m->x : i->k;
    switch (BPF_OP(i->code)) {
    case BPF_ADD:
        m->a += v;
        return true;
    case BPF_SUB:
        m->a -= v;
        return true;
    case BPF_MUL:
        m->a *= v;
        return true;
    case BPF_DIV:
        m->a = v ? m->a / v : 0;
        return v != 0;
    case BPF_AND:
        m->a &= v;
        return true;
    case BPF_OR:
        m->a |= v;
        return true;
    case BPF_XOR:
        m->a ^= v;
        return true;
    case BPF_LSH:
        m->a = v < 32 ? m->a << v : 0;
        return true;
    case BPF_RSH:
        m->a = v < 32 ? m->a >> v : 0;
        return true;
    case BPF_NEG:
        m->a = -m->a;
        return true;
    default:
        return false;
    }
}

/* How many instructions are stepped over; negative: there is no such jump. */
static int64_t jump(const struct machine *m, const struct sock_filter *i) {
    uint32_t v = BPF_SRC(i->code) == BPF_X ? m->x : i->k;
    switch (BPF_OP(i->code)) {
    case BPF_JA:
        return i->k;
    case BPF_JEQ:
        return m->a == v ? i->jt : i->jf;
    case BPF_JGT:
        return m->a > v ? i->jt : i->jf;
    case BPF_JGE:
        return m->a >= v ? i->jt : i->jf;
    case BPF_JSET:
        return m->a & v ? i->jt : i->jf;
    default:
        return -1;
    }
}

static bool store(struct machine *m, const struct sock_filter *i) {
    if (i->k < BPF_MEMWORDS)
        m->mem[i->k] = BPF_CLASS(i->code) == BPF_ST ? m->a : m->x;
    return i->k < BPF_MEMWORDS;
}

uint32_t mesh_bpf_run(const struct sock_filter *f, unsigned n, const struct seccomp_data *d) {
    struct machine m = {0};
    for (uint64_t at = 0; at < n; at++) {
        const struct sock_filter *i = &f[at];
        int64_t over = 0;
        bool good = true;
        switch (BPF_CLASS(i->code)) {
        case BPF_LD:
        case BPF_LDX:
            good = load(&m, i, d);
            break;
        case BPF_ST:
        case BPF_STX:
            good = store(&m, i);
            break;
        case BPF_ALU:
            good = compute(&m, i);
            break;
        case BPF_JMP:
            over = jump(&m, i);
            good = over >= 0;
            break;
        case BPF_RET:
            return BPF_RVAL(i->code) == BPF_A ? m.a : i->k;
        default: /* BPF_MISC */
            if (BPF_MISCOP(i->code) == BPF_TAX)
                m.x = m.a;
            else
                m.a = m.x;
        }
        if (!good)
            break;
        at += (uint64_t)over;
    }
    return SECCOMP_RET_KILL_PROCESS;
}
