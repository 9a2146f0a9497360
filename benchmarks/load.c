/*
 * The clients of benchmarks/fanout.py: N WebSockets in one process, which count, check and time.
 *
 *   load --port P --clients N --subscribe FILE [options]
 *
 * FILE holds commands, one a line; client i sends line i modulo their number, and is ready when
 * that was answered. With --speak it is a client of nats, of mqtt, or one that has nothing to say
 * (silent); with --raw not even a handshake is made. Then one line of JSON says how long it took to
 * connect them all. With --seconds the measurement starts --warm seconds after the first message,
 * and another line tells its result. Then it reads on; the line "drain" on standard input makes it
 * read until nothing comes any more and tell the totals, and the end of standard input ends it.
 *
 * Messages are told from answers by their beginning, --prefix. Each must have the sequence number
 * that follows the last one of its client; with --stride S, of those of its client with the same
 * remainder modulo S (message n is of instrument n modulo S). Anything else ends it with an error.
 * Times are those of every --sample-th message.
 *
 * With --deflate every client offers permessage-deflate and ends if the server declines. What
 * clients send is not compressed, as the extension allows. Of what they get, every message of every
 * client is checked as above, although nearly none is inflated again: a frame whose bytes are those
 * of one that was inflated before is that message. What that rests on:
 *
 * - Where the server has agreed to server_no_context_takeover, a message is inflated by the first
 *   client that gets it. Another client's frame is compared, byte by byte, with that of the number
 *   which is due; if they differ in anything, it is inflated as well. So all that is valid is read.
 * - Where the server keeps its context, the k-th compressed frames of all clients are compared, and
 *   the first that comes is inflated, by one inflater for all: a client whose frames up to the k-th
 *   were those of the others would have an inflater in the same state. A frame that differs ends it
 *   with an error. That would be wrong with a server that compresses one client's stream unlike
 *   another's; none of the contestants does.
 *
 * Not checked: whether a server keeps to a smaller window that it has announced; the largest is
 * assumed. Not measured: what it would cost clients to inflate.
 *
 * "busy" in the result is the share of the time in which this core had something to do: all but the
 * turns in which no client had anything to read and nothing else ran. At 1 the clients, not the
 * server, set the pace.
 *
 * Source: RFC 6455; RFC 7692; NATS client protocol; MQTT 3.1.1, sections 2.2 and 3.3.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#if !__has_include(<zlib.h>)
#error "zlib.h is missing: on Debian, apt install zlib1g-dev"
#endif
#include <zlib.h>

enum { BATCH = 64, EVENTS = 512, READ_MAX = 1 << 18, TIMES_MAX = 1 << 22, PIDS_MAX = 16 };
/* So many inflated messages are kept, and no client may be so many behind another. */
enum { KNOWN_MAX = 1 << 16, TEXT_MAX = 1 << 16 };

/* The clients' own kernel buffers: with the default ones a fast server could be seconds ahead. */
static const int RECEIVE_BYTES = 131072;
/* Those of the slow reader: small, so that its server notices early. */
static const int SLOW_RECEIVE_BYTES = 4096;
static const double SLOW_STEP_S = 0.1;
static const double QUIET_S = 1.0;
/* After a stall the server's kernel may wait so long before it asks again whether there is room. */
static const double SLOW_QUIET_S = 5.0;
static const double PATIENCE_S = 60.0;
/* A turn in which there is nothing to read takes a microsecond; a longer one was not ours alone. */
static const double EMPTY_TURN_S = 50e-6;

typedef struct {
    int fd;
    uint8_t *rest; /* the beginning of a frame whose end has not come */
    size_t rest_size, rest_room;
    uint8_t *part; /* the same of a packet, where packets are in the frames */
    size_t part_size, part_room;
    bool answered;
    uint64_t messages;
    uint64_t packed; /* compressed frames, answers among them */
    uint64_t conflated; /* older messages that those stand for */
    uint64_t *expected; /* by remainder: the next sequence number, 0 before the first */
} Client;

