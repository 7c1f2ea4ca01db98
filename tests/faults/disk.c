/* Preloaded into a process: records what it does to the files of one folder, in the order in
   which it does it, and makes their disk full, failing or slow on request.

   FAULTY_DISK names a folder with three things: `files`, the folder that is watched,
   `log`, to which the records go, and `control`, an array of int (see `struct control`).
   A record is a `struct record` and `length` bytes. disk.py reads it. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct __attribute__((packed)) record {
    char kind; /* Create, Write, Truncate, Sync, Failed sync, Rename, Unlink */
    uint64_t inode;
    uint64_t offset; /* of a write; size of a truncation; for a sync the log's length before it */
    uint32_t length;
};

struct control {
    int full;        /* errno of writes that would make a file longer; 0: there is space */
    int hold;        /* syncs wait while this is not 0 */
    int held;        /* how many wait now */
    int sync_error;  /* errno of syncs that fail */
    int sync_before; /* how many succeed before that */
    int sync_count;  /* how many fail then */
    int refused;     /* how many writes were refused for `full` */
    int shared_only; /* `full` is about SQLite's shared memory alone */
    int folder_only; /* `sync_error` is about the folder alone */
};

/* SCRATCH: neither recorded nor of interest after a crash. SAID: the test's own, never refused. */
enum { PLAIN, FOLDER, SCRATCH, SAID };
enum { MOST = 4096 };

static struct {
    char watched, sort;
} files[MOST];
static char folder[4096];
static int logged = -1;
static volatile struct control *control;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name)                                            \
    static __typeof__(&name) real;                            \
    if (!real)                                                \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int really_open(const char *path, int flags, mode_t mode)
{
    REAL(open64);
    return real(path, flags, mode);
}

static ssize_t really_pwrite(int file, const void *data, size_t length, off_t offset)
{
    REAL(pwrite64);
    return real(file, data, length, offset);
}

__attribute__((constructor)) static void begin(void)
{
    const char *root = getenv("FAULTY_DISK");
    char path[4096];
    if (!root)
        return;
    snprintf(path, sizeof path, "%s/control", root);
    int handle = really_open(path, O_RDWR, 0);
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
    snprintf(path, sizeof path, "%s/log", root);
    logged = really_open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (control == MAP_FAILED || logged < 0)
        abort();
    snprintf(folder, sizeof folder, "%s/files", root);
}

static void tell(char kind, uint64_t inode, uint64_t offset, const void *data, size_t length)
{
    REAL(writev);
    int before = errno;
    struct record head = {kind, inode, offset, length};
    struct iovec parts[2] = {{&head, sizeof head}, {(void *)data, length}};
    pthread_mutex_lock(&lock);
    if (real(logged, parts, 2) != (ssize_t)(sizeof head + length))
        abort();
    pthread_mutex_unlock(&lock);
    errno = before;
}

/* The name within the folder, "" for the folder itself, NULL for anything else. */
static const char *within(const char *path)
{
    size_t length = strlen(folder);
    if (logged < 0 || strncmp(path, folder, length))
        return NULL;
    return path[length] == '/' ? path + length + 1 : path[length] ? NULL : path + length;
}

static int sort_of(const char *name)
{
    size_t length = strlen(name);
    if (!length)
        return FOLDER;
    if (!strcmp(name, "said"))
        return SAID;
    return length > 4 && !strcmp(name + length - 4, "-shm") ? SCRATCH : PLAIN;
}

static int watched(int file)
{
    return file >= 0 && file < MOST && files[file].watched;
}

int open64(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    const char *name = within(path);
    int created = name && flags & O_CREAT && access(path, F_OK);
    int file = really_open(path, flags, mode);
    if (!name || file < 0 || file >= MOST)
        return file;
    struct stat64 status;
    fstat64(file, &status);
    files[file].watched = 1;
    files[file].sort = sort_of(name);
    if ((files[file].sort == PLAIN || files[file].sort == SAID) && created)
        tell('C', status.st_ino, 0, name, strlen(name));
    if (files[file].sort == PLAIN && !created && flags & O_TRUNC)
        tell('T', status.st_ino, 0, NULL, 0);
    return file;
}

