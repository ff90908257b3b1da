/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "shim/ctl/elf.h"
#include "shim/ctl/procs.h"

static struct mesh_ctl_elf elf;

/* A program in memory: header, two program headers, what they point at. */
static struct image {
    Elf64_Ehdr eh;
    Elf64_Phdr ph[2];
    char interp[400];
    struct {
        Elf64_Nhdr head;
        char name[4];
    } note;
} image;
static size_t image_size = sizeof image;

static ssize_t read_image(void *source, void *ret_bytes, size_t n, uint64_t offset) {
    if (offset > image_size)
        return 0;
    size_t left = image_size - (size_t)offset, take = n < left ? n : left;
    memcpy(ret_bytes, (char *)source + offset, take);
    return (ssize_t)take;
}

static void make(const char *interp) {
    memset(&image, 0, sizeof image);
    image_size = sizeof image;
    memcpy(image.eh.e_ident, ELFMAG, SELFMAG);
    image.eh.e_ident[EI_CLASS] = ELFCLASS64;
#if defined(__aarch64__)
    image.eh.e_machine = EM_AARCH64;
#else
    image.eh.e_machine = EM_X86_64;
#endif
    image.eh.e_phoff = offsetof(struct image, ph);
    image.eh.e_phentsize = sizeof image.ph[0];
    image.eh.e_phnum = 2;
    strcpy(image.interp, interp);
    if (interp[0])
        image.ph[0] = (Elf64_Phdr){
            .p_type = PT_INTERP, .p_offset = offsetof(struct image, interp), .p_filesz = strlen(interp) + 1};
}

static void add_note(const char name[4]) {
    image.ph[1] = (Elf64_Phdr){
        .p_type = PT_NOTE, .p_offset = offsetof(struct image, note), .p_filesz = sizeof image.note};
    image.note.head = (Elf64_Nhdr){.n_namesz = 4, .n_type = 4};
    memcpy(image.note.name, name, 4);
}

static enum mesh_ctl_reason judge(bool secure, bool preloaded) {
    cr_assert_eq(mesh_ctl_elf_read(read_image, &image, &elf), 0);
    return mesh_ctl_reason_judge(&elf, secure, preloaded);
}

Test(elf, dynamic_program_was_started_without) {
    make("/lib64/ld-linux-x86-64.so.2");
    cr_assert_eq(judge(false, false), MESH_CTL_STARTED_WITHOUT);
    cr_assert_eq(judge(false, true), MESH_CTL_NOT_LOADED);
    cr_assert_eq(judge(true, true), MESH_CTL_SECURE);
}

Test(elf, no_interpreter_is_static) {
    make("");
    cr_assert_eq(judge(false, true), MESH_CTL_STATIC);
}

Test(elf, go_is_known_by_its_note) {
    make("");
    add_note("Go\0\0");
    cr_assert_eq(judge(false, false), MESH_CTL_GO);
    add_note("GNU\0");
    cr_assert_eq(judge(false, false), MESH_CTL_STATIC);
}

Test(elf, go_is_known_by_its_build_info) {
    make("");
    memcpy(image.interp, "\xff Go buildinf:", 14);
    image.ph[1] = (Elf64_Phdr){.p_type = PT_LOAD,
                               .p_flags = PF_R | PF_W,
                               .p_offset = offsetof(struct image, interp),
                               .p_filesz = 32};
    cr_assert_eq(judge(false, false), MESH_CTL_GO);
    image.ph[1].p_flags = PF_R;
    cr_assert_eq(judge(false, false), MESH_CTL_STATIC);
}

Test(elf, musl_is_another_libc) {
    make("/lib/ld-musl-x86_64.so.1");
    cr_assert_eq(judge(false, true), MESH_CTL_OTHER_LIBC);
}

Test(elf, other_class_or_machine_does_not_fit) {
    make("/lib64/ld-linux-x86-64.so.2");
    image.eh.e_ident[EI_CLASS] = ELFCLASS32;
    cr_assert_eq(judge(false, true), MESH_CTL_OTHER_CLASS);
    make("/lib64/ld-linux-x86-64.so.2");
    image.eh.e_machine = EM_S390;
    cr_assert_eq(judge(false, true), MESH_CTL_OTHER_CLASS);
}

Test(elf, damaged_headers_are_no_program) {
    make("/lib64/ld");
    image.eh.e_ident[0] = 0;
    cr_assert_eq(mesh_ctl_elf_read(read_image, &image, &elf), MESH_E_SYNTAX);
    make("/lib64/ld");
    image.eh.e_phentsize = 8;
    cr_assert_eq(mesh_ctl_elf_read(read_image, &image, &elf), MESH_E_SYNTAX);
    make("/lib64/ld");
    image.eh.e_phoff = UINT64_MAX - 8;
    cr_assert_eq(mesh_ctl_elf_read(read_image, &image, &elf), MESH_E_SYNTAX);
    make("/lib64/ld");
    image.ph[0].p_filesz = UINT64_MAX;
    cr_assert_eq(mesh_ctl_elf_read(read_image, &image, &elf), MESH_E_SYNTAX);
    make("/lib64/ld");
    image.ph[0].p_filesz = sizeof elf.interp + 1;
    cr_assert_eq(mesh_ctl_elf_read(read_image, &image, &elf), MESH_E_SYNTAX);
    make("/lib64/ld");
    image.ph[0].p_offset = UINT64_MAX;
    cr_assert_eq(mesh_ctl_elf_read(read_image, &image, &elf), MESH_E_SYNTAX);
}

Test(elf, hostile_note_sizes_end) {
    make("");
    add_note("GNU\0");
    image.note.head.n_namesz = image.note.head.n_descsz = UINT32_MAX;
    image.ph[1].p_filesz = UINT64_MAX;
    cr_assert_eq(mesh_ctl_elf_read(read_image, &image, &elf), 0);
    cr_assert_not(elf.go);
}

Test(elf, every_truncation_is_survived) {
    make("/lib64/ld-linux-x86-64.so.2");
    add_note("Go\0\0");
    for (size_t n = 0; n < sizeof image; n++) {
        image_size = n;
        int r = mesh_ctl_elf_read(read_image, &image, &elf);
        cr_assert(r == 0 || r == MESH_E_SYNTAX);
    }
}

Test(elf, this_very_program_is_dynamic) {
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    cr_assert_eq(mesh_ctl_elf_read(mesh_ctl_read_fd, &fd, &elf), 0);
    cr_assert(elf.same_class && !elf.go && mesh_ctl_interp_is_glibc(elf.interp), "%s", elf.interp);
    close(fd);
    fd = -1;
    cr_assert_eq(mesh_ctl_elf_read(mesh_ctl_read_fd, &fd, &elf), MESH_E_IO);
}
