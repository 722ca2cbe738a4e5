/* Both ends of WebSocket echo (RFC 6455), for measuring what lies between them.
 *
 *   websocket echo PORT                                  listens on 0.0.0.0 and sends every message back
 *   websocket load PORT CONNECTIONS SECONDS BYTES HOST   sends messages of so many bytes, one in flight per connection
 *
 * The echo end also answers "GET /__count" with the number of messages so far, so that a caller can compare. The load
 * end masks every frame with a key of its own, as clients must, and compares what comes back. It prints one JSON object
 * of the same form as openload. Both trust their peer: they are measuring weights. The key of the handshake is always
 * the RFC's example, so its answer is a constant.
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
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define MAX_FD 65536
#define IN_BYTES (160 * 1024) /* two of the largest messages */
#define DRAIN_NS 10000000000L

struct peer {
    int fd, open;        /* the handshake is over */
    int used;
    int64_t sent_at;
    unsigned char *out;  /* what the kernel has not taken yet */
    size_t out_len, out_at;
    unsigned char in[IN_BYTES];
};

static struct peer *peers[MAX_FD];
static int set, size, loading;
static unsigned long messages;
static long sent, completed, wrong, failed;
static int64_t end_at, last_at;
static uint64_t unique = 88172645463325252ULL;
static unsigned char *payload, *frame;

/* Latency in microseconds, log-linear: 32 steps per power of two, so at most 3 % too low. */
static uint64_t histogram[64 * 40];
static int64_t worst;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void record(int64_t ns) {
    int64_t units = ns / 100; /* 0.1 us */
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

static void arm(struct peer *p, int out) {
    struct epoll_event ev = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = p};
    epoll_ctl(set, EPOLL_CTL_MOD, p->fd, &ev);
}

static int put(struct peer *p, const void *data, size_t len) {
    if (!p->out) {
        ssize_t n = send(p->fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) return -1;
        if (n < 0) n = 0;
        if ((size_t)n == len) return 0;
        p->out = malloc(len - n);
        p->out_len = len - n;
        p->out_at = 0;
        memcpy(p->out, (const char *)data + n, len - n);
        arm(p, 1);
        return 0;
    }
    p->out = realloc(p->out, p->out_len + len);
    memcpy(p->out + p->out_len, data, len);
    p->out_len += len;
    return 0;
}