typedef struct {
    uint32_t *us;
    size_t count;
} Times;

/* What a compressed frame says. */
typedef struct {
    uint64_t key; /* where it belongs: see on_packed; 0 is nowhere */
    int64_t seq;  /* NO_PRICE where it is not one of those that are counted */
    size_t packed_size, text_size, room;
    uint8_t *bytes; /* the frame's payload, and behind it the text */
} Known;

enum { NO_PRICE = -2 };

static struct {
    int port, clients;
    const char *path, *subscribe, *prefix;
    enum { TEXT, NATS, MQTT, SILENT } speak;
    bool raw, deflate;
    double warm_s, seconds;
    unsigned stride, sample;
    double slow_bytes_per_s;
    int pids[PIDS_MAX], pid_count;
} opt = {.path = "/", .prefix = "{\"type\":\"price_update\"", .warm_s = 1, .stride = 1, .sample = 17};

static Client *clients;
static uint8_t buffer[READ_MAX + (1 << 16)];
static int poller;
static uint64_t messages, message_bytes, packed_messages, wire_bytes;
static enum { UNKNOWN, FORGETS, KEEPS } context; /* what the server has agreed to */
static int answered;
static bool measuring, draining;
static double last_message_s;
static Times from_received, from_published;

static void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    exit(1);
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int64_t wall_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

/* ---- messages ---- */

/*
 * Return the integer behind a key, -1 where there is none. Where the key stood the last time is
 * looked at first: messages are alike, and searching each would make this end the slow one.
 */
static int64_t integer_at(const char *text, size_t size, const char *key, size_t *hint) {
    size_t length = strlen(key);
    const char *found = text + *hint;
    if (*hint + length > size || memcmp(found, key, length) != 0) {
        found = memmem(text, size, key, length);
        if (found == NULL)
            return -1;
        *hint = (size_t)(found - text);
    }
    int64_t value = 0;
    const char *end = text + size;
    for (found += length; found < end && *found >= '0' && *found <= '9'; found++)
        value = 10 * value + (*found - '0');
    return value;
}

static void note(Times *times, int64_t sent_us, int64_t at_us) {
    if (sent_us > 0 && times->count < TIMES_MAX)
        times->us[times->count++] = at_us > sent_us ? (uint32_t)(at_us - sent_us) : 0;
}

static void check(Client *client, int64_t seq, bool folds) {
    uint64_t *expected = &client->expected[(uint64_t)seq % opt.stride];
    uint64_t number = (uint64_t)seq;
    if (seq < 0)
        fail("a message without a sequence number");
    if (folds ? number < *expected : *expected != 0 && number != *expected)
        fail("sequence: client %ld got %lu where %lu was due", (long)(client - clients), number,
             *expected);
    *expected = number + opt.stride;
}

static void on_answer(Client *client) {
    answered += !client->answered;
    client->answered = true;
}

/* Return the number of a message, NO_PRICE where it is none. */
static int64_t seq_of(const char *text, size_t size) {
    static size_t hint;
    if (size < strlen(opt.prefix) || memcmp(text, opt.prefix, strlen(opt.prefix)) != 0)
        return NO_PRICE;
    return integer_at(text, size, "\"seq\":", &hint);
}

static void on_message(Client *client, const char *text, size_t size, int64_t seq) {
    static size_t received_hint, published_hint, conflated_hint;
    bool slow = opt.slow_bytes_per_s > 0 && client == clients;
    if (seq == NO_PRICE) {
        on_answer(client);
        return;
    }
    client->messages++;
    last_message_s = draining ? now_s() : 0;
    check(client, seq, slow);
    if (slow) {
        int64_t count = integer_at(text, size, "\"conflated\":", &conflated_hint);
        client->conflated += count > 0 ? (uint64_t)count : 0;
        return;
    }
    messages++;
    message_bytes += size;
    if (measuring && messages % opt.sample == 0) {
        int64_t at = wall_us();
        note(&from_received, integer_at(text, size, "\"received_us\":", &received_hint), at);
        note(&from_published, integer_at(text, size, "\"published_us\":", &published_hint), at);
    }
}

