/* Open-loop HTTP/1.1 load: requests are due at fixed times, whether or not earlier ones were answered.
 *
 *   openload PORT CONNECTIONS RATE SECONDS REQUESTS [hold]
 *
 * RATE requests per second in all, spaced evenly; 0 means closed loop: each connection sends its next request when it
 * has its answer. Latency counts from the moment a request was due, so a stalled proxy cannot hide the requests that
 * had to wait for a free connection (coordinated omission). REQUESTS is a file written by tests/bench/requests.py:
 * repeated [u32 length][u32 slots][u32 offset of slot]...[bytes], all little-endian; a slot is 16 bytes that are
 * replaced by fresh hexadecimal digits each time a request is sent. The requests are used in turn.
 *
 * SECONDS < 0 means that many requests instead of a time. Prints one JSON object when every request is answered; with
 * "hold" the connections then stay open until stdin ends.
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
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define IN_BYTES 16384
#define DRAIN_NS 10000000000L /* how long unanswered requests are waited for at the end */

struct template {
    uint32_t len, slots, *at;
    char *bytes;
};

struct conn {
    int fd, index;
    int busy;             /* a request is on its way */
    int64_t due;          /* when it should have been sent */
    struct template *t;
    size_t sent;
    int want_out;
    int in_body;          /* 0 head, 1 length, 2 chunk size line, 3 chunk data, 4 CRLF, 5 trailers */
    long left;
    int close_after, status;
    int used;
    char in[IN_BYTES];
};

static struct template *templates;
static int template_count, next_template;
static struct conn *conns;
static int *idle, idle_head, idle_count, conn_count; /* FIFO: all connections take turns */
static int64_t *backlog;
static long backlog_head, backlog_count, backlog_cap;
static int set, port;
static uint64_t unique = 88172645463325252ULL;
static long sent, completed, bad_status, failed, reconnects;
static int64_t first_at, last_at;
static int open_loop;
static char scratch[1 << 18];

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

static void load_templates(const char *file) {
    FILE *f = fopen(file, "rb");
    if (!f) {
        perror(file);
        exit(1);
    }
    uint32_t len;
    while (fread(&len, 4, 1, f) == 1) {
        templates = realloc(templates, (template_count + 1) * sizeof *templates);
        struct template *t = &templates[template_count++];
        t->len = len;
        if (fread(&t->slots, 4, 1, f) != 1) exit(1);
        t->at = malloc(4 * t->slots + 1);
        t->bytes = malloc(len);
        if (fread(t->at, 4, t->slots, f) != t->slots || fread(t->bytes, 1, len, f) != len) exit(1);
    }
    fclose(f);
    if (!template_count) exit(1);
}

static void refresh(struct template *t) {
    static const char digits[] = "0123456789abcdef";
    for (uint32_t s = 0; s < t->slots; s++) {
        unique ^= unique << 13;
        unique ^= unique >> 7;
        unique ^= unique << 17;
        uint64_t v = unique;
        char *to = t->bytes + t->at[s];
        for (int i = 0; i < 16; i++, v >>= 4) to[i] = digits[v & 15];
    }
}

static void dial(struct conn *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(c->fd, (void *)&to, sizeof to)) {
        perror("openload: connect");
        exit(1);
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(set, EPOLL_CTL_ADD, c->fd, &ev);
    c->used = c->in_body = c->close_after = c->want_out = 0;
    c->left = 0;
}

static void push_out(struct conn *c);

static void start(struct conn *c, int64_t due) {
    c->busy = 1;
    c->due = due;
    c->t = &templates[next_template];
    next_template = (next_template + 1) % template_count;
    /* A template larger than the socket buffer is sent in pieces: only templates without slots may be shared so. */
    refresh(c->t);
    c->sent = 0;
    sent++;
    push_out(c);
}

static void now_idle(struct conn *c) {
    idle[(idle_head + idle_count++) % conn_count] = c->index;
}

