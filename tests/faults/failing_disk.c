/* A disk that fails when it is told to, for tests/faults/test_faults.py.
 *
 * Loaded before the C library. Once armed, the nth call that writes to, flushes, or reads from a file whose path
 * contains the given text fails with the given errno; and, if the fault is lasting, each such call after it too, until
 * the disk is armed anew. What happens to other files is none of its business.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { WRITING = 1, FLUSHING = 2, READING = 4 };

static char path_part[256];
static int armed_kinds, armed_errno, is_lasting;
static long failing_call;
static atomic_long calls;

/* Fail the nth matching call from now on; n = 0 disarms. */
void disk_arm(const char *part, int kinds, long n, int error, int lasting) {
    armed_kinds = 0;
    strncpy(path_part, part, sizeof path_part - 1);
    failing_call = n, armed_errno = error, is_lasting = lasting;
    atomic_store(&calls, 0);
    armed_kinds = n ? kinds : 0;
}

/* How many calls have matched since the disk was armed. */
long disk_calls(void) { return atomic_load(&calls); }

static int fails(int fd, int kind) {
    char link[64], path[4096];
    if (!(armed_kinds & kind))
        return 0;
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length < 0)
        return 0;
    path[length] = 0;
    if (!strstr(path, path_part))
        return 0;
    long call = atomic_fetch_add(&calls, 1) + 1;
    if (call != failing_call && !(is_lasting && call > failing_call))
        return 0;
    errno = armed_errno;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size) {
    return fails(fd, WRITING) ? -1 : REAL(write)(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return fails(fd, WRITING) ? -1 : REAL(pwrite)(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    return fails(fd, WRITING) ? -1 : REAL(pwrite64)(fd, data, size, at);
}
int ftruncate(int fd, off_t size) { return fails(fd, WRITING) ? -1 : REAL(ftruncate)(fd, size); }
int ftruncate64(int fd, off64_t size) { return fails(fd, WRITING) ? -1 : REAL(ftruncate64)(fd, size); }
int fsync(int fd) { return fails(fd, FLUSHING) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return fails(fd, FLUSHING) ? -1 : REAL(fdatasync)(fd); }
ssize_t read(int fd, void *data, size_t size) { return fails(fd, READING) ? -1 : REAL(read)(fd, data, size); }
ssize_t pread(int fd, void *data, size_t size, off_t at) {
    return fails(fd, READING) ? -1 : REAL(pread)(fd, data, size, at);
}
ssize_t pread64(int fd, void *data, size_t size, off64_t at) {
    return fails(fd, READING) ? -1 : REAL(pread64)(fd, data, size, at);
}
