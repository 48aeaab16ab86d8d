/*
 * rload - a small load generator for the Redis protocol, plaintext or TLS 1.3.
 *
 * One thread, epoll, closed loop or open loop at a fixed rate.  It reads the
 * CPU time of the processes under test at the start and the end of its own
 * measured window, so that "CPU per operation" needs no synchronisation with
 * an outside script.  Result: one line of JSON on stdout.
 *
 *   rload -p PORT [-h ADDR] [-T -A ca.pem [-S ciphersuite]] -m MODE [...]
 *
 *   -m get|set     load; -c conns  -P pipeline  -d value bytes  -k keyspace
 *                  -t seconds measured  -w seconds of warm-up before
 *                  -r ops/s: open loop at that rate; latency is then counted
 *                  from the time an operation was DUE (no coordinated omission)
 *   -m load        write the keyspace once, then stop
 *   -m hs|hsr      connect, TLS handshake, PING, close, again; hsr resumes the
 *                  slot's last session
 *   -m idle        open -c connections (PING on each), in steps given by
 *                  -s N,N,..; print the RSS of the processes at each step, hold
 *                  -t seconds, close all, print RSS once more
 *   -m again -e CMD   open -c connections (SET on each), run CMD to its end (a
 *                  switchover), then one SET on every connection at once: how
 *                  long until all are answered; lost connections are reopened
 *   -x NAME=PID[,PID..]   (repeatable) processes whose CPU time is read;
 *                  children are NOT followed, name every pid
 *
 * What is read of time, processes and the machine is in readings.h.
 *
 * Every GET reply is checked: length, and that the value starts with the key
 * asked for (a reply that went to the wrong client is counted in "bad").
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "readings.h"

enum { M_GET, M_SET, M_LOAD, M_HS, M_HSR, M_IDLE, M_AGAIN };
enum { S_NONE, S_CONNECT, S_TLS, S_READY };

/* ------------------------------------------------------------ options */
static const char *o_host = "127.0.0.1", *o_ca, *o_suite = "TLS_AES_128_GCM_SHA256";
static int o_port, o_conns = 50, o_pipe = 1, o_size = 64, o_keys = 1000, o_mode = M_GET;
static bool o_tls;
static double o_secs = 4, o_warm = 1, o_rate;
static const char *o_steps, *o_cmd;

/* ------------------------------------------------------------ helpers */
static void die(const char *what)
{
	fprintf(stderr, "rload: %s: %s\n", what, strerror(errno));
	ERR_print_errors_fp(stderr);
	exit(2);
}

/* ------------------------------------------------------------ connections */
struct conn {
	int fd, state, idx;
	SSL *ssl;
	SSL_SESSION *sess;
	uint32_t ev;
	char *out;
	size_t out_len, out_off;
	int left, done;   /* replies outstanding; replies of this batch read */
	int *keys;
	u64 t0;           /* when this batch was sent, or due */
	u64 k;            /* how many batches this connection has sent (open loop) */
	int ps;           /* parser: 0 type, 1 number, 2 '\n', 3 body */
	char type;
	long num, body;
	bool neg;
	char head[12];
	int headn;
};
static struct conn *C;
static int ep;
static SSL_CTX *ctx;
static u64 ops, errs, bad, conns_made, resumed, lost, t_start, t_measure, t_end;
static bool measuring;
static double step_ns; /* open loop: time between two batches, over all connections */
static struct sockaddr_in peer;
static char rbuf[256 * 1024];
static unsigned seed = 12345;
static unsigned rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	return seed;
}
static void digits(char *p, int v)
{
	for (int i = 11; i >= 0; i--) p[i] = (char)('0' + v % 10), v /= 10;
}