static void on_text(Client *client, const char *text, size_t size) {
    on_message(client, text, size, seq_of(text, size));
}

/* ---- permessage-deflate ---- */

/* Inflate one message and return its size. */
static size_t inflated(const uint8_t *packed, size_t size, uint8_t *text) {
    static const uint8_t END[] = {0, 0, 0xFF, 0xFF}; /* left out on the wire: RFC 7692, 7.2.1 */
    static z_stream stream;
    int result = stream.state == NULL ? inflateInit2(&stream, -MAX_WBITS) : Z_OK;
    if (result == Z_OK && context == FORGETS)
        result = inflateReset(&stream);
    if (result != Z_OK)
        fail("zlib: %d", result);
    stream.next_out = text;
    stream.avail_out = TEXT_MAX;
    for (int i = 0; i < 2 && result != Z_STREAM_END; i++) {
        stream.next_in = (Bytef *)(i == 0 ? packed : END);
        stream.avail_in = i == 0 ? (uInt)size : sizeof END;
        result = inflate(&stream, Z_SYNC_FLUSH);
        if ((result != Z_OK && result != Z_BUF_ERROR && result != Z_STREAM_END) || stream.avail_in)
            fail("a message can't be inflated: %d %s", result, stream.msg ? stream.msg : "");
    }
    /* Bit 7: between two blocks. A last block (7.2.3.5) would be the end of the context as well. */
    if (result == Z_STREAM_END ? context == KEEPS : !(stream.data_type & 128))
        fail("a compressed message does not end where it should");
    return TEXT_MAX - stream.avail_out;
}

static Known known[KNOWN_MAX];

/* Inflate a frame, and keep what it says where the next client will look for it. */
static const Known *learn(uint64_t key, const uint8_t *packed, size_t size) {
    static uint8_t text[TEXT_MAX];
    static Known nowhere;
    size_t text_size = inflated(packed, size, text);
    int64_t seq = seq_of((char *)text, text_size);
    if (context == FORGETS)
        key = seq > 0 ? (uint64_t)seq : 0;
    Known *one = key > 0 ? &known[key % KNOWN_MAX] : &nowhere;
    if (one->room < size + text_size) {
        one->room = size + text_size;
        one->bytes = realloc(one->bytes, one->room);
        if (one->bytes == NULL)
            fail("no memory");
    }
    memcpy(one->bytes, packed, size);
    memcpy(one->bytes + size, text, text_size);
    one->key = key;
    one->seq = seq;
    one->packed_size = size;
    one->text_size = text_size;
    return one;
}

/* Take a compressed frame: the one that is due is known by its bytes. */
static void on_packed(Client *client, const uint8_t *packed, size_t size) {
    static uint64_t learned;
    uint64_t key = context == KEEPS ? ++client->packed : client->expected[0];
    const Known *one = &known[key % KNOWN_MAX];
    if (key == 0 || one->key != key || one->packed_size != size ||
        memcmp(one->bytes, packed, size) != 0) {
        if (context == KEEPS && key != ++learned)
            fail("compressed frame %lu of client %ld is not that of the others, of whom the first "
                 "had %lu", key, (long)(client - clients), learned - 1);
        one = learn(key, packed, size);
    }
    packed_messages += one->seq != NO_PRICE;
    on_message(client, (char *)one->bytes + one->packed_size, one->text_size, one->seq);
}

