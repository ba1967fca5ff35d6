/* The floor under any server that sends each message singly: a bare send() loop.
 *
 * usage: send_loop SUBSCRIBERS TICKS RATE FRAME_BYTES
 *
 * Reads a frame of FRAME_BYTES from stdin, prints the port it listens on, accepts SUBSCRIBERS
 * connections, waits for one more byte on stdin, then sends the frame to every connection
 * TICKS times, RATE times per second (0: without pause). Offset and time are written into the
 * frame before each tick, so that the hub's own readers can check and time it. At the end it
 * prints: sends, CPU seconds (user + system) of the ticks, and the time of the first tick in
 * nanoseconds of the monotonic clock. Linux (SOCK_STREAM on 127.0.0.1, MSG_NOSIGNAL).
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static long long monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static double cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void sleep_until(long long due_ns) {
    struct timespec due = {due_ns / 1000000000LL, due_ns % 1000000000LL};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
}

static void put_digits(char *frame, size_t size, const char *needle, int digits, long long value) {
    char text[32];
    char *at = memmem(frame, size, needle, strlen(needle));
    if (at == NULL) exit(2);
    snprintf(text, sizeof text, "%0*lld", digits, value);
    memcpy(at + strlen(needle), text, digits);
}

static int listen_and_tell(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) ||
        listen(listener, 4096) || getsockname(listener, (struct sockaddr *)&address, &size))
        fail("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

static void send_whole(int peer, const char *frame, size_t size) {
    for (size_t sent = 0; sent < size;) {
        ssize_t count = send(peer, frame + sent, size - sent, MSG_NOSIGNAL);
        if (count < 0) fail("send");
        sent += count;
    }
}

int main(int argc, char **argv) {
    if (argc != 5) exit(2);
    int subscribers = atoi(argv[1]), on = 1;
    long ticks = atol(argv[2]);
    double rate = atof(argv[3]);
    size_t size = atol(argv[4]);
    char *frame = malloc(size);
    int *peers = malloc(subscribers * sizeof *peers);
    if (!frame || !peers || fread(frame, 1, size, stdin) != size) fail("frame");

    int listener = listen_and_tell();
    for (int i = 0; i < subscribers; i++) {
        if ((peers[i] = accept(listener, NULL, NULL)) < 0) fail("accept");
        setsockopt(peers[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    if (getchar() == EOF) exit(3);

    double cpu = cpu_seconds();
    long long start = monotonic_ns();
    for (long tick = 0; tick < ticks; tick++) {
        if (rate > 0) sleep_until(start + (long long)(tick * 1e9 / rate));
        put_digits(frame, size, "\"offset\":", 12, tick + 1);
        put_digits(frame, size, "\"at\":\"", 19, monotonic_ns());
        for (int i = 0; i < subscribers; i++) send_whole(peers[i], frame, size);
    }
    printf("%lld %.6f %lld\n", (long long)ticks * subscribers, cpu_seconds() - cpu, start);
    fflush(stdout);
    getchar(); /* stay until the reader has read everything and closes our stdin */
    return 0;
}