static void redial(struct conn *c) {
    close(c->fd);
    reconnects++;
    dial(c);
}

static void finish(struct conn *c, int ok) {
    int64_t t = now_ns();
    c->busy = 0;
    if (ok) {
        completed++;
        last_at = t;
        if (c->status < 200 || c->status > 299) bad_status++;
        record(t - c->due);
    } else {
        failed++;
    }
    if (!ok || c->close_after) redial(c);
    if (open_loop && backlog_count) {
        int64_t due = backlog[backlog_head];
        backlog_head = (backlog_head + 1) % backlog_cap;
        backlog_count--;
        start(c, due);
    } else {
        now_idle(c);
    }
}

static void arm(struct conn *c, int out) {
    if (c->want_out == out) return;
    c->want_out = out;
    struct epoll_event ev = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(set, EPOLL_CTL_MOD, c->fd, &ev);
}

static void push_out(struct conn *c) {
    while (c->sent < c->t->len) {
        ssize_t n = send(c->fd, c->t->bytes + c->sent, c->t->len - c->sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) arm(c, 1);
            return; /* an error shows up as readable */
        }
        c->sent += n;
    }
    arm(c, 0);
}

/* Returns 1 when the answer is complete, 0 when more is needed, -1 when it makes no sense. */
static int take(struct conn *c) {
    int at = 0, done = 0;
    while (!done) {
        if (c->in_body == 1 || c->in_body == 3 || c->in_body == 4) {
            long n = c->used - at < c->left ? c->used - at : c->left;
            at += n;
            c->left -= n;
            if (c->left) break;
            if (c->in_body == 1) done = 1;
            else if (c->in_body == 3) c->in_body = 4, c->left = 2;
            else c->in_body = 2;
            continue;
        }
        if (c->in_body) {
            char *nl = memchr(c->in + at, '\n', c->used - at);
            if (!nl) break;
            if (c->in_body == 2) {
                c->left = strtol(c->in + at, NULL, 16);
                c->in_body = c->left ? 3 : 5;
            } else if (nl - (c->in + at) <= 1) {
                done = 1;
            }
            at = nl + 1 - c->in;
            continue;
        }
        char *end = memmem(c->in + at, c->used - at, "\r\n\r\n", 4);
        if (!end) break;
        char *head = c->in + at;
        *end = 0;
        if (strncmp(head, "HTTP/1.", 7)) return -1;
        c->status = atoi(head + 9);
        at = end + 4 - c->in;
        if (c->status < 200) continue;
        char *cl = strcasestr(head, "\r\ncontent-length:"), *co = strcasestr(head, "\r\nconnection: close");
        c->close_after = co != NULL;
        if (cl) {
            c->left = strtol(cl + 17, NULL, 10);
            c->in_body = 1;
            if (!c->left) done = 1;
        } else if (strcasestr(head, "\r\ntransfer-encoding:")) {
            c->in_body = 2;
        } else {
            done = 1;
        }
    }
    c->used -= at;
    memmove(c->in, c->in + at, c->used);
    if (done) c->in_body = 0;
    return done ? 1 : c->used == IN_BYTES ? -1 : 0;
}

static void readable(struct conn *c) {
    for (;;) {
        ssize_t n;
        if (c->in_body == 1 && c->used == 0 && c->left > IN_BYTES) {
            n = recv(c->fd, scratch, (size_t)c->left < sizeof scratch ? (size_t)c->left : sizeof scratch, 0);
            if (n > 0) {
                c->left -= n;
                if (c->left) continue;
                c->in_body = 0;
                finish(c, 1);
                return;
            }
        } else {
            n = recv(c->fd, c->in + c->used, IN_BYTES - c->used, 0);
        }
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            if (c->busy) finish(c, 0);
            else redial(c);
            return;
        }
        c->used += n;
        int done = take(c);
        if (done < 0 || (done && !c->busy)) {
            if (c->busy) finish(c, 0);
            else redial(c);
            return;
        }
        if (done) {
            finish(c, 1);
            return;
        }
    }
}