/* the batch of one connection is laid out once; only the digits change */
static size_t cmd_len, key_at, val_at;
static void layout(struct conn *c)
{
	char h[128];
	if (o_mode == M_HS || o_mode == M_HSR || o_mode == M_IDLE) {
		c->out = strdup("*1\r\n$4\r\nPING\r\n");
		c->out_len = strlen(c->out);
		return;
	}
	if (o_mode == M_GET) {
		int n = snprintf(h, sizeof h, "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000000\r\n");
		cmd_len = (size_t)n, key_at = (size_t)n - 14, val_at = 0;
		c->out = malloc(cmd_len * (size_t)o_pipe);
		for (int i = 0; i < o_pipe; i++) memcpy(c->out + (size_t)i * cmd_len, h, cmd_len);
	} else {
		int n = snprintf(h, sizeof h, "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000000\r\n$%d\r\n", o_size);
		size_t klen = strlen("*3\r\n$3\r\nSET\r\n$16\r\nkey:");
		key_at = klen, val_at = (size_t)n, cmd_len = (size_t)n + (size_t)o_size + 2;
		c->out = malloc(cmd_len * (size_t)o_pipe);
		for (int i = 0; i < o_pipe; i++) {
			char *p = c->out + (size_t)i * cmd_len;
			memcpy(p, h, (size_t)n);
			for (int j = 0; j < o_size; j++) p[n + j] = (char)('a' + (j * 7 + j / 251) % 26);
			memcpy(p + n + o_size, "\r\n", 2);
		}
	}
	c->out_len = cmd_len * (size_t)o_pipe;
	c->keys = calloc((size_t)o_pipe, sizeof(int));
}
static int load_next;
static void fill(struct conn *c)
{
	if (o_mode == M_HS || o_mode == M_HSR || o_mode == M_IDLE) {
		c->left = 1, c->done = 0, c->out_off = 0;
		return;
	}
	for (int i = 0; i < o_pipe; i++) {
		int k = o_mode == M_AGAIN ? c->idx : o_mode == M_LOAD ? load_next++ % o_keys : (int)(rnd() % (unsigned)o_keys);
		c->keys[i] = k;
		char *p = c->out + (size_t)i * cmd_len;
		digits(p + key_at, k);
		if (val_at && o_size >= 12) digits(p + val_at, k);
	}
	c->left = o_pipe, c->done = 0, c->out_off = 0;
}
static void want(struct conn *c, uint32_t ev)
{
	if (c->ev == ev) return;
	struct epoll_event e = { .events = ev, .data.ptr = c };
	epoll_ctl(ep, c->ev ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &e);
	c->ev = ev;
}
static unsigned src_ip;
static void conn_open(struct conn *c)
{
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0) die("socket");
	int one = 1;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if ((o_mode == M_HS || o_mode == M_HSR || o_mode >= M_IDLE) &&
	    (ntohl(peer.sin_addr.s_addr) >> 24) == 127) { /* many source addresses: ports do not run out */
		struct sockaddr_in s = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002u + src_ip++ % 200u) };
		setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
		if (bind(c->fd, (struct sockaddr *)&s, sizeof s)) die("bind");
	}
	c->t0 = now_ns();
	if (connect(c->fd, (struct sockaddr *)&peer, sizeof peer) && errno != EINPROGRESS) die("connect");
	c->state = S_CONNECT, c->ev = 0, c->ps = 0;
	want(c, EPOLLOUT);
}
static void conn_close(struct conn *c)
{
	if (c->ssl) {
		SSL_shutdown(c->ssl);
		SSL_free(c->ssl);
		c->ssl = NULL;
	}
	close(c->fd);
	c->state = S_NONE, c->ev = 0, c->fd = -1;
}
static int open_ready;
static u64 again_t; /* when the change was over */
static int again_done;
static void lost_conn(struct conn *c)
{
	lost++;
	if (lost < 4) {
		fprintf(stderr, "rload: connection %d lost in state %d: %s\n", c->idx, c->state, strerror(errno));
		ERR_print_errors_fp(stderr);
	}
	if (o_mode == M_LOAD) exit(2);
	if (lost > 1000) { fprintf(stderr, "rload: too many lost connections\n"); exit(3); }
	ERR_clear_error();
	if (c->state == S_READY && o_mode >= M_IDLE && !again_t) open_ready--;
	conn_close(c);
	if (o_mode != M_IDLE) conn_open(c);
}
static void on_reply_batch(struct conn *c);

