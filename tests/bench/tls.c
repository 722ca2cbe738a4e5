/* HTTP/1.1 load over TLS, closed loop: each connection sends its next request when it has its answer.
 *
 *   tls PORT CONNECTIONS SECONDS REQUESTS MODE NAME CA [CERTIFICATE KEY]
 *
 * MODE is what happens between two requests: "keep" nothing, "full" a new connection with a full handshake, "resumed"
 * a new connection that offers the last session its server gave. The server must show a certificate for NAME that CA
 * signed; CERTIFICATE and KEY are shown to it if it asks. REQUESTS is a file written by tests/bench/requests.py, see
 * openload.c. SECONDS < 0 means that many requests instead of a time. Answers must have a Content-Length. Prints one
 * JSON object when every request is answered.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define IN_BYTES 131072
#define DRAIN_NS 10000000000L /* how long unanswered requests are waited for at the end */
#define SOURCES 32            /* addresses that connections come from: closed ones block their port for a minute */

struct template {
    uint32_t len, slots, *at;
    char *bytes;
};

struct conn {
    int fd, source;
    SSL *ssl;
    SSL_SESSION *session; /* the last one this connection's server gave */
    int connected, busy, writing;
    int64_t due;
    char *request;
    size_t request_len;
    int used;
    char in[IN_BYTES];
};

static struct template *templates;
static int template_count, next_template, set, port, resume, keep;
static uint64_t unique = 88172645463325252ULL;
static long sent, completed, bad_status, failed, handshakes, resumed;
static int64_t last_at;
static const char *name;
static SSL_CTX *context;
static double *latencies;
static long latency_cap;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
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
        for (int i = 0; i < 16; i++, v >>= 4) t->bytes[t->at[s] + i] = digits[v & 15];
    }
}

/* Takes the session over: returning 1 keeps the reference that OpenSSL passes. */
static int remember(SSL *ssl, SSL_SESSION *session) {
    struct conn *c = SSL_get_app_data(ssl);
    SSL_SESSION_free(c->session);
    c->session = session;
    return 1;
}

static void dial(struct conn *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)}, from = {.sin_family = AF_INET};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (!keep) {
        from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + c->source++ % SOURCES);
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        bind(c->fd, (void *)&from, sizeof from);
    }
    if (connect(c->fd, (void *)&to, sizeof to)) {
        perror("tls: connect");
        exit(1);
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(set, EPOLL_CTL_ADD, c->fd, &ev);
    c->ssl = SSL_new(context);
    SSL_set_app_data(c->ssl, c);
    SSL_set_fd(c->ssl, c->fd);
    SSL_set_tlsext_host_name(c->ssl, name);
    SSL_set1_host(c->ssl, name);
    if (resume && c->session) SSL_set_session(c->ssl, c->session);
    c->connected = c->used = c->writing = 0;
}

static void hang_up(struct conn *c, int well) {
    if (well) SSL_shutdown(c->ssl);
    SSL_free(c->ssl);
    close(c->fd);
    c->ssl = NULL;
}

static void finish(struct conn *c, int ok, int status, int close_after) {
    c->busy = 0;
    if (ok) {
        int64_t t = last_at = now_ns();
        if (completed == latency_cap) latencies = realloc(latencies, (latency_cap = latency_cap * 2 + 1024) * sizeof *latencies);
        latencies[completed++] = (t - c->due) / 1000.0;
        if (status < 200 || status > 299) bad_status++;
    } else {
        if (!failed) ERR_print_errors_fp(stderr);
        failed++;
    }
    if (!ok || !keep || close_after) hang_up(c, ok);
}

/* Whether to go on; 0 when the socket must be waited for, -1 when the connection is broken. */
static int again(struct conn *c, int result) {
    if (result > 0) return 1;
    int error = SSL_get_error(c->ssl, result), out = error == SSL_ERROR_WANT_WRITE;
    if (error != SSL_ERROR_WANT_READ && !out) return -1;
    struct epoll_event ev = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c};
    if (out != c->writing) epoll_ctl(set, EPOLL_CTL_MOD, c->fd, &ev);
    c->writing = out;
    return 0;
}

static void take(struct conn *c) {
    char *end = memmem(c->in, c->used, "\r\n\r\n", 4);
    if (!end) {
        if (c->used == IN_BYTES) finish(c, 0, 0, 0);
        return;
    }
    *end = 0;
    char *length = strcasestr(c->in, "\r\ncontent-length:"), *closing = strcasestr(c->in, "\r\nconnection: close");
    int status = strncmp(c->in, "HTTP/1.", 7) ? 0 : atoi(c->in + 9), want = length ? atoi(length + 17) : -1;
    *end = '\r';
    int whole = end + 4 - c->in + want;
    if (want < 0 || whole > IN_BYTES || c->used > whole) finish(c, 0, 0, 0);
    else if (c->used == whole) {
        c->used = 0;
        finish(c, 1, status, closing != NULL);
    }
}