/* Read what the server says to the offer; it has to be the same for all clients. */
static void agree(char *answer) {
    static const char NAME[] = "\r\nSec-WebSocket-Extensions:";
    char *line = strcasestr(answer, NAME), *rest = NULL;
    if ((line != NULL) != opt.deflate)
        fail("the server %s permessage-deflate", opt.deflate ? "declines" : "wants");
    if (line == NULL)
        return;
    line += strlen(NAME);
    line[strcspn(line, "\r")] = 0;
    int agreed = KEEPS;
    char *word = strtok_r(line, "; ", &rest);
    for (bool first = true; first || word != NULL; first = false) {
        if (word == NULL || (first && strcmp(word, "permessage-deflate") != 0))
            fail("an extension that was not offered: %s", word ? word : "");
        if (!first && strcmp(word, "server_no_context_takeover") == 0)
            agreed = FORGETS;
        else if (!first && strcmp(word, "client_no_context_takeover") != 0 &&
                 strncmp(word, "server_max_window_bits=", 23) != 0 &&
                 strncmp(word, "client_max_window_bits=", 23) != 0)
            fail("a parameter that was not offered: %s", word);
        word = strtok_r(NULL, "; ", &rest);
    }
    if (context != UNKNOWN && (int)context != agreed)
        fail("the server does not agree to the same with all clients");
    context = agreed;
}

/* ---- WebSocket ---- */

static void write_all(Client *client, const void *data, size_t size) {
    if (write(client->fd, data, size) != (ssize_t)size)
        fail("write to client %ld: %s", (long)(client - clients), strerror(errno));
}

static void send_frame(Client *client, int opcode, const uint8_t *payload, size_t size) {
    uint8_t out[4096];
    size_t head = 0;
    if (size > sizeof out - 8)
        fail("a command of %zu bytes", size);
    out[head++] = (uint8_t)(0x80 | opcode);
    if (size < 126) {
        out[head++] = (uint8_t)(0x80 | size);
    } else {
        out[head++] = 0x80 | 126;
        out[head++] = (uint8_t)(size >> 8);
        out[head++] = (uint8_t)size;
    }
    memset(out + head, 0, 4); /* the mask: of zeros, which changes nothing */
    memcpy(out + head + 4, payload, size);
    write_all(client, out, head + 4 + size);
}

/* Keep what is not whole yet. */
static void keep(uint8_t **where, size_t *room, size_t *kept, const uint8_t *data, size_t size) {
    if (size > *room) {
        *room = size + 1024;
        *where = realloc(*where, *room);
        if (*where == NULL)
            fail("no memory");
    }
    if (size > 0)
        memcpy(*where, data, size);
    *kept = size;
}

/* NATS: take one line, with the payload that may be behind it; 0 where it is not whole. */
static size_t take_nats(Client *client, const uint8_t *data, size_t size) {
    const uint8_t *end = memchr(data, '\n', size);
    if (end == NULL)
        return 0;
    size_t line = (size_t)(end + 1 - data);
    if (line > 4 && memcmp(data, "MSG ", 4) == 0) {
        const uint8_t *digits = end - 1; /* at the CR; the line ends with the size */
        size_t payload = 0;
        while (digits[-1] != ' ')
            digits--;
        while (*digits >= '0' && *digits <= '9')
            payload = 10 * payload + (size_t)(*digits++ - '0');
        if (size < line + payload + 2)
            return 0;
        on_text(client, (const char *)end + 1, payload);
        return line + payload + 2;
    }
    if (memcmp(data, "PONG", 4) == 0)
        on_answer(client);
    else if (memcmp(data, "PING", 4) == 0)
        send_frame(client, 2, (const uint8_t *)"PONG\r\n", 6);
    else if (memcmp(data, "-ERR", 4) == 0)
        fail("%.*s", (int)line, (const char *)data);
    return line;
}

/* MQTT: take one packet; 0 where it is not whole. */
static size_t take_mqtt(Client *client, const uint8_t *data, size_t size) {
    size_t head = 1, length = 0, shift = 0;
    do {
        if (head >= size)
            return 0;
        length |= (size_t)(data[head] & 0x7F) << shift;
        shift += 7;
    } while (data[head++] & 0x80);
    if (size < head + length)
        return 0;
    if (data[0] >> 4 == 3) {
        size_t topic = 2 + ((size_t)data[head] << 8 | data[head + 1]);
        on_text(client, (const char *)data + head + topic, length - topic);
    } else if (data[0] >> 4 == 9) {
        on_answer(client);
    }
    return head + length;
}

