/* A keep-alive HTTP/1.1 endpoint that costs next to nothing: it answers every request with the same bytes.
 *
 *   answer PORT BYTES
 *
 * Listens on 0.0.0.0:PORT, so every address of 127.0.0.0/8 is an endpoint of its own to a proxy. Request bodies are
 * read by Content-Length or chunked framing and dropped. "GET /__count" answers the number of requests so far, itself
 * not counted, so that a caller can compare. It trusts its peer: it is a measuring weight, not a server.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_BYTES 16384
#define MAX_FD 65536

struct peer {
    int used;            /* bytes in buf */
    long body_left;      /* of the request being read */
    int chunked;         /* reading a chunked body: 1 size line, 2 data, 3 CRLF after data, 4 trailers */
    char *out;           /* what the kernel has not taken yet */
    size_t out_len, out_at;
    char buf[HEAD_BYTES];
};

static struct peer *peers[MAX_FD];
static char *reply;
static size_t reply_len;
static unsigned long requests;
static int set;
static char scratch[1 << 18];

static void drop(int fd) {
    free(peers[fd]->out);
    free(peers[fd]);
    peers[fd] = NULL;
    close(fd);
}

/* Returns -1 if the connection is gone. */
static int write_all(int fd, const char *data, size_t len) {
    struct peer *p = peers[fd];
    if (!p->out) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) return -1;
        if (n < 0) n = 0;
        if ((size_t)n == len) return 0;
        data += n;
        len -= n;
        p->out = malloc(len);
        p->out_len = len;
        p->out_at = 0;
        memcpy(p->out, data, len);
        struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data.fd = fd};
        epoll_ctl(set, EPOLL_CTL_MOD, fd, &ev);
        return 0;
    }
    p->out = realloc(p->out, p->out_len + len);
    memcpy(p->out + p->out_len, data, len);
    p->out_len += len;
    return 0;
}

static int flush_out(int fd) {
    struct peer *p = peers[fd];
    ssize_t n = send(fd, p->out + p->out_at, p->out_len - p->out_at, MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN ? 0 : -1;
    p->out_at += n;
    if (p->out_at == p->out_len) {
        free(p->out);
        p->out = NULL;
        struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(set, EPOLL_CTL_MOD, fd, &ev);
    }
    return 0;
}

static int answer_one(int fd, int count) {
    if (!count) {
        requests++;
        return write_all(fd, reply, reply_len);
    }
    char body[32], head[128];
    int n = snprintf(body, sizeof body, "%lu\n", requests);
    int h = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", n, body);
    return write_all(fd, head, h);
}

/* Consumes as much of buf as makes whole requests. Returns -1 on a peer we do not understand. */
static int consume(int fd) {
    struct peer *p = peers[fd];
    int at = 0;
    for (;;) {
        if (p->chunked) {
            if (p->chunked == 2 || p->chunked == 3) {
                long n = p->used - at < p->body_left ? p->used - at : p->body_left;
                at += n;
                p->body_left -= n;
                if (p->body_left) break;
                p->chunked = p->chunked == 2 ? 3 : 1;
                if (p->chunked == 3) p->body_left = 2;
                continue;
            }
            char *nl = memchr(p->buf + at, '\n', p->used - at);
            if (!nl) break;
            if (p->chunked == 1) {
                p->body_left = strtol(p->buf + at, NULL, 16);
                p->chunked = p->body_left ? 2 : 4;
            } else if (nl - (p->buf + at) <= 1) {
                p->chunked = 0;
                if (answer_one(fd, 0) < 0) return -1;
            }
            at = nl + 1 - p->buf;
            continue;
        }
        if (p->body_left) {
            long n = p->used - at < p->body_left ? p->used - at : p->body_left;
            at += n;
            p->body_left -= n;
            if (p->body_left) break;
            if (answer_one(fd, 0) < 0) return -1;
            continue;
        }
        char *end = memmem(p->buf + at, p->used - at, "\r\n\r\n", 4);
        if (!end) break;
        char *head = p->buf + at;
        int count = !memcmp(head, "GET /__count", 12);
        if (head[0] != 'G') { /* only requests other than GET are searched for a body */
            *end = 0;
            char *cl = strcasestr(head, "\r\ncontent-length:");
            if (cl) p->body_left = strtol(cl + 17, NULL, 10);
            else if (strcasestr(head, "\r\ntransfer-encoding:")) p->chunked = 1;
        }
        at = end + 4 - p->buf;
        if (!p->body_left && !p->chunked && answer_one(fd, count) < 0) return -1;
    }
    p->used -= at;
    memmove(p->buf, p->buf + at, p->used);
    return p->used == HEAD_BYTES ? -1 : 0;
}

static int readable(int fd) {
    struct peer *p = peers[fd];
    if (p->body_left > HEAD_BYTES && p->used == 0) { /* a big body: past the small buffer */
        size_t want = (size_t)p->body_left < sizeof scratch ? (size_t)p->body_left : sizeof scratch;
        ssize_t n = recv(fd, scratch, want, 0);
        if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
        p->body_left -= n;
        if (p->body_left) return 0;
        if (p->chunked) {
            p->chunked = p->chunked == 2 ? 3 : 1;
            p->body_left = p->chunked == 3 ? 2 : 0;
            return 0;
        }
        return answer_one(fd, 0);
    }
    ssize_t n = recv(fd, p->buf + p->used, HEAD_BYTES - p->used, 0);
    if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
    p->used += n;
    return consume(fd);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: answer PORT BYTES\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    long size = atol(argv[2]);
    reply = malloc(size + 256);
    reply_len = sprintf(reply, "HTTP/1.1 200 OK\r\nServer: answer\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
                               "Content-Type: text/plain\r\nContent-Length: %ld\r\n\r\n", size);
    memset(reply + reply_len, 'x', size);
    reply_len += size;

    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    if (bind(listener, (void *)&any, sizeof any) || listen(listener, 8192)) {
        perror("answer");
        return 1;
    }
    set = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = listener}, ready[512];
    epoll_ctl(set, EPOLL_CTL_ADD, listener, &ev);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(set, ready, 512, -1);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener) {
                int peer;
                while ((peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    if (peer >= MAX_FD) {
                        close(peer);
                        continue;
                    }
                    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    peers[peer] = calloc(1, sizeof *peers[peer]);
                    struct epoll_event fresh = {.events = EPOLLIN, .data.fd = peer};
                    epoll_ctl(set, EPOLL_CTL_ADD, peer, &fresh);
                }
                continue;
            }
            if (!peers[fd]) continue;
            int bad = 0;
            if (ready[i].events & EPOLLOUT && peers[fd]->out) bad = flush_out(fd);
            if (!bad && ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) bad = readable(fd);
            if (bad) drop(fd);
        }
    }
}