int open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    return open64(path, flags, mode);
}

int close(int file)
{
    REAL(close);
    if (watched(file))
        files[file].watched = 0;
    return real(file);
}

static ssize_t write_at(int file, const void *data, size_t length, off_t offset)
{
    struct stat64 status;
    fstat64(file, &status);
    int meant = control->shared_only ? files[file].sort == SCRATCH : files[file].sort != SAID;
    if (control->full && meant && offset + (off_t)length > status.st_size) {
        if (offset >= status.st_size) {
            __atomic_add_fetch(&control->refused, 1, __ATOMIC_SEQ_CST);
            errno = control->full;
            return -1;
        }
        length = status.st_size - offset; /* a short write, as a real disk makes it */
    }
    ssize_t wrote = really_pwrite(file, data, length, offset);
    if (wrote > 0 && files[file].sort != SCRATCH)
        tell('W', status.st_ino, offset, data, wrote);
    return wrote;
}

ssize_t pwrite64(int file, const void *data, size_t length, off_t offset)
{
    if (!watched(file))
        return really_pwrite(file, data, length, offset);
    return write_at(file, data, length, offset);
}

ssize_t pwrite(int file, const void *data, size_t length, off_t offset)
{
    return pwrite64(file, data, length, offset);
}

ssize_t write(int file, const void *data, size_t length)
{
    REAL(write);
    if (!watched(file))
        return real(file, data, length);
    off_t offset = lseek(file, 0, fcntl(file, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
    ssize_t wrote = write_at(file, data, length, offset);
    if (wrote > 0)
        lseek(file, offset + wrote, SEEK_SET);
    return wrote;
}

int ftruncate64(int file, off_t size)
{
    REAL(ftruncate64);
    int result = real(file, size);
    if (!result && watched(file) && files[file].sort == PLAIN) {
        struct stat64 status;
        fstat64(file, &status);
        tell('T', status.st_ino, size, NULL, 0);
    }
    return result;
}

int ftruncate(int file, off_t size)
{
    return ftruncate64(file, size);
}

static int synced(int file, int (*really)(int))
{
    if (!watched(file))
        return really(file);
    struct stat64 status;
    fstat64(file, &status);
    uint64_t before = lseek(logged, 0, SEEK_END); /* what is written from here on is not meant */
    __atomic_add_fetch(&control->held, 1, __ATOMIC_SEQ_CST);
    while (control->hold)
        usleep(500);
    __atomic_sub_fetch(&control->held, 1, __ATOMIC_SEQ_CST);
    if (control->sync_error && (!control->folder_only || files[file].sort == FOLDER)) {
        if (control->sync_before > 0)
            control->sync_before--;
        else if (control->sync_count > 0) {
            control->sync_count--;
            tell('F', status.st_ino, before, NULL, 0);
            errno = control->sync_error;
            return -1;
        }
    }
    /* Nobody cuts the power here: what the log says is all that is asked of a sync. */
    tell('S', status.st_ino, before, NULL, 0);
    return 0;
}

int fsync(int file)
{
    REAL(fsync);
    return synced(file, real);
}

int fdatasync(int file)
{
    REAL(fdatasync);
    return synced(file, real);
}

int rename(const char *from, const char *to)
{
    REAL(rename);
    int result = real(from, to);
    const char *was = within(from), *is = within(to);
    if (!result && was && is) {
        char both[8192];
        int length = snprintf(both, sizeof both, "%s%c%s", was, 0, is);
        tell('R', 0, 0, both, length);
    }
    return result;
}

int unlink(const char *path)
{
    REAL(unlink);
    int result = real(path);
    const char *name = within(path);
    if (!result && name && sort_of(name) != SCRATCH)
        tell('U', 0, 0, name, strlen(name));
    return result;
}