/* Take the packets in a frame, which may begin and end in the middle of one. */
static void on_part(Client *client, const uint8_t *data, size_t size) {
    static uint8_t joined[sizeof buffer + (1 << 16)];
    if (client->part_size > 0) {
        memcpy(joined, client->part, client->part_size);
        memcpy(joined + client->part_size, data, size);
        data = joined;
        size += client->part_size;
    }
    for (size_t taken = 1; size > 0 && taken > 0; data += taken, size -= taken)
        taken = opt.speak == NATS ? take_nats(client, data, size) : take_mqtt(client, data, size);
    keep(&client->part, &client->part_room, &client->part_size, data, size);
}

static void on_frame(Client *client, uint8_t first, const uint8_t *payload, size_t size) {
    int opcode = first & 0x0F;
    bool packed = (first & 0x40) && opt.deflate && (opcode == 1 || opcode == 2);
    if ((first & 0xF0) != (packed ? 0xC0 : 0x80))
        fail("a fragment, or a reserved bit: %#x", first);
    if (packed)
        on_packed(client, payload, size);
    else if ((opcode == 1 || opcode == 2) && (opt.speak == NATS || opt.speak == MQTT))
        on_part(client, payload, size);
    else if (opcode == 1 || opcode == 2)
        on_text(client, (const char *)payload, size);
    else if (opcode == 8)
        fail("the server closed client %ld with %d", (long)(client - clients),
             size >= 2 ? payload[0] << 8 | payload[1] : 0);
    else if (opcode == 9)
        send_frame(client, 10, payload, size);
    else if (opcode != 10)
        fail("opcode %d", opcode);
}

/* Take every whole frame; return how many bytes that were. */
static size_t take_frames(Client *client, const uint8_t *data, size_t size) {
    size_t start = 0;
    while (size - start >= 2) {
        const uint8_t *at = data + start;
        size_t head = 2, length = at[1] & 0x7F, left = size - start;
        if (at[1] & 0x80)
            fail("a masked frame from a server");
        if (length == 126) {
            if (left < 4)
                break;
            head = 4;
            length = (size_t)at[2] << 8 | at[3];
        } else if (length == 127) {
            if (left < 10)
                break;
            head = 10;
            length = 0;
            for (int i = 2; i < 10; i++)
                length = length << 8 | at[i];
        }
        if (length > sizeof buffer / 2)
            fail("a frame of %zu bytes", length);
        if (left < head + length)
            break;
        on_frame(client, at[0], at + head, length);
        start += head + length;
    }
    return start;
}

static void on_bytes(Client *client, const uint8_t *data, size_t size) {
    size_t taken = take_frames(client, data, size);
    keep(&client->rest, &client->rest_room, &client->rest_size, data + taken, size - taken);
}

static void receive(Client *client, size_t limit) {
    size_t before = client->rest_size;
    if (before > 0)
        memcpy(buffer, client->rest, before);
    ssize_t got = read(client->fd, buffer + before, limit);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0)
        fail("client %ld: %s", (long)(client - clients), got < 0 ? strerror(errno) : "cut off");
    wire_bytes += (size_t)got;
    on_bytes(client, buffer, before + (size_t)got);
}

/* ---- connecting ---- */

static void dial(Client *client) {
    bool slow = opt.slow_bytes_per_s > 0 && client == clients;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
    struct timeval patience = {.tv_sec = (time_t)PATIENCE_S};
    int one = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        fail("socket: %s", strerror(errno));
    const int *room = slow ? &SLOW_RECEIVE_BYTES : &RECEIVE_BYTES;
    setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, room, sizeof *room);
    setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail("connect: %s", strerror(errno));
    if (opt.raw)
        return;
    char request[1024];
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s%s\r\n",
                        opt.path, opt.port,
                        opt.speak == MQTT ? "Sec-WebSocket-Protocol: mqtt\r\n" : "",
                        opt.deflate ? "Sec-WebSocket-Extensions: permessage-deflate; "
                                      "client_max_window_bits\r\n" : "");
    write_all(client, request, (size_t)size);
}

