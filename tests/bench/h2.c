/* HTTP/2 in clear text, for the bench: a load generator whose requests differ, and an endpoint.
 *
 *   h2 load PORT CONNECTIONS STREAMS RATE SECONDS REQUESTS
 *   h2 serve PORT BYTES
 *
 * load keeps up to STREAMS requests open on each connection. RATE requests per second in all, spaced evenly, or 0 for
 * as fast as it goes; latency counts from the moment a request was due. REQUESTS is a file of the format of openload.c
 * with whole HEADERS frames: the first one is sent first on each connection and puts fields into the HPACK table, the
 * others refer to them and are used in turn. Slots get fresh hexadecimal digits. After a GOAWAY the open streams end
 * and the connection is made anew. Prints one JSON object when every request is answered.
 *
 * serve answers every request with so many bytes on every address of its port, and "GET /__count" in HTTP/1.1 with the
 * number of requests so far. Neither side decodes header blocks: a response is good if its block begins with the
 * indexed field ":status: 200".
 *
 * Compiled with -DTLS the load comes over TLS: load ... REQUESTS NAME CA.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#ifdef TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

#define IN_BYTES (1 << 18)
#define RING 4096
#define DRAIN_NS 10000000000L
enum { DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION };
enum { ACK = 1, END_STREAM = 1, END_HEADERS = 4 };

struct template {
    uint32_t len, slots, *at;
    char *bytes;
};

struct conn {
    int fd, index;
#ifdef TLS
    SSL *ssl;
#endif
    char *in, *out;
    size_t used, queued, cap;
    int want_out, greeted, leaving;
    long window, consumed;
    uint32_t next;   /* load: id of the next stream */
    int open, limit; /* load: streams now, and as many as the peer takes */
    int64_t due[RING];
    uint32_t wait[RING], wait_head, wait_count; /* serve: streams that wait for the window */
};

static struct template *templates;
static int template_count, next_template = 1, set, port, streams, conn_count, turn;
static struct conn *conns;
static uint64_t unique = 88172645463325252ULL, histogram[64 * 40];
static long sent, completed, bad_status, failed, reconnects, served;
static int64_t first_at, last_at, worst, *backlog;
static long backlog_head, backlog_count, backlog_cap;
static int body_bytes;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void record(int64_t ns) {
    int64_t units = ns / 100;
    if (ns > worst) worst = ns;
    int shift = units < 64 ? 0 : 63 - __builtin_clzll(units) - 5;
    histogram[shift * 64 + (units >> shift)]++;
}

static double percentile(double p) {
    uint64_t total = 0, seen = 0;
    for (int i = 0; i < 64 * 40; i++) total += histogram[i];
    if (!total) return 0;
    uint64_t rank = (uint64_t)(p * total);
    for (int i = 0; i < 64 * 40; i++) {
        seen += histogram[i];
        if (seen > rank) return (double)((uint64_t)(i % 64) << (i / 64)) / 10.0;
    }
    return worst / 1000.0;
}

static void load_templates(const char *file) {
    FILE *f = fopen(file, "rb");
    uint32_t len;
    while (f && fread(&len, 4, 1, f) == 1) {
        templates = realloc(templates, (template_count + 1) * sizeof *templates);
        struct template *t = &templates[template_count++];
        t->len = len;
        if (fread(&t->slots, 4, 1, f) != 1) exit(1);
        t->at = malloc(4 * t->slots + 1);
        t->bytes = malloc(len);
        if (fread(t->at, 4, t->slots, f) != t->slots || fread(t->bytes, 1, len, f) != len) exit(1);
    }
    if (template_count < 2) {
        fprintf(stderr, "h2: %s: no requests\n", file);
        exit(1);
    }
    fclose(f);
}

static void put32(char *to, uint32_t v) {
    to[0] = v >> 24, to[1] = v >> 16, to[2] = v >> 8, to[3] = v;
}

static uint32_t get32(const char *from) {
    const unsigned char *b = (const void *)from;
    return (uint32_t)b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3];
}

static void queue(struct conn *c, const void *bytes, size_t n) {
    if (c->queued + n > c->cap) {
        c->cap = 2 * (c->queued + n);
        c->out = realloc(c->out, c->cap);
    }
    memcpy(c->out + c->queued, bytes, n);
    c->queued += n;
}

static void frame(struct conn *c, int kind, int flags, uint32_t stream, const void *payload, uint32_t n) {
    char head[9] = {n >> 16, n >> 8, n, kind, flags};
    put32(head + 5, stream);
    queue(c, head, 9);
    if (n) queue(c, payload, n);
}