static int flush_out(struct peer *p) {
    ssize_t n = send(p->fd, p->out + p->out_at, p->out_len - p->out_at, MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN ? 0 : -1;
    p->out_at += n;
    if (p->out_at == p->out_len) {
        free(p->out);
        p->out = NULL;
        arm(p, 0);
    }
    return 0;
}

/* The header of an unmasked or masked binary frame; returns its length. */
static int header(unsigned char *to, long len, int masked) {
    int at = 2;
    to[0] = 0x82;
    if (len < 126) {
        to[1] = len;
    } else if (len < 65536) {
        to[1] = 126;
        to[2] = len >> 8;
        to[3] = len;
        at = 4;
    } else {
        to[1] = 127;
        memset(to + 2, 0, 8);
        for (int i = 0; i < 4; i++) to[6 + i] = len >> (24 - 8 * i);
        at = 10;
    }
    if (masked) to[1] |= 0x80;
    return at;
}

static void mask(unsigned char *data, long len, uint32_t key) {
    long at = 0;
    uint64_t wide = (uint64_t)key << 32 | key, word;
    for (; at + 8 <= len; at += 8) {
        memcpy(&word, data + at, 8);
        word ^= wide;
        memcpy(data + at, &word, 8);
    }
    for (; at < len; at++) data[at] ^= ((unsigned char *)&key)[at & 3];
}

static int ask(struct peer *p) {
    unique ^= unique << 13;
    unique ^= unique >> 7;
    unique ^= unique << 17;
    uint32_t key = unique;
    int at = header(frame, size, 1);
    memcpy(frame + at, &key, 4);
    memcpy(frame + at + 4, payload, size);
    mask(frame + at + 4, size, key);
    p->sent_at = now_ns();
    sent++;
    return put(p, frame, at + 4 + size);
}

static int take_message(struct peer *p, unsigned char *data, long len) {
    if (loading) {
        int64_t t = now_ns();
        if (len != size || memcmp(data, payload, len)) wrong++;
        completed++;
        last_at = t;
        record(t - p->sent_at);
        return t < end_at ? ask(p) : 0;
    }
    messages++;
    unsigned char head[10];
    int at = header(head, len, 0);
    memcpy(data - at, head, at); /* the masked header that lay there was longer */
    return put(p, data - at, at + len);
}

static int take_head(struct peer *p, char *head) {
    if (loading) {
        if (strncmp(head, "HTTP/1.1 101", 12)) {
            wrong++;
            return -1;
        }
        p->open = 1;
        return now_ns() < end_at ? ask(p) : 0;
    }
    char answer[256];
    if (strcasestr(head, "\r\nsec-websocket-key:")) {
        p->open = 1;
        return put(p, answer, sprintf(answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                              "Connection: Upgrade\r\nSec-WebSocket-Accept: " ACCEPT "\r\n\r\n"));
    }
    char body[32];
    int n = sprintf(body, "%lu\n", messages);
    return put(p, answer, sprintf(answer, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", n, body));
}

static int readable(struct peer *p) {
    ssize_t n = recv(p->fd, p->in + p->used, IN_BYTES - p->used, 0);
    if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
    p->used += n;
    int at = 0;
    for (;;) {
        unsigned char *in = p->in + at;
        int left = p->used - at;
        if (!p->open) {
            char *end = memmem(in, left, "\r\n\r\n", 4);
            if (!end) break;
            *end = 0;
            at = (unsigned char *)end + 4 - p->in;
            if (take_head(p, (char *)in)) return -1;
            continue;
        }
        if (left < 2) break;
        long len = in[1] & 127;
        int head = 2, masked = in[1] >> 7;
        if (len == 126) {
            if (left < 4) break;
            len = in[2] << 8 | in[3];
            head = 4;
        } else if (len == 127) {
            if (left < 10) break;
            len = 0;
            for (int i = 2; i < 10; i++) len = len << 8 | in[i];
            head = 10;
        }
        if (left < head + 4 * masked + len) break;
        if ((in[0] & 15) == 8) return -1;
        if (masked) {
            uint32_t key;
            memcpy(&key, in + head, 4);
            mask(in + head + 4, len, key);
        }
        if (take_message(p, in + head + 4 * masked, len)) return -1;
        at += head + 4 * masked + len;
    }
    p->used -= at;
    memmove(p->in, p->in + at, p->used);
    return p->used == IN_BYTES ? -1 : 0;
}

static struct peer *add(int fd) {
    struct peer *p = calloc(1, sizeof *p);
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    p->fd = fd;
    peers[fd] = p;
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = p};
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &ev);
    return p;
}

static void drop(struct peer *p) {
    if (loading && completed < sent) failed++;
    close(p->fd);
    peers[p->fd] = NULL;
    free(p->out);
    free(p);
}

static void handle(struct epoll_event *ev) {
    struct peer *p = ev->data.ptr;
    int bad = 0;
    if (ev->events & EPOLLOUT && p->out) bad = flush_out(p);
    if (!bad && ev->events & (EPOLLIN | EPOLLHUP | EPOLLERR)) bad = readable(p);
    if (bad) drop(p);
}

static int echo(int port) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (bind(listener, (void *)&any, sizeof any) || listen(listener, 8192)) {
        perror("websocket");
        return 1;
    }
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL}, ready[512];
    epoll_ctl(set, EPOLL_CTL_ADD, listener, &ev);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(set, ready, 512, -1);
        for (int i = 0; i < n; i++) {
            int fd;
            if (ready[i].data.ptr) handle(&ready[i]);
            else while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) fd < MAX_FD ? (void)add(fd) : (void)close(fd);
        }
    }
}

static int load(int port, int connections, double seconds, const char *host) {
    payload = malloc(size + 1);
    frame = malloc(size + 16);
    for (int i = 0; i < size; i++) payload[i] = i * 31 + 7;
    char request[512];
    int len = sprintf(request, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " KEY "\r\n\r\n", host);
    int64_t begin = now_ns();
    end_at = last_at = begin + (int64_t)(seconds * 1e9);
    for (int i = 0; i < connections; i++) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (void *)&to, sizeof to)) {
            perror("websocket: connect");
            return 1;
        }
        fcntl(fd, F_SETFL, O_NONBLOCK);
        if (put(add(fd), request, len)) return 1;
    }
    struct epoll_event ready[512];
    while (now_ns() < end_at || (completed + failed < sent && now_ns() < end_at + DRAIN_NS)) {
        int n = epoll_wait(set, ready, 512, 100);
        for (int i = 0; i < n; i++) handle(&ready[i]);
    }
    if (completed + failed < sent) failed = sent - completed;
    printf("{\"sent\": %ld, \"completed\": %ld, \"bad_status\": %ld, \"failed\": %ld, \"seconds\": %.3f, \"p50_us\": %.1f, "
           "\"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f}\n",
           sent, completed, wrong, failed, (last_at - begin) / 1e9, percentile(.5), percentile(.99), percentile(.999),
           worst / 1000.0);
    return 0;
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    set = epoll_create1(0);
    if (argc == 3 && !strcmp(argv[1], "echo")) return echo(atoi(argv[2]));
    if (argc == 7 && !strcmp(argv[1], "load")) {
        loading = 1;
        size = atoi(argv[5]);
        return load(atoi(argv[2]), atoi(argv[3]), atof(argv[4]), argv[6]);
    }
    fprintf(stderr, "usage: websocket echo PORT | load PORT CONNECTIONS SECONDS BYTES HOST\n");
    return 2;
}