static void go_on(struct conn *c) {
    int state;
    if (!c->connected) {
        ERR_clear_error();
        state = again(c, SSL_connect(c->ssl));
        if (state < 0) finish(c, 0, 0, 0);
        if (state <= 0) return;
        c->connected = 1;
        handshakes++;
        resumed += SSL_session_reused(c->ssl);
    }
    if (c->request) {
        ERR_clear_error();
        state = again(c, SSL_write(c->ssl, c->request, c->request_len));
        if (state < 0) finish(c, 0, 0, 0);
        if (state <= 0) return;
        free(c->request);
        c->request = NULL;
    }
    while (c->ssl && c->busy) {
        ERR_clear_error();
        int n = SSL_read(c->ssl, c->in + c->used, IN_BYTES - c->used);
        state = again(c, n);
        if (state < 0) finish(c, 0, 0, 0);
        if (state <= 0) return;
        c->used += n;
        take(c);
    }
}

static void start(struct conn *c) {
    struct template *t = &templates[next_template];
    next_template = (next_template + 1) % template_count;
    refresh(t);
    c->request = memcpy(malloc(t->len), t->bytes, t->len);
    c->request_len = t->len;
    c->busy = 1;
    c->due = now_ns();
    sent++;
    if (!c->ssl) dial(c);
    go_on(c);
}

static int by_size(const void *a, const void *b) {
    return (*(double *)a > *(double *)b) - (*(double *)a < *(double *)b);
}

static double percentile(double p) {
    return completed ? latencies[(long)(p * (completed - 1))] : 0;
}

int main(int argc, char **argv) {
    if (argc < 8) {
        fprintf(stderr, "usage: tls PORT CONNECTIONS SECONDS REQUESTS keep|full|resumed NAME CA [CERTIFICATE KEY]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    port = atoi(argv[1]);
    int count = atoi(argv[2]);
    double seconds = atof(argv[3]);
    load_templates(argv[4]);
    keep = !strcmp(argv[5], "keep");
    resume = !strcmp(argv[5], "resumed");
    name = argv[6];
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, remember);
    if (SSL_CTX_load_verify_file(context, argv[7]) != 1 ||
        (argc > 9 && (SSL_CTX_use_certificate_chain_file(context, argv[8]) != 1 ||
                      SSL_CTX_use_PrivateKey_file(context, argv[9], SSL_FILETYPE_PEM) != 1))) {
        ERR_print_errors_fp(stderr);
        return 1;
    }
    set = epoll_create1(0);
    struct conn *conns = calloc(count, sizeof *conns);
    for (int i = 0; i < count; i++) conns[i].source = i;
    struct epoll_event ready[512];
    long wanted = seconds < 0 ? (long)-seconds : -1;
    int64_t begin = now_ns(), end = seconds > 0 ? begin + (int64_t)(seconds * 1e9) : INT64_MAX, give_up = INT64_MAX;
    for (;;) {
        int64_t t = now_ns();
        int busy = 0;
        for (int i = 0; i < count; i++) {
            int more = t < end && (wanted < 0 || sent < wanted);
            if (more && !conns[i].busy) start(&conns[i]);
            busy += conns[i].busy;
        }
        if (!busy && (t >= end || (wanted >= 0 && sent >= wanted))) break;
        if (give_up == INT64_MAX && t >= end) give_up = t + DRAIN_NS;
        if (t > give_up) {
            failed += busy;
            break;
        }
        int n = epoll_wait(set, ready, 512, busy == count ? 100 : 0);
        for (int i = 0; i < n; i++) {
            struct conn *c = ready[i].data.ptr;
            if (c->ssl && c->busy) go_on(c);
            else if (c->ssl) {
                /* Tickets that come late, or the end of a connection that is idle. */
                char byte;
                ERR_clear_error();
                if (again(c, SSL_read(c->ssl, &byte, 1)) < 0) hang_up(c, 0);
            }
        }
    }
    qsort(latencies, completed, sizeof *latencies, by_size);
    printf("{\"sent\": %ld, \"completed\": %ld, \"bad_status\": %ld, \"failed\": %ld, \"handshakes\": %ld, "
           "\"resumed\": %ld, \"seconds\": %.3f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f}\n",
           sent, completed, bad_status, failed, handshakes, resumed, (last_at - begin) / 1e9, percentile(.5),
           percentile(.99), percentile(.999), percentile(1));
    return 0;
}