#ifdef TLS
static SSL_CTX *context;
static const char *name;

/* As recv and send do it: -1 with EAGAIN where nothing can be done now, 0 at the end. */
static ssize_t told(struct conn *c, int n) {
    if (n > 0) return n;
    int error = SSL_get_error(c->ssl, n);
    errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : EIO;
    return error == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

static ssize_t put_out(struct conn *c, const char *data, size_t size) {
    ERR_clear_error();
    return told(c, SSL_write(c->ssl, data, size));
}

static ssize_t get_in(struct conn *c, char *room, size_t size) {
    ERR_clear_error();
    return told(c, SSL_read(c->ssl, room, size));
}

static void secure(struct conn *c, int fd) {
    static const unsigned char alpn[] = "\2h2";
    SSL_free(c->ssl);
    c->ssl = SSL_new(context);
    SSL_set_fd(c->ssl, fd);
    SSL_set_tlsext_host_name(c->ssl, name);
    SSL_set1_host(c->ssl, name);
    SSL_set_alpn_protos(c->ssl, alpn, 3);
    if (SSL_connect(c->ssl) != 1) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
}
#else
static ssize_t put_out(struct conn *c, const char *data, size_t size) {
    return send(c->fd, data, size, MSG_NOSIGNAL);
}

static ssize_t get_in(struct conn *c, char *room, size_t size) {
    return recv(c->fd, room, size, 0);
}
#endif

static void flush(struct conn *c) {
    size_t gone = 0;
    while (gone < c->queued) {
        ssize_t n = put_out(c, c->out + gone, c->queued - gone);
        if (n < 0) break; /* an error shows up as readable */
        gone += n;
    }
    memmove(c->out, c->out + gone, c->queued -= gone);
    int want = c->queued > 0;
    if (want != c->want_out) {
        c->want_out = want;
        struct epoll_event ev = {.events = EPOLLIN | (want ? EPOLLOUT : 0), .data.ptr = c};
        epoll_ctl(set, EPOLL_CTL_MOD, c->fd, &ev);
    }
}

static void fresh(struct conn *c, int fd) {
    int one = 1;
    c->fd = fd;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (!c->in) c->in = malloc(IN_BYTES);
    c->used = c->queued = c->consumed = 0;
    c->want_out = c->greeted = c->leaving = c->open = 0;
    c->wait_head = c->wait_count = 0;
    c->window = 65535;
    c->next = 1;
    c->limit = streams;
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &ev);
}

static void widen(struct conn *c, uint32_t by) {
    char increment[4];
    put32(increment, by);
    frame(c, WINDOW, 0, 0, increment, 4);
}

/* -- load ---------------------------------------------------------------------------------------------------------- */

static void start(struct conn *c, int64_t due) {
    static const char digits[] = "0123456789abcdef";
    struct template *t = &templates[0];
    if (c->next > 1) {
        t = &templates[next_template];
        if (++next_template == template_count) next_template = 1;
    }
    for (uint32_t s = 0; s < t->slots; s++) {
        unique ^= unique << 13;
        unique ^= unique >> 7;
        unique ^= unique << 17;
        uint64_t v = unique;
        for (int i = 0; i < 16; i++, v >>= 4) t->bytes[t->at[s] + i] = digits[v & 15];
    }
    put32(t->bytes + 5, c->next);
    queue(c, t->bytes, t->len);
    c->due[c->next / 2 % RING] = due;
    c->next += 2;
    c->open++;
    sent++;
}

static void dial(struct conn *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (void *)&to, sizeof to)) {
        perror("h2: connect");
        exit(1);
    }
#ifdef TLS
    secure(c, fd);
#endif
    fresh(c, fd);
    queue(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    frame(c, SETTINGS, 0, 0, "\0\2\0\0\0\0", 6);
    widen(c, 1 << 24);
}

static void redial(struct conn *c) {
    failed += c->open;
    close(c->fd);
    reconnects++;
    dial(c);
    flush(c);
}

static void over(struct conn *c, uint32_t stream, int ok) {
    c->open--;
    if (ok) {
        last_at = now_ns();
        completed++;
        record(last_at - c->due[stream / 2 % RING]);
    } else {
        failed++;
    }
}

static struct conn *free_conn(void) {
    for (int n = 0; n < conn_count; n++) {
        struct conn *c = &conns[turn];
        if (++turn == conn_count) turn = 0;
        if (!c->leaving && c->open < c->limit) return c;
    }
    return NULL;
}

