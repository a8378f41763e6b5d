/*
 * A client that keeps an NBD server busy: nbdload SOCKET read|write COUNT DEPTH SPAN SEED
 *
 * One connection, COUNT requests of 4096 bytes at random multiples of 4096 below SPAN, DEPTH of them in flight; the default export. Prints
 * the milliseconds from the first request to the last answer. Requests and replies are as the NBD protocol has them (simple replies).
 */
#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, REQUEST = 28, REPLY = 16 };

static int server;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void put(const void *from, size_t length) {
  for (const char *at = from; length > 0;) {
    ssize_t count = write(server, at, length);
    if (count <= 0) fail("write");
    at += count;
    length -= (size_t)count;
  }
}

static void get(void *to, size_t length) {
  for (char *at = to; length > 0;) {
    ssize_t count = read(server, at, length);
    if (count <= 0) fail("read");
    at += count;
    length -= (size_t)count;
  }
}

static uint64_t state;

static uint64_t next_random(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state >> 11;
}

static size_t add_request(char *at, int writing, uint64_t blocks, const char *payload) {
  uint32_t magic = htobe32(0x25609513), length = htobe32(BLOCK);
  uint16_t type = htobe16((uint16_t)writing);
  uint64_t offset = htobe64(next_random() % blocks * BLOCK);
  memset(at, 0, REQUEST);
  memcpy(at, &magic, 4);
  memcpy(at + 6, &type, 2);
  memcpy(at + 16, &offset, 8);
  memcpy(at + 24, &length, 4);
  if (!writing) return REQUEST;
  memcpy(at + REQUEST, payload, BLOCK);
  return REQUEST + BLOCK;
}

static void handshake(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  server = socket(AF_UNIX, SOCK_STREAM, 0);
  if (server < 0) fail("socket");
  /* Between the server's bind and its listen the socket is there and refuses. */
  for (int tries = 1; connect(server, (struct sockaddr *)&address, sizeof address) != 0; tries++) {
    if (errno != ECONNREFUSED || tries == 500) fail("connect");
    usleep(2000);
  }
  char greeting[18], export_name[20] = {0}, answer[10];
  get(greeting, sizeof greeting);
  /* Fixed newstyle, no zeroes; then NBD_OPT_EXPORT_NAME with the empty name. */
  export_name[3] = 3;
  memcpy(export_name + 4, "IHAVEOPT", 8);
  export_name[15] = 1;
  put(export_name, sizeof export_name);
  get(answer, sizeof answer);
}

int main(int count, char **words) {
  if (count != 7) {
    fprintf(stderr, "usage: nbdload SOCKET read|write COUNT DEPTH SPAN SEED\n");
    return 2;
  }
  const int writing = strcmp(words[2], "write") == 0;
  const uint64_t wanted = strtoull(words[3], NULL, 0), depth = strtoull(words[4], NULL, 0), blocks = strtoull(words[5], NULL, 0) / BLOCK;
  state = strtoull(words[6], NULL, 0) * 2654435761u + 88172645463325252u;
  handshake(words[1]);

  char payload[BLOCK];
  for (int i = 0; i < BLOCK; i++) payload[i] = (char)(i * 7 + 13);
  const size_t reply = REPLY + (writing ? 0 : BLOCK), input_size = depth * reply + 65536;
  char *out = malloc(depth * (REQUEST + BLOCK)), *in = malloc(input_size);
  if (!out || !in) fail("malloc");
  struct timespec begin, end;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  uint64_t sent = 0, answered = 0;
  size_t filled = 0;
  while (answered < wanted) {
    size_t ready = 0;
    while (sent < wanted && sent - answered < depth) {
      ready += add_request(out + ready, writing, blocks, payload);
      sent++;
    }
    put(out, ready);
    ssize_t got = read(server, in + filled, input_size - filled);
    if (got <= 0) fail("read");
    filled += (size_t)got;
    size_t at = 0;
    for (; filled - at >= reply; at += reply, answered++) {
      uint32_t magic, error;
      memcpy(&magic, in + at, 4);
      memcpy(&error, in + at + 4, 4);
      if (magic != htobe32(0x67446698) || error != 0) {
        fprintf(stderr, "a reply with magic %x and error %u\n", be32toh(magic), be32toh(error));
        return 1;
      }
    }
    memmove(in, in + at, filled - at);
    filled -= at;
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  printf("%.3f\n", (double)(end.tv_sec - begin.tv_sec) * 1e3 + (double)(end.tv_nsec - begin.tv_nsec) / 1e6);
  return 0;
}
