/*
 * What the kernel allows: a loop that does nothing but send(), as a contestant of fanout.py.
 *
 *   limit CLIENTS BURST RATE HEAD RECEIVED PUBLISHED TAIL
 *
 * Prints its port, accepts that many plain TCP connections, waits for a line on standard input and
 * sends WebSocket frames: BURST messages in one send() for each client, RATE messages a second in
 * all, 0 for as fast as they are taken. A message is HEAD, its number, RECEIVED, the time at which
 * it was due, PUBLISHED, the present time, and TAIL; times are microseconds since the epoch.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BURST_MAX = 64, MESSAGE_MAX = 1024 };

static char bytes[BURST_MAX * MESSAGE_MAX];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int64_t wall_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static int listen_anywhere(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) || listen(fd, 4096))
        fail("listen");
    getsockname(fd, (struct sockaddr *)&address, &size);
    printf("{\"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

/* Put one frame at `at` and return its size. */
static size_t compose(char *at, char **parts, uint64_t seq, int64_t due) {
    int size = snprintf(at + 4, MESSAGE_MAX - 4, "%s%lu%s%ld%s%ld%s", parts[0], seq, parts[1], due,
                        parts[2], wall_us(), parts[3]);
    if (size < 126 || size >= MESSAGE_MAX - 4)
        exit(1);
    at[0] = (char)0x81;
    at[1] = 126;
    at[2] = (char)(size >> 8);
    at[3] = (char)size;
    return (size_t)size + 4;
}

/* Send all, waiting where the client has no room: this one has nothing else to do. */
static void send_all(int fd, size_t size) {
    for (size_t sent = 0; sent < size;) {
        ssize_t done = send(fd, bytes + sent, size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (done >= 0) {
            sent += (size_t)done;
        } else if (errno == EAGAIN) {
            struct pollfd room = {.fd = fd, .events = POLLOUT};
            poll(&room, 1, 1000);
        } else {
            exit(0); /* the clients have gone: it is over */
        }
    }
}

int main(int count, char **values) {
    if (count != 8)
        return 2;
    int clients = atoi(values[1]), burst = atoi(values[2]), one = 1;
    double rate = atof(values[3]);
    if (clients < 1 || burst < 1 || burst > BURST_MAX)
        return 2;
    int listener = listen_anywhere();
    int *fds = calloc((size_t)clients, sizeof *fds);
    if (fds == NULL)
        fail("calloc");
    for (int i = 0; i < clients; i++) {
        fds[i] = accept(listener, NULL, NULL);
        if (fds[i] < 0)
            fail("accept");
        setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    char line[16];
    if (fgets(line, sizeof line, stdin) == NULL)
        return 0;
    uint64_t seq = 1000000000;
    double due = (double)wall_us();
    for (;;) {
        if (rate > 0) {
            due += 1e6 * burst / rate;
            double wait = due - (double)wall_us();
            if (wait > 0)
                usleep((useconds_t)wait);
        }
        size_t size = 0;
        for (int i = 0; i < burst; i++)
            size += compose(bytes + size, values + 4, ++seq, rate > 0 ? (int64_t)due : wall_us());
        for (int i = 0; i < clients; i++)
            send_all(fds[i], size);
    }
}