static int is_ok(const char *block, uint32_t n) {
    uint32_t at = 0;
    if (n && (block[0] & 0xe0) == 0x20) { /* the size of the table changes */
        int more = (block[at++] & 0x1f) == 0x1f;
        while (more && at < n) more = block[at++] & 0x80;
    }
    return at < n && (unsigned char)block[at] == 0x88;
}

/* -- serve --------------------------------------------------------------------------------------------------------- */

static void answer(struct conn *c, uint32_t stream) {
    static char head[64], *body;
    static int head_len;
    if (!body) {
        char digits[16];
        body = calloc(1, body_bytes + 1);
        memset(body, 'x', body_bytes);
        int n = sprintf(digits, "%d", body_bytes);
        /* :status 200, content-type (31) and content-length (28) as literals without indexing */
        head_len = sprintf(head, "%c%c%c%ctext/plain%c%c%c%s", 0x88, 0x0f, 31 - 15, 10, 0x0f, 28 - 15, n, digits);
    }
    frame(c, HEADERS, END_HEADERS, stream, head, head_len);
    frame(c, DATA, END_STREAM, stream, body, body_bytes);
    c->window -= body_bytes;
}

static void asked(struct conn *c, uint32_t stream) {
    served++;
    if (c->window >= body_bytes && !c->wait_count) answer(c, stream);
    else c->wait[(c->wait_head + c->wait_count++) % RING] = stream;
}

/* -- both ---------------------------------------------------------------------------------------------------------- */

/* Returns 0, or -1 when the connection is of no use any more. */
static int take(struct conn *c, int is_server) {
    size_t at = 0;
    if (is_server && !c->greeted) {
        if (c->used >= 3 && !memcmp(c->in, "GET", 3)) {
            char text[128], number[24];
            int n = sprintf(number, "%ld", served);
            queue(c, text, sprintf(text, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", n, number));
            flush(c);
            return -1;
        }
        if (c->used < 24) return 0;
        at = 24;
        c->greeted = 1;
        frame(c, SETTINGS, 0, 0, "\0\3\0\0\1\0", 6);
        widen(c, 1 << 24);
    }
    while (c->used - at >= 9) {
        char *head = c->in + at, *payload = head + 9;
        uint32_t size = get32(head) >> 8, stream = get32(head + 5);
        int kind = head[3], flags = head[4];
        if (c->used - at < 9 + size) break;
        at += 9 + size;
        if (kind == DATA) c->consumed += size;
        if (kind == SETTINGS && !(flags & ACK)) {
            for (uint32_t i = 0; !is_server && i + 6 <= size; i += 6)
                if (payload[i] == 0 && payload[i + 1] == 3 && get32(payload + i + 2) < (uint32_t)streams)
                    c->limit = get32(payload + i + 2);
            frame(c, SETTINGS, ACK, 0, NULL, 0);
        } else if (kind == PING && !(flags & ACK)) {
            frame(c, PING, ACK, 0, payload, 8);
        } else if (kind == WINDOW && !stream) {
            c->window += get32(payload);
            while (c->wait_count && c->window >= body_bytes) {
                answer(c, c->wait[c->wait_head]);
                c->wait_head = (c->wait_head + 1) % RING;
                c->wait_count--;
            }
        } else if (kind == GOAWAY) {
            c->leaving = 1;
        } else if (is_server && (kind == HEADERS || kind == DATA) && flags & END_STREAM) {
            asked(c, stream);
        } else if (!is_server && kind == RST) {
            over(c, stream, 0);
        } else if (!is_server && (kind == HEADERS || kind == DATA)) {
            if (kind == HEADERS && !is_ok(payload, size)) bad_status++;
            if (flags & END_STREAM) over(c, stream, 1);
        }
    }
    c->used -= at;
    memmove(c->in, c->in + at, c->used);
    if (c->consumed >= 1 << 20) {
        widen(c, c->consumed);
        c->consumed = 0;
    }
    return c->used == IN_BYTES ? -1 : 0;
}

static int readable(struct conn *c, int is_server) {
    for (;;) {
        ssize_t n = get_in(c, c->in + c->used, IN_BYTES - c->used);
        if (n < 0 && errno == EAGAIN) return 0;
        if (n <= 0) return -1;
        c->used += n;
        int ended = take(c, is_server);
#ifdef TLS
        /* What has been decrypted does not make the socket readable. */
        if (!ended && SSL_pending(c->ssl)) continue;
#endif
        return ended;
    }
}

static int serve(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 1024)) {
        perror("h2: listen");
        return 1;
    }
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL}, ready[256];
    epoll_ctl(set, EPOLL_CTL_ADD, listener, &ev);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(set, ready, 256, -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = ready[i].data.ptr;
            if (!c) {
                int fd = accept(listener, NULL, NULL);
                if (fd >= 0) fresh(calloc(1, sizeof *c), fd);
            } else if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) && readable(c, 1)) {
                close(c->fd);
                free(c->in), free(c->out), free(c);
            } else {
                flush(c);
            }
        }
    }
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    set = epoll_create1(0);
    port = argc > 2 ? atoi(argv[2]) : 0;
    if (argc == 4 && !strcmp(argv[1], "serve")) {
        body_bytes = atoi(argv[3]);
        return serve();
    }
