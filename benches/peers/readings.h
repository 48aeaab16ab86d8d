/*
 * readings.h - what rload reads: the clock, latencies in a histogram, CPU time
 * and RSS of processes, what the machine as a whole uses.
 *
 * Included by rload.c alone (all of it is static).  Knows nothing of connections
 * or of Redis.
 */
#ifndef READINGS_H
#define READINGS_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t u64;

static u64 now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
}

/* log-linear histogram, 1/64 relative resolution */
static u64 hist[64 * 64], hist_n, hist_sum;
static void hist_add(u64 ns)
{
	u64 v = ns ? ns : 1;
	int e = 63 - __builtin_clzll(v);
	u64 i = e < 6 ? v : ((u64)(e - 5) << 6) + ((v >> (e - 6)) & 63);
	hist[i]++;
	hist_n++;
	hist_sum += ns;
}
static double hist_q(double q)
{
	u64 want = (u64)(q * (double)hist_n), seen = 0;
	for (u64 i = 0; i < 64 * 64; i++) {
		seen += hist[i];
		if (hist[i] && seen > want) {
			if (i < 64) return (double)i / 1e3;
			u64 e = (i >> 6) + 5;
			return (double)((((u64)64 | (i & 63)) << (e - 6)) + ((u64)1 << (e - 6)) / 2) / 1e3;
		}
	}
	return 0;
}

/* ------------------------------------------------------------ process CPU and RSS */
#define MAXG 16
static struct grp {
	char name[32];
	int pid[64], n;
	double cpu0, cpu1, usr0, usr1;
} grp[MAXG];
static int ngrp;
static double mach0[3], mach1[3]; /* busy, steal, (unused) in seconds */

static void cpu_of(int pid, double *usr, double *tot)
{
	char p[64], b[1024];
	snprintf(p, sizeof p, "/proc/%d/stat", pid);
	FILE *f = fopen(p, "r");
	if (!f) return;
	size_t n = fread(b, 1, sizeof b - 1, f);
	fclose(f);
	b[n] = 0;
	char *q = strrchr(b, ')');
	unsigned long u, s;
	if (q && sscanf(q + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &u, &s) == 2) {
		double hz = (double)sysconf(_SC_CLK_TCK);
		*usr += (double)u / hz;
		*tot += (double)(u + s) / hz;
	}
}
static long rss_of(int pid)
{
	char p[64], b[256];
	long kb = 0;
	snprintf(p, sizeof p, "/proc/%d/status", pid);
	FILE *f = fopen(p, "r");
	if (!f) return 0;
	while (fgets(b, sizeof b, f))
		if (sscanf(b, "VmRSS: %ld", &kb) == 1) break;
	fclose(f);
	return kb;
}
static void machine(double *m)
{
	FILE *f = fopen("/proc/stat", "r");
	unsigned long long u = 0, n = 0, s = 0, id, io, irq = 0, so = 0, st = 0;
	if (f) {
		if (fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &u, &n, &s, &id, &io, &irq, &so, &st) != 8) st = 0;
		fclose(f);
	}
	double hz = (double)sysconf(_SC_CLK_TCK);
	m[0] = (double)(u + n + s + irq + so) / hz;
	m[1] = (double)st / hz;
}
static double self_cpu(void)
{
	struct rusage r;
	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}
static double self0, self1;
static void sample(bool end)
{
	machine(end ? mach1 : mach0);
	*(end ? &self1 : &self0) = self_cpu();
	for (int g = 0; g < ngrp; g++) {
		double u = 0, t = 0;
		for (int i = 0; i < grp[g].n; i++) cpu_of(grp[g].pid[i], &u, &t);
		if (end) grp[g].cpu1 = t, grp[g].usr1 = u;
		else grp[g].cpu0 = t, grp[g].usr0 = u;
	}
}
static void print_groups(void)
{
	for (int g = 0; g < ngrp; g++)
		printf(",\"cpu_%s\":%.3f,\"usr_%s\":%.3f", grp[g].name, grp[g].cpu1 - grp[g].cpu0, grp[g].name, grp[g].usr1 - grp[g].usr0);
}
static void print_rss(int n, bool first)
{
	printf("%s{\"conns\":%d", first ? "" : ",", n);
	for (int g = 0; g < ngrp; g++) {
		long kb = 0;
		for (int i = 0; i < grp[g].n; i++) kb += rss_of(grp[g].pid[i]);
		printf(",\"rss_%s\":%ld", grp[g].name, kb);
	}
	printf("}");
}

#endif