/* Read the answer to the handshake, and take what came right behind it. */
static void shake(Client *client) {
    char answer[8192];
    size_t size = 0;
    char *end = NULL;
    while (end == NULL) {
        ssize_t got = read(client->fd, answer + size, sizeof answer - 1 - size);
        if (got <= 0)
            fail("client %ld got no answer to its handshake", (long)(client - clients));
        size += (size_t)got;
        answer[size] = 0;
        end = strstr(answer, "\r\n\r\n");
    }
    /* The accept value of the sample key: RFC 6455, section 1.3. */
    if (strncmp(answer, "HTTP/1.1 101", 12) != 0 || !strstr(answer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
        fail("the handshake was answered with: %.200s", answer);
    end[2] = 0; /* the head ends here: what follows is none of it */
    agree(answer);
    end += 4;
    on_bytes(client, (uint8_t *)end, size - (size_t)(end - answer));
}

static char *commands(int *count) {
    FILE *file = fopen(opt.subscribe, "r");
    if (file == NULL)
        fail("%s: %s", opt.subscribe, strerror(errno));
    static char text[1 << 20];
    size_t size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    *count = 0;
    for (size_t i = 0; i < size; i++)
        if (text[i] == '\n') {
            text[i] = 0;
            ++*count;
        }
    return text;
}

/* Subscribe as the protocol wants it; brokers have one topic, "prices". */
static void subscribe(Client *client, const char *command) {
    static const char NATS_COMMANDS[] = "CONNECT {\"verbose\":false}\r\nSUB prices 1\r\nPING\r\n";
    /* CONNECT: a clean session without keep-alive, the broker names us. SUBSCRIBE: QoS 0. */
    static const char MQTT_COMMANDS[] = "\x10\x0c\0\4MQTT\4\2\0\0\0\0\x82\x0b\0\1\0\6prices\0";
    if (opt.speak == TEXT)
        send_frame(client, 1, (const uint8_t *)command, strlen(command));
    else if (opt.speak == NATS)
        send_frame(client, 2, (const uint8_t *)NATS_COMMANDS, sizeof NATS_COMMANDS - 1);
    else if (opt.speak == MQTT)
        send_frame(client, 2, (const uint8_t *)MQTT_COMMANDS, sizeof MQTT_COMMANDS - 1);
    else
        on_answer(client);
}

static void watch(Client *client) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
    if (opt.slow_bytes_per_s > 0 && client == clients)
        return; /* it reads when its time has come */
    if (epoll_ctl(poller, EPOLL_CTL_ADD, client->fd, &event) != 0)
        fail("epoll_ctl: %s", strerror(errno));
}

static bool pump(int timeout_ms);

static void connect_all(void) {
    int count = 0;
    char *text = opt.subscribe == NULL ? "" : commands(&count), *command = text;
    double start = now_s();
    for (int first = 0; first < opt.clients; first += BATCH) {
        int end = first + BATCH < opt.clients ? first + BATCH : opt.clients;
        for (int i = first; i < end; i++)
            dial(&clients[i]);
        for (int i = first; i < end; i++) {
            if (!opt.raw) {
                shake(&clients[i]);
                if (count == 0 || i % count == 0)
                    command = text;
                subscribe(&clients[i], command);
                command += strlen(command) + 1;
            }
            watch(&clients[i]);
        }
        pump(0);
    }
    while (!opt.raw && answered < opt.clients) {
        pump(20);
        if (opt.slow_bytes_per_s > 0 && !clients[0].answered)
            receive(&clients[0], READ_MAX);
        if (now_s() - start > PATIENCE_S)
            fail("only %d of %d were answered", answered, opt.clients);
    }
    printf("{\"connect_s\": %.3f}\n", now_s() - start);
    fflush(stdout);
}

/* ---- measuring ---- */

static double cpu_s(void) {
    double sum = 0;
    for (int i = 0; i < opt.pid_count; i++) {
        char path[64], text[1024];
        snprintf(path, sizeof path, "/proc/%d/stat", opt.pids[i]);
        FILE *file = fopen(path, "r");
        if (file == NULL)
            fail("the server has gone");
        size_t size = fread(text, 1, sizeof text - 1, file);
        fclose(file);
        text[size] = 0;
        unsigned long user, system;
        char *behind = strrchr(text, ')');
        if (behind == NULL || sscanf(behind + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                                     &user, &system) != 2)
            fail("%s is not as expected", path);
        sum += (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    }
    return sum;
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void print_times(const char *name, Times *times) {
    static const double QUANTILES[] = {0.5, 0.99, 0.999};
    qsort(times->us, times->count, sizeof *times->us, by_size);
    printf(", \"%s\": [", name);
    for (int i = 0; times->count > 0 && i < 3; i++)
        printf("%s%.3f", i ? ", " : "",
               times->us[(size_t)((double)(times->count - 1) * QUANTILES[i])] / 1e3);
    printf("]");
}

static void on_input(void) {
    char text[64];
    ssize_t got = read(0, text, sizeof text);
    if (got <= 0)
        exit(0);
    if (memmem(text, (size_t)got, "drain", 5) != NULL) {
        draining = true;
        last_message_s = now_s();
    }
}

/* Return whether there was anything to do. */
static bool pump(int timeout_ms) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(poller, events, EVENTS, timeout_ms);
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == NULL)
            on_input();
        else
            receive(events[i].data.ptr, READ_MAX);
    }
    return count > 0;
}