#ifdef TLS
    if (argc == 10) {
        name = argv[8];
        context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        if (SSL_CTX_load_verify_file(context, argv[9]) != 1) return 1;
        argc = 8;
    }
#endif
    if (argc != 8 || strcmp(argv[1], "load")) {
        fprintf(stderr, "usage: h2 load PORT CONNECTIONS STREAMS RATE SECONDS REQUESTS | h2 serve PORT BYTES\n");
        return 2;
    }
    prctl(PR_SET_TIMERSLACK, 1);
    conn_count = atoi(argv[3]);
    streams = atoi(argv[4]);
    double rate = atof(argv[5]), seconds = atof(argv[6]);
    load_templates(argv[7]);
    long wanted = rate > 0 ? (long)(rate * seconds) : -1, due_count = 0;
    backlog_cap = rate > 0 ? wanted + 1 : 1;
    backlog = calloc(backlog_cap, sizeof *backlog);
    conns = calloc(conn_count, sizeof *conns);
    for (int i = 0; i < conn_count; i++) {
        conns[i].index = i;
        dial(&conns[i]);
        flush(&conns[i]);
    }
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL}, ready[256];
    epoll_ctl(set, EPOLL_CTL_ADD, timer, &ev);
    int64_t begin = now_ns() + 1000000, end = begin + (int64_t)(seconds * 1e9), give_up = INT64_MAX;
    first_at = last_at = begin;
    for (;;) {
        int64_t t = now_ns();
        struct conn *c;
        int more;
        if (rate > 0) {
            for (; due_count < wanted; due_count++) {
                int64_t due = begin + (int64_t)(due_count * 1e9 / rate);
                if (due > t) break;
                backlog[(backlog_head + backlog_count++) % backlog_cap] = due;
            }
            while (backlog_count && (c = free_conn())) {
                start(c, backlog[backlog_head]);
                backlog_head = (backlog_head + 1) % backlog_cap;
                backlog_count--;
            }
            more = due_count < wanted || backlog_count;
            if (due_count < wanted) {
                int64_t at = begin + (int64_t)(due_count * 1e9 / rate);
                struct itimerspec when = {.it_value = {at / 1000000000L, at % 1000000000L}};
                timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
            }
        } else {
            more = t < end;
            while (more && (c = free_conn())) start(c, now_ns());
        }
        int open = 0;
        for (int i = 0; i < conn_count; i++) {
            c = &conns[i];
            if (c->leaving && !c->open) redial(c);
            else if (c->queued && !c->want_out) flush(c);
            open += c->open;
        }
        if (!more) {
            if (!open) break;
            if (give_up == INT64_MAX) give_up = t + DRAIN_NS;
            if (t > give_up) {
                failed += open;
                break;
            }
        }
        int n = epoll_wait(set, ready, 256, 100);
        for (int i = 0; i < n; i++) {
            c = ready[i].data.ptr;
            uint64_t ticks;
            if (!c) {
                if (read(timer, &ticks, 8) < 0) continue;
            } else if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) && readable(c, 0)) {
                redial(c);
            } else if (ready[i].events & EPOLLOUT) {
                flush(c);
            }
        }
    }
    printf("{\"sent\": %ld, \"completed\": %ld, \"bad_status\": %ld, \"failed\": %ld, \"reconnects\": %ld, "
           "\"seconds\": %.3f, \"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f}\n",
           sent, completed, bad_status, failed, reconnects, (last_at - first_at) / 1e9, percentile(.5),
           percentile(.9), percentile(.99), percentile(.999), worst / 1000.0);
    return 0;
}