/* true: everything is written */
static bool flush_out(struct conn *c)
{
	while (c->out_off < c->out_len) {
		ssize_t n;
		if (c->ssl) {
			n = SSL_write(c->ssl, c->out + c->out_off, (int)(c->out_len - c->out_off));
			if (n <= 0) {
				int e = SSL_get_error(c->ssl, (int)n);
				if (e == SSL_ERROR_WANT_WRITE || e == SSL_ERROR_WANT_READ) { want(c, EPOLLIN | EPOLLOUT); return false; }
				lost_conn(c);
				return false;
			}
		} else {
			n = send(c->fd, c->out + c->out_off, c->out_len - c->out_off, MSG_NOSIGNAL);
			if (n < 0) {
				if (errno == EAGAIN) { want(c, EPOLLIN | EPOLLOUT); return false; }
				lost_conn(c);
				return false;
			}
		}
		c->out_off += (size_t)n;
	}
	want(c, EPOLLIN);
	return true;
}
static void send_batch(struct conn *c, u64 t0)
{
	fill(c);
	c->t0 = t0;
	c->k++;
	flush_out(c);
}
static u64 due(struct conn *c)
{
	return t_start + (u64)(((double)c->idx + (double)c->k * o_conns) * step_ns);
}
static void next_batch(struct conn *c)
{
	if (o_mode == M_LOAD) {
		if (load_next < o_keys) send_batch(c, now_ns());
		return;
	}
	if (o_rate > 0) {
		u64 d = due(c);
		if (d <= now_ns()) send_batch(c, d);
		return;
	}
	send_batch(c, now_ns());
}
static void reply_done(struct conn *c, u64 now)
{
	if (c->type == '-') errs++;
	if (o_mode == M_GET && c->type == '$') {
		char w[12];
		digits(w, c->keys[c->done]);
		if (c->num != o_size || (o_size >= 12 && memcmp(w, c->head, 12))) bad++;
	}
	c->done++;
	c->left--;
	if (measuring && o_mode <= M_SET) {
		ops++;
		hist_add(now > c->t0 ? now - c->t0 : 1);
	}
}
static void parse(struct conn *c, const char *p, size_t n, u64 now)
{
	const char *e = p + n;
	while (p < e) {
		switch (c->ps) {
		case 0:
			if (!c->left) { bad++; return; }
			c->type = *p++, c->num = 0, c->neg = false, c->headn = 0;
			c->ps = 1;
			break;
		case 1: {
			char ch = *p++;
			if (ch == '\r') c->ps = 2;
			else if (ch == '-') c->neg = true;
			else if (c->type == '$' && ch >= '0' && ch <= '9') c->num = c->num * 10 + (ch - '0');
			break;
		}
		case 2:
			p++;
			if (c->type == '$' && !c->neg) c->body = c->num + 2, c->ps = 3;
			else {
				if (c->neg && c->type == '$') bad++;
				c->ps = 0;
				reply_done(c, now);
			}
			break;
		default: {
			long have = e - p < c->body ? (long)(e - p) : c->body;
			for (long i = 0; i < have && c->headn < 12; i++) c->head[c->headn++] = p[i];
			p += have, c->body -= have;
			if (!c->body) c->ps = 0, reply_done(c, now);
		}
		}
	}
}
static void on_in(struct conn *c)
{
	for (;;) {
		ssize_t n;
		if (c->ssl) {
			n = SSL_read(c->ssl, rbuf, sizeof rbuf);
			if (n <= 0) {
				int e = SSL_get_error(c->ssl, (int)n);
				if (e == SSL_ERROR_WANT_READ) return;
				if (e == SSL_ERROR_WANT_WRITE) { want(c, EPOLLIN | EPOLLOUT); return; }
				lost_conn(c);
				return;
			}
		} else {
			n = recv(c->fd, rbuf, sizeof rbuf, 0);
			if (n < 0 && errno == EAGAIN) return;
			if (n <= 0) { lost_conn(c); return; }
		}
		bool waiting = c->left > 0;
		parse(c, rbuf, (size_t)n, now_ns());
		if (waiting && !c->left) { on_reply_batch(c); return; }
		if (!c->ssl && n < (ssize_t)sizeof rbuf) return;
	}
}
static void on_reply_batch(struct conn *c)
{
	if (o_mode == M_HS || o_mode == M_HSR) {
		if (measuring) ops++;
		conn_close(c);
		conn_open(c);
	} else if (again_t) {
		hist_add(now_ns() - again_t);
		again_done++;
	} else if (o_mode >= M_IDLE) {
		open_ready++;
	} else next_batch(c);
}
static void on_connected(struct conn *c)
{
	c->state = S_READY;
	conns_made++;
	if (c->ssl && SSL_session_reused(c->ssl) && measuring) resumed++;
	if (o_mode == M_HS || o_mode == M_HSR || o_mode >= M_IDLE) {
		if (measuring) hist_add(now_ns() - c->t0);
		fill(c);
		flush_out(c);
	} else {
		open_ready++;
		want(c, EPOLLIN);
		if (t_start) next_batch(c); /* reconnected during the run */
	}
}
static void on_tls(struct conn *c)
{
	int r = SSL_connect(c->ssl);
	if (r == 1) { on_connected(c); return; }
	int e = SSL_get_error(c->ssl, r);
	if (e == SSL_ERROR_WANT_READ) want(c, EPOLLIN);
	else if (e == SSL_ERROR_WANT_WRITE) want(c, EPOLLOUT);
	else lost_conn(c);
}
static void on_event(struct conn *c, uint32_t ev)
{
	if (c->state == S_CONNECT) {
		int err = 0;
		socklen_t l = sizeof err;
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &l);
		if (err) { errno = err; lost_conn(c); return; }
		if (!(ev & EPOLLOUT)) return;
		if (!o_tls) { on_connected(c); return; }
		c->ssl = SSL_new(ctx);
		SSL_set_fd(c->ssl, c->fd);
		SSL_set_tlsext_host_name(c->ssl, "localhost");
		SSL_set_app_data(c->ssl, c);
		if (o_mode == M_HSR && c->sess) SSL_set_session(c->ssl, c->sess);
		c->state = S_TLS;
		on_tls(c);
		return;
	}
	if (c->state == S_TLS) { on_tls(c); return; }
	if (c->state != S_READY) return;
	int fd = c->fd;
	if ((ev & EPOLLOUT) && c->out_off < c->out_len && !flush_out(c) && c->fd != fd) return;
	if (c->fd == fd && c->state == S_READY && (ev & (EPOLLIN | EPOLLHUP | EPOLLERR))) on_in(c);
}
static int new_session(SSL *s, SSL_SESSION *sess)
{
	struct conn *c = SSL_get_app_data(s);
	if (o_mode != M_HSR || !c) return 0;
	if (c->sess) SSL_SESSION_free(c->sess);
	c->sess = sess;
	return 1;
}
static void wait_events(long max_ns)
{
	struct epoll_event e[512];
	struct timespec ts = { max_ns / 1000000000, max_ns % 1000000000 };
	int n = epoll_pwait2(ep, e, 512, &ts, NULL);
	for (int i = 0; i < n; i++) on_event(e[i].data.ptr, e[i].events);
}
static void settle(double secs)
{
	u64 end = now_ns() + (u64)(secs * 1e9);
	while (now_ns() < end) wait_events(20000000);
}
static void open_to(int n)
{
	u64 limit = now_ns() + 60ull * 1000000000u;
	static int opened;
	while (open_ready < n) {
		while (opened < n && opened - open_ready < 64) conn_open(&C[opened++]);
		wait_events(10000000);
		if (now_ns() > limit || lost > 100) {
			fprintf(stderr, "rload: only %d of %d connections opened\n", open_ready, n);
			exit(3);
		}
	}
}
static int idle_mode(void)
{
	printf("{\"mode\":\"idle\",\"steps\":[");
	print_rss(0, true);
	char *s = strdup(o_steps ? o_steps : ""), *save = NULL;
	for (char *t = strtok_r(s, ",", &save); t; t = strtok_r(NULL, ",", &save)) {
		open_to(atoi(t));
		settle(1.5);
		print_rss(atoi(t), false);
	}
	open_to(o_conns);
	settle(1.5);
	sample(false);
	settle(o_secs);
	sample(true);
	print_rss(o_conns, false);
	int held = open_ready;
	for (int i = 0; i < o_conns; i++)
		if (C[i].state == S_READY) conn_close(&C[i]);
	settle(2);
	print_rss(0, false);
	printf("],\"held\":%d,\"lost\":%llu,\"secs\":%.3f", held, (unsigned long long)lost, o_secs);
	print_groups();
	printf("}\n");
	return 0;
}
static int again_mode(void)
{
	open_to(o_conns);
	settle(1);
	lost = errs = 0;
	u64 began = now_ns();
	int rc = system(o_cmd);
	if (rc) { fprintf(stderr, "rload: the command failed: %d\n", rc); return 3; }
	sample(false);
	again_t = now_ns();
	for (int i = 0; i < o_conns; i++)
		if (C[i].state == S_READY) send_batch(&C[i], again_t);
	while (again_done < o_conns && now_ns() < again_t + 60ull * 1000000000u) wait_events(10000000);
	sample(true);
	printf("{\"mode\":\"again\",\"conns\":%d,\"answered\":%d,\"change_ms\":%.1f,\"p50_ms\":%.1f,\"all_ms\":%.1f,\"err\":%llu,\"lost\":%llu",
	       o_conns, again_done, (double)(again_t - began) / 1e6, hist_q(.5) / 1e3, hist_q(.9999999) / 1e3,
	       (unsigned long long)errs, (unsigned long long)lost);
	print_groups();
	printf("}\n");
	return again_done < o_conns || errs ? 1 : 0;
}
int main(int argc, char **argv)
{
	int ch;
	while ((ch = getopt(argc, argv, "h:p:TA:S:m:c:P:d:k:t:w:r:x:s:e:")) != -1) switch (ch) {
		case 'h': o_host = optarg; break;
		case 'p': o_port = atoi(optarg); break;
		case 'T': o_tls = true; break;
		case 'A': o_ca = optarg; break;
		case 'S': o_suite = optarg; break;
		case 'c': o_conns = atoi(optarg); break;
		case 'P': o_pipe = atoi(optarg); break;
		case 'd': o_size = atoi(optarg); break;
		case 'k': o_keys = atoi(optarg); break;
		case 't': o_secs = atof(optarg); break;
		case 'w': o_warm = atof(optarg); break;
		case 'r': o_rate = atof(optarg); break;
		case 's': o_steps = optarg; break;
		case 'e': o_cmd = optarg; break;
		case 'm':
			o_mode = !strcmp(optarg, "get") ? M_GET : !strcmp(optarg, "set") ? M_SET : !strcmp(optarg, "load") ? M_LOAD :
				 !strcmp(optarg, "hs") ? M_HS : !strcmp(optarg, "hsr") ? M_HSR : !strcmp(optarg, "idle") ? M_IDLE :
				 !strcmp(optarg, "again") ? M_AGAIN : -1;
			if (o_mode < 0) { fprintf(stderr, "rload: unknown mode %s\n", optarg); return 2; }
			break;
		case 'x': {
			struct grp *g = &grp[ngrp];
			char *eq = strchr(optarg, '=');
			if (!eq || ngrp == MAXG) { fprintf(stderr, "rload: -x NAME=PID[,PID..]\n"); return 2; }
			snprintf(g->name, sizeof g->name, "%.*s", (int)(eq - optarg), optarg);
			for (char *t = strtok(eq + 1, ","); t && g->n < 64; t = strtok(NULL, ",")) g->pid[g->n++] = atoi(t);
			ngrp++;
			break;
		}
		default: fprintf(stderr, "see the head of rload.c\n"); return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_TIMERSLACK, 1);
	struct rlimit rl;
	getrlimit(RLIMIT_NOFILE, &rl);
	rl.rlim_cur = rl.rlim_max;
	setrlimit(RLIMIT_NOFILE, &rl);
	peer.sin_family = AF_INET, peer.sin_port = htons((uint16_t)o_port);
	if (inet_pton(AF_INET, o_host, &peer.sin_addr) != 1) { fprintf(stderr, "rload: -h needs an IPv4 address\n"); return 2; }
	if (o_tls) {
		ctx = SSL_CTX_new(TLS_client_method());
		SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
		if (SSL_CTX_set_ciphersuites(ctx, o_suite) != 1 || SSL_CTX_set1_groups_list(ctx, "X25519") != 1) die("ciphersuite");
		if (o_ca) {
			if (SSL_CTX_load_verify_locations(ctx, o_ca, NULL) != 1) die(o_ca);
			SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
		}
		SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
		SSL_CTX_set_read_ahead(ctx, 1);
		SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(ctx, new_session);
	}
	ep = epoll_create1(EPOLL_CLOEXEC);
	C = calloc((size_t)o_conns, sizeof *C);
	for (int i = 0; i < o_conns; i++) {
		C[i].idx = i, C[i].fd = -1;
		layout(&C[i]);
	}
	if (o_mode == M_IDLE) return idle_mode();
	if (o_mode == M_AGAIN) {
		if (!o_cmd) { fprintf(stderr, "rload: -m again needs -e CMD\n"); return 2; }
		return again_mode();
	}
	if (o_mode == M_HS || o_mode == M_HSR)
		for (int i = 0; i < o_conns; i++) conn_open(&C[i]);
	else open_to(o_conns);
	lost = 0;
	step_ns = o_rate > 0 ? 1e9 * o_pipe / o_rate : 0;
	t_start = now_ns();
	t_measure = t_start + (u64)(o_warm * 1e9), t_end = t_measure + (u64)(o_secs * 1e9);
	if (o_mode <= M_LOAD && o_rate <= 0)
		for (int i = 0; i < o_conns; i++) next_batch(&C[i]);
	u64 turn = 0; /* open loop: the next (connection, batch) in order of due time */
	for (;;) {
		u64 now = now_ns();
		if (o_mode == M_LOAD) {
			bool busy = load_next < o_keys;
			for (int i = 0; i < o_conns; i++) busy |= C[i].left > 0;
			if (!busy) break;
			if (now > t_start + 60ull * 1000000000u) { fprintf(stderr, "rload: load takes too long\n"); return 3; }
		} else {
			if (!measuring && now >= t_measure) { measuring = true; sample(false); t_measure = now_ns(); }
			if (now >= t_end) break;
		}
		long wait = 50000000;
		if (o_rate > 0) {
			for (;;) {
				u64 d = t_start + (u64)((double)turn * step_ns);
				if (d > now) { wait = (long)(d - now); break; }
				struct conn *c = &C[turn % (u64)o_conns];
				/* busy connections send as soon as they are free (next_batch) */
				if (c->state == S_READY && !c->left && due(c) <= now) send_batch(c, due(c));
				turn++;
			}
		}
		if (o_mode != M_LOAD) {
			u64 stop = measuring ? t_end : t_measure;
			if (stop > now && (u64)wait > stop - now) wait = (long)(stop - now);
		}
		wait_events(wait);
	}
	sample(true);
	double secs = (double)(now_ns() - t_measure) / 1e9;
	if (o_mode == M_LOAD) {
		if (errs || bad) fprintf(stderr, "rload: load: %llu errors\n", (unsigned long long)(errs + bad));
		return errs || bad ? 3 : 0;
	}
	printf("{\"ops\":%llu,\"secs\":%.4f,\"ops_s\":%.1f,\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f,\"mean\":%.1f,"
	       "\"err\":%llu,\"bad\":%llu,\"lost\":%llu,\"resumed\":%llu,\"cpu_self\":%.3f,\"busy\":%.3f,\"steal\":%.3f",
	       (unsigned long long)ops, secs, (double)ops / secs, hist_q(.5), hist_q(.99), hist_q(.999), hist_q(.9999999),
	       hist_n ? (double)hist_sum / (double)hist_n / 1e3 : 0, (unsigned long long)errs, (unsigned long long)bad, (unsigned long long)lost,
	       (unsigned long long)resumed, self1 - self0, mach1[0] - mach0[0], mach1[1] - mach0[1]);
	print_groups();
	printf("}\n");
	return errs || bad || lost ? 1 : 0;
}