int main(int argc, char **argv) {
    if (argc < 6) {
        fprintf(stderr, "usage: openload PORT CONNECTIONS RATE SECONDS REQUESTS [hold]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    port = atoi(argv[1]);
    conn_count = atoi(argv[2]);
    double rate = atof(argv[3]), seconds = atof(argv[4]);
    load_templates(argv[5]);
    open_loop = rate > 0;
    long wanted = seconds < 0 ? (long)-seconds : open_loop ? (long)(rate * seconds) : -1;
    set = epoll_create1(0);
    conns = calloc(conn_count, sizeof *conns);
    idle = calloc(conn_count, sizeof *idle);
    backlog_cap = open_loop ? wanted + 1 : 1;
    backlog = calloc(backlog_cap, sizeof *backlog);
    for (int i = 0; i < conn_count; i++) {
        conns[i].index = i;
        dial(&conns[i]);
        idle[idle_count++] = i;
    }
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL}, ready[512];
    epoll_ctl(set, EPOLL_CTL_ADD, timer, &ev);
    int64_t begin = now_ns() + 1000000, end = seconds > 0 ? begin + (int64_t)(seconds * 1e9) : INT64_MAX;
    long due_count = 0;
    int64_t give_up = INT64_MAX;
    first_at = begin;
    for (;;) {
        int64_t t = now_ns();
        int more;
        if (open_loop) {
            while (due_count < wanted) {
                int64_t due = begin + (int64_t)(due_count * 1e9 / rate);
                if (due > t) break;
                due_count++;
                if (idle_count) {
                    struct conn *c = &conns[idle[idle_head]];
                    idle_head = (idle_head + 1) % conn_count;
                    idle_count--;
                    start(c, due);
                } else {
                    backlog[(backlog_head + backlog_count++) % backlog_cap] = due;
                }
            }
            more = due_count < wanted;
        } else {
            more = t < end && (wanted < 0 || sent < wanted);
            for (int n = idle_count; more && n > 0 && t >= begin && (wanted < 0 || sent < wanted); n--) {
                struct conn *c = &conns[idle[idle_head]];
                idle_head = (idle_head + 1) % conn_count;
                idle_count--;
                start(c, now_ns());
            }
        }
        if (!more) {
            if (idle_count == conn_count && !backlog_count) break;
            if (give_up == INT64_MAX) give_up = t + DRAIN_NS;
            if (t > give_up) {
                failed += sent - completed - failed + backlog_count;
                break;
            }
        }
        int wait = 100;
        if (open_loop && due_count < wanted) {
            int64_t at = begin + (int64_t)(due_count * 1e9 / rate);
            struct itimerspec when = {.it_value = {at / 1000000000L, at % 1000000000L}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
        } else if (!open_loop && t < begin) {
            wait = 1;
        }
        int n = epoll_wait(set, ready, 512, wait);
        for (int i = 0; i < n; i++) {
            struct conn *c = ready[i].data.ptr;
            if (!c) {
                uint64_t ticks;
                if (read(timer, &ticks, 8) < 0) continue;
                continue;
            }
            if (ready[i].events & EPOLLOUT && c->busy && c->sent < c->t->len) push_out(c);
            if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
        }
    }
    double took = (last_at - first_at) / 1e9;
    printf("{\"sent\": %ld, \"completed\": %ld, \"bad_status\": %ld, \"failed\": %ld, \"reconnects\": %ld, "
           "\"seconds\": %.3f, \"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f}\n",
           sent, completed, bad_status, failed, reconnects, took, percentile(.5), percentile(.9), percentile(.99),
           percentile(.999), worst / 1000.0);
    fflush(stdout);
    if (argc > 6) {
        char c;
        while (read(0, &c, 1) > 0) {}
    }
    return 0;
}
