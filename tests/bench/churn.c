/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opens and closes connections at a rate.
 *
 *     churn server PORT [tcp]
 *     churn client ADDRESS PORT RATE LIFE_MS MOST SECONDS [tcp]
 *
 * The client opens RATE connections per second (0: as fast as it can), sends
 * some bytes on each, closes it after LIFE_MS, and has MOST of them open at
 * most. After SECONDS or with the end of its standard input it closes the
 * rest. Each second, and at the end, it prints how many connections it has
 * closed, how many subflows these had together, and the nanoseconds so far.
 * The server prints "listening", echoes, and ends with its standard input.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP	262
#endif
#define SOL_MPTCP	284
#define MPTCP_INFO	1
#define SECOND		1000000000ull
#define RING		(1 << 17)
#define BATCH		512

static char bytes[1000];

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SECOND + t.tv_nsec;
}

static void fail(const char *what)
{
	fprintf(stderr, "churn: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int make_socket(int flags, int tcp)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, tcp ? IPPROTO_TCP : IPPROTO_MPTCP);

	if (fd < 0)
		fail("socket");
	return fd;
}

static int input_ended(void)
{
	struct pollfd input = { .fd = 0, .events = POLLIN };

	return poll(&input, 1, 0) > 0;
}

static int serve(int port, int tcp)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct epoll_event events[BATCH], event = { .events = EPOLLIN };
	int on = 1, poll_fd = epoll_create1(EPOLL_CLOEXEC), listener = make_socket(SOCK_NONBLOCK, tcp);

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 65535))
		fail("listen");
	event.data.fd = listener;
	epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event);
	puts("listening");
	fflush(stdout);
	while (!input_ended()) {
		int count = epoll_wait(poll_fd, events, BATCH, 100);

		for (int i = 0; i < count; i++) {
			int fd = events[i].data.fd;
			ssize_t length;

			if (fd == listener) {
				while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
					event.data.fd = fd;
					epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
				}
				continue;
			}
			length = recv(fd, bytes, sizeof(bytes), 0);
			if (length > 0)
				send(fd, bytes, length, MSG_NOSIGNAL);
			else if (length == 0 || errno != EAGAIN)
				close(fd);
		}
	}
	return 0;
}

static struct { int fd; unsigned int got; uint64_t since; } ring[RING];
static uint64_t head, tail, opened, done, subflows, failed, begin;

static void end_oldest(int tcp)
{
	uint8_t info[256] = { 0 };
	socklen_t size = sizeof(info);
	int fd = ring[head % RING].fd;
	unsigned int got = ring[head++ % RING].got;
	ssize_t length = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (length > 0)
		got += length;
	/* What comes after the close would make an abort of it. */
	if (got < sizeof(bytes) && (length > 0 || (length < 0 && errno == EAGAIN))) {
		ring[tail % RING].fd = fd;
		ring[tail % RING].got = got;
		ring[tail++ % RING].since = now();
		return;
	}
	/* The first byte counts those that joined. */
	if (!tcp && !getsockopt(fd, SOL_MPTCP, MPTCP_INFO, info, &size))
		subflows += info[0];
	subflows++;
	done++;
	close(fd);
}

static void open_one(const struct sockaddr_in *address, int tcp)
{
	int fd = make_socket(0, tcp);

	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) ||
	    send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) < 0) {
		failed++;
		close(fd);
		return;
	}
	ring[tail % RING].fd = fd;
	ring[tail % RING].got = 0;
	ring[tail++ % RING].since = now();
	opened++;
}

static void tell(void)
{
	printf("%lu %lu %lu\n", (unsigned long)done, (unsigned long)subflows, (unsigned long)(now() - begin));
	fflush(stdout);
}

static int churn(char **words, int tcp)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(words[1])) };
	double rate = atof(words[2]);
	uint64_t life = atof(words[3]) * 1e6, most = atoi(words[4]), length = atof(words[5]) * SECOND, told = 0;

	inet_pton(AF_INET, words[0], &address.sin_addr);
	begin = now();
	for (;;) {
		uint64_t passed = now() - begin, due = rate ? rate * passed / SECOND : UINT64_MAX, began = opened + failed;
		int busy = 0;

		if (passed >= length || input_ended())
			break;
		if (passed - told >= SECOND) {
			told = passed;
			tell();
		}
		/* By turns, so that a client that is behind still closes in time. */
		for (int i = 0; i < 16 && head < tail && now() - ring[head % RING].since >= life; i++, busy++)
			end_oldest(tcp);
		for (int i = 0; i < 8 && began < due && tail - head < most; i++, busy++, began++)
			open_one(&address, tcp);
		if (!busy)
			usleep(500);
	}
	while (head < tail) {
		int64_t left = ring[head % RING].since + life - now();

		if (left > 0)
			usleep(left / 1000 + 1);
		end_oldest(tcp);
	}
	tell();
	if (failed)
		fprintf(stderr, "churn: %lu connects failed\n", (unsigned long)failed);
	return 0;
}

int main(int argc, char **argv)
{
	struct rlimit files;
	int tcp = !strcmp(argv[argc - 1], "tcp");

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	if (argc - tcp == 3 && !strcmp(argv[1], "server"))
		return serve(atoi(argv[2]), tcp);
	if (argc - tcp == 8 && !strcmp(argv[1], "client") && atoi(argv[6]) <= RING)
		return churn(argv + 2, tcp);
	fprintf(stderr, "usage: see the head of churn.c\n");
	return 2;
}