static void pump_slow(void) {
    static double next;
    if (opt.slow_bytes_per_s == 0)
        return;
    if (draining) {
        receive(&clients[0], READ_MAX);
    } else if (now_s() >= next) {
        next = now_s() + SLOW_STEP_S;
        receive(&clients[0], (size_t)(opt.slow_bytes_per_s * SLOW_STEP_S));
    }
}

/*
 * Read for some time and return how much of it there was nothing to read. Never sleeps: to wake a
 * sleeping reader up is work for the server's core, which would depend on how fast the server is.
 */
static double pump_for(double seconds) {
    double now = now_s(), end = now + seconds, idle = 0;
    while (now < end) {
        double turn = now;
        bool busy = pump(0);
        pump_slow();
        now = now_s();
        if (!busy && now - turn < EMPTY_TURN_S)
            idle += now - turn;
    }
    return idle;
}

/* Tell how many messages the clients have had who had the fewest and the most. */
static void print_range(void) {
    uint64_t least = UINT64_MAX, most = 0;
    for (int i = opt.slow_bytes_per_s > 0; i < opt.clients; i++) {
        least = clients[i].messages < least ? clients[i].messages : least;
        most = clients[i].messages > most ? clients[i].messages : most;
    }
    printf(", \"least\": %lu, \"most\": %lu", least, most);
}

static void measure(void) {
    while (messages == 0) {
        pump(20);
        pump_slow();
    }
    pump_for(opt.warm_s);
    double cpu = cpu_s(), start = now_s();
    uint64_t before = messages, packed_before = packed_messages, wire_before = wire_bytes;
    measuring = true;
    double idle = pump_for(opt.seconds);
    measuring = false;
    double wall = now_s() - start;
    cpu = cpu_s() - cpu;
    if (messages == before)
        fail("no message in all the time that was to be measured");
    double count = (double)(messages - before);
    printf("{\"wall_s\": %.4f, \"cpu_s\": %.3f, \"messages\": %.0f, \"message_bytes\": %.1f", wall,
           cpu, count, (double)message_bytes / (double)messages);
    printf(", \"wire_bytes\": %.1f, \"packed\": %.4f, \"busy\": %.4f",
           (double)(wire_bytes - wire_before) / count,
           (double)(packed_messages - packed_before) / count, 1 - idle / wall);
    print_range();
    print_times("received_ms", &from_received);
    print_times("published_ms", &from_published);
    printf("}\n");
    fflush(stdout);
}

