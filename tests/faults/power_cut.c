/* A record of what a process hands to its disk, for power cuts on purpose; see durable/testing/matrix/power.py.
 *
 * Loaded before the C library. Once armed, each write, truncation and flush of a file whose path contains the given
 * text is appended to a record, before it is passed on: a head line `kind offset size path`, then the data. From the
 * record one can tell what the disk was bound to hold at any instant: what was flushed, and of the rest anything.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static char path_part[256];
static int record = -1;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

/* From now on, record into this open file. */
void power_arm(const char *part, int fd) {
    strncpy(path_part, part, sizeof path_part - 1);
    record = fd;
}

static void note(int fd, char kind, off_t at, const void *data, size_t size) {
    char link[64], path[4096], head[4300];
    if (record < 0)
        return;
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length > 0) {
        path[length] = 0;
        if (strstr(path, path_part)) {
            if (at < 0)
                at = lseek(fd, 0, SEEK_CUR);
            int head_size = snprintf(head, sizeof head, "%c %lld %zu %s\n", kind, (long long)at, size, path);
            pthread_mutex_lock(&turn);
            if (REAL(write)(record, head, head_size) != head_size ||
                (data && REAL(write)(record, data, size) != (ssize_t)size))
                _exit(99);
            pthread_mutex_unlock(&turn);
        }
    }
    errno = saved;
}

ssize_t write(int fd, const void *data, size_t size) {
    note(fd, 'w', -1, data, size);
    return REAL(write)(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    note(fd, 'w', at, data, size);
    return REAL(pwrite)(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    note(fd, 'w', at, data, size);
    return REAL(pwrite64)(fd, data, size, at);
}
int ftruncate(int fd, off_t size) {
    note(fd, 't', size, 0, 0);
    return REAL(ftruncate)(fd, size);
}
int ftruncate64(int fd, off64_t size) {
    note(fd, 't', size, 0, 0);
    return REAL(ftruncate64)(fd, size);
}
int fsync(int fd) { /* noted once it has returned: only then is it a promise */
    int result = REAL(fsync)(fd);
    if (!result)
        note(fd, 'f', 0, 0, 0);
    return result;
}
int fdatasync(int fd) {
    int result = REAL(fdatasync)(fd);
    if (!result)
        note(fd, 'f', 0, 0, 0);
    return result;
}
