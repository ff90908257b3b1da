// SPDX-License-Identifier: Apache-2.0
// Streams on sockets: fdopen, dprintf, freopen over standard descriptors. Their reads and writes happen
// inside libc.
#include "t.h"

static void lines_both_ways(void) {
    int p[2];
    char line[200];
    t_pair_cold(AF_INET, p);
    FILE *c = fdopen(p[0], "r+"), *s = fdopen(p[1], "r+");
    CHECK(c && s);
    for (int i = 0; i < 50; i++) {
        CHECK(fprintf(c, "%s request %d\n", T_MARK, i) > 0);
        EQ(fflush(c), 0);
        CHECK(fgets(line, sizeof line, s));
        CHECK(strstr(line, T_MARK));
        EQ(atoi(line + strlen(T_MARK " request ")), i);
        CHECK(fprintf(s, "answer %d\r\n", i) > 0);
        EQ(fflush(s), 0);
        CHECK(fgets(line, sizeof line, c));
        EQ(atoi(line + 7), i);
    }
    EQ(fclose(c), 0);
    CHECK(fgets(line, sizeof line, s) == NULL);
    CHECK(feof(s) && !ferror(s));
    EQ(fclose(s), 0);
}

static void one_stream_a_direction(void) {
    int p[2];
    static char buf[100000], in[sizeof buf];
    t_pair(p);
    FILE *w = fdopen(p[0], "w"), *r = fdopen(p[1], "r");
    CHECK(w && r);
    t_fill(buf, 0, sizeof buf);
    EQ(fileno(w), p[0]);
    EQ(fileno(r), p[1]);
    EQ(fwrite(buf, 1, sizeof buf, w), sizeof buf);
    EQ(fclose(w), 0);
    EQ(fread(in, 1, sizeof in, r), sizeof in);
    SAME(in, 0, sizeof in);
    EQ(fgetc(r), EOF);
    EQ(fclose(r), 0);
}

static void unbuffered_and_line_buffered(void) {
    int p[2];
    t_pair(p);
    FILE *w = fdopen(p[0], "w");
    CHECK(w);
    EQ(setvbuf(w, NULL, _IONBF, 0), 0);
    EQ(fputs(T_MARK, w) >= 0, 1);
    GET(p[1], 0, 16);
    FILE *l = fdopen(p[1], "w");
    CHECK(l);
    EQ(setvbuf(l, NULL, _IOLBF, 512), 0);
    EQ(fputs("abc\n", l) >= 0, 1);
    char b[8];
    EQ(recv(p[0], b, 8, 0), 4);
    EQ(memcmp(b, "abc\n", 4), 0);
}

static void formatted_without_a_stream(void) {
    int p[2];
    char b[100];
    t_pair(p);
    EQ(dprintf(p[0], "%s %d\n", T_MARK, 42), 20);
    EQ(recv(p[1], b, sizeof b, 0), 20);
    EQ(memcmp(b, T_MARK " 42\n", 20), 0);
}

static void getline_and_getdelim(void) {
    int p[2];
    char *line = NULL;
    size_t room = 0;
    t_pair(p);
    FILE *r = fdopen(p[1], "r");
    CHECK(r);
    PUT(p[0], 0, 0);
    EQ(dprintf(p[0], "%s\nsecond;third;", T_MARK), 30);
    EQ(getline(&line, &room, r), 17);
    EQ(getdelim(&line, &room, ';', r), 7);
    EQ(strcmp(line, "second;"), 0);
    SYS(close(p[0]));
    EQ(getdelim(&line, &room, ';', r), 6);
    EQ(getline(&line, &room, r), -1);
    free(line);
    fclose(r);
}

static void scanned(void) {
    int p[2], a = 0, b = 0;
    t_pair(p);
    FILE *r = fdopen(p[1], "r");
    CHECK(r);
    dprintf(p[0], "12 34\n%s\n", T_MARK);
    EQ(fscanf(r, "%d %d", &a, &b), 2);
    EQ(a * 100 + b, 1234);
    EQ(fgetc(r), '\n');
    EQ(ungetc('#', r), '#');
    EQ(fgetc(r), '#');
    EQ(fgetc(r), 'P');
    fclose(r);
}

// The child's standard streams are the connection, as inetd and shells make them.
static void standard_streams(void) {
    int p[2];
    char line[100];
    t_pair(p);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        EQ(dup2(p[1], 0), 0);
        EQ(dup2(p[1], 1), 1);
        t_close_pair(p);
        setvbuf(stdout, NULL, _IOLBF, 4096);
        while (fgets(line, sizeof line, stdin))
            printf("%s you said %s", T_MARK, line);
        puts("goodbye");
        exit(0);
    }
    SYS(close(p[1]));
    FILE *f = fdopen(p[0], "r+");
    CHECK(f);
    for (int i = 0; i < 5; i++) {
        fprintf(f, "hello %d\n", i);
        fflush(f);
        CHECK(fgets(line, sizeof line, f));
        EQ(line[strlen(T_MARK " you said hello ")], '0' + i);
    }
    SYS(shutdown(p[0], SHUT_WR));
    CHECK(fgets(line, sizeof line, f));
    EQ(strcmp(line, "goodbye\n"), 0);
    CHECK(fgets(line, sizeof line, f) == NULL);
    fclose(f);
    CHILD_END(pid);
}

static void standard_output_unflushed_at_exit(void) {
    int p[2];
    t_pair(p);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        EQ(dup2(p[1], 1), 1);
        t_close_pair(p);
        setvbuf(stdout, NULL, _IOFBF, 4096);
        fputs(T_MARK, stdout);
        exit(0); // flushed by libc alone
    }
    SYS(close(p[1]));
    GET(p[0], 0, 16);
    END(p[0]);
    CHILD_END(pid);
}

static void a_stream_and_its_descriptor_together(void) {
    int p[2];
    char b[32];
    t_pair(p);
    FILE *f = fdopen(p[0], "w");
    CHECK(f);
    fputs(T_MARK, f);
    fflush(f);
    EQ(send(p[0], "after", 5, 0), 5);
    EQ(recv(p[1], b, 21, MSG_WAITALL), 21);
    EQ(memcmp(b, T_MARK "after", 21), 0);
    PUT(p[1], 0, 10);
    GET(p[0], 0, 10);
    fclose(f);
    END(p[1]);
}

static void a_stream_on_a_file_is_as_ever(void) {
    char line[64];
    FILE *f = tmpfile();
    CHECK(f);
    fprintf(f, "one\ntwo\n");
    rewind(f);
    CHECK(fgets(line, sizeof line, f) && strcmp(line, "one\n") == 0);
    EQ(ftell(f), 4);
    EQ(fseek(f, 0, SEEK_SET), 0);
    EQ(fclose(f), 0);
    FILE *pipe_ = popen("echo from a child", "r");
    CHECK(pipe_ && fgets(line, sizeof line, pipe_));
    EQ(strcmp(line, "from a child\n"), 0);
    EQ(pclose(pipe_), 0);
}

T_MAIN(T_CASE(lines_both_ways), T_CASE(one_stream_a_direction), T_CASE(unbuffered_and_line_buffered),
       T_CASE(formatted_without_a_stream), T_CASE(getline_and_getdelim), T_CASE(scanned),
       T_CASE(standard_streams), T_CASE(standard_output_unflushed_at_exit),
       T_CASE(a_stream_and_its_descriptor_together), T_CASE(a_stream_on_a_file_is_as_ever))