static void read_on(void) {
    double quiet = opt.slow_bytes_per_s > 0 ? SLOW_QUIET_S : QUIET_S;
    for (;;) {
        /* Short, where a slow reader must have its turn. */
        pump(opt.slow_bytes_per_s > 0 ? 1 : 100);
        pump_slow();
        if (draining && now_s() - last_message_s > quiet) {
            printf("{\"messages\": %lu, \"slow_messages\": %lu, \"slow_conflated\": %lu}\n",
                   messages, opt.slow_bytes_per_s > 0 ? clients[0].messages : 0,
                   clients[0].conflated);
            fflush(stdout);
            draining = false;
        }
    }
}

static void parse_options(int count, char **values) {
    static const struct option LONG[] = {
        {"port", 1, 0, 'p'},    {"clients", 1, 0, 'n'}, {"path", 1, 0, 'P'},
        {"prefix", 1, 0, 'x'},  {"raw", 0, 0, 'r'},     {"subscribe", 1, 0, 's'},
        {"warm", 1, 0, 'w'},    {"seconds", 1, 0, 't'}, {"stride", 1, 0, 'd'},
        {"sample", 1, 0, 'm'},  {"slow", 1, 0, 'z'},    {"pid", 1, 0, 'k'},
        {"speak", 1, 0, 'o'},   {"deflate", 0, 0, 'c'}, {0, 0, 0, 0},
    };
    for (int name; (name = getopt_long(count, values, "", LONG, NULL)) != -1;) {
        switch (name) {
        case 'p': opt.port = atoi(optarg); break;
        case 'n': opt.clients = atoi(optarg); break;
        case 'P': opt.path = optarg; break;
        case 'x': opt.prefix = optarg; break;
        case 'r': opt.raw = true; break;
        case 'c': opt.deflate = true; break;
        case 's': opt.subscribe = optarg; break;
        case 'w': opt.warm_s = atof(optarg); break;
        case 't': opt.seconds = atof(optarg); break;
        case 'd': opt.stride = (unsigned)atoi(optarg); break;
        case 'm': opt.sample = (unsigned)atoi(optarg); break;
        case 'z': opt.slow_bytes_per_s = atof(optarg); break;
        case 'o':
            opt.speak = !strcmp(optarg, "nats") ? NATS : !strcmp(optarg, "mqtt") ? MQTT : SILENT;
            break;
        case 'k':
            if (opt.pid_count < PIDS_MAX)
                opt.pids[opt.pid_count++] = atoi(optarg);
            break;
        default: exit(2);
        }
    }
    if (opt.port == 0 || opt.clients == 0)
        fail("--port and --clients are needed");
    if (opt.subscribe == NULL && !opt.raw && opt.speak == TEXT)
        fail("--subscribe, --raw or --speak is needed");
    if (opt.deflate && (opt.raw || opt.speak != TEXT))
        fail("--deflate is for plain WebSockets");
}

int main(int count, char **values) {
    parse_options(count, values);
    clients = calloc((size_t)opt.clients, sizeof *clients);
    uint64_t *expected = calloc((size_t)opt.clients * opt.stride, sizeof *expected);
    from_received.us = malloc(TIMES_MAX * sizeof(uint32_t));
    from_published.us = malloc(TIMES_MAX * sizeof(uint32_t));
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (clients == NULL || expected == NULL || !from_received.us || !from_published.us || poller < 0)
        fail("no memory");
    for (int i = 0; i < opt.clients; i++)
        clients[i].expected = expected + (size_t)i * opt.stride;
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, 0, &input) != 0)
        fail("standard input: %s", strerror(errno));
    connect_all();
    if (opt.seconds > 0)
        measure();
    read_on();
}
