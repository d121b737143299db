/* A disk that forgets: tells afterwards what a power cut would have left of a folder.
 *
 * Loaded into a program (LD_PRELOAD), it lets every write to DISK_FOLDER happen and first notes in DISK_JOURNAL how to
 * undo it; a sync is noted too, and is what makes the writes before it last. Kill the program, then undo what was not
 * synced (tests/it/power.rs does, in several ways): that is the folder after the power came back.
 *
 * While the file DISK_CONTROL/hang is there, no sync returns; while DISK_CONTROL/full is there, no write does more than
 * fail (ENOSPC). With DISK_LIES=1 a sync says that it was done and was not: the disk that a test must be able to convict.
 *
 * A note: kind, then little-endian number, inode, offset, old size (8 bytes each), lengths of path and bytes (4 each),
 * path, bytes. Kinds: W overwritten bytes of a file; F its end, cut off; T all of it, emptied; C a file that was made; O
 * what a renaming replaced; R a renaming (path: from, bytes: to); S, D a sync of a file or folder, which covers all notes
 * with a lower number than its offset.
 */
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
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *folder, *control;
static size_t folder_length;
static int journal = -1, lies;
static uint64_t number;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static int (*real_open)(const char *, int, ...);
static int (*real_rename)(const char *, const char *);
static int (*real_ftruncate)(int, off64_t);
static int (*real_fsync)(int);

__attribute__((constructor)) static void start(void) {
  real_write = dlsym(RTLD_NEXT, "write");
  real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
  real_open = dlsym(RTLD_NEXT, "open64");
  real_rename = dlsym(RTLD_NEXT, "rename");
  real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
  real_fsync = dlsym(RTLD_NEXT, "fsync");
  const char *file = getenv("DISK_JOURNAL");
  folder = getenv("DISK_FOLDER");
  control = getenv("DISK_CONTROL");
  lies = getenv("DISK_LIES") != NULL;
  if (!folder || !file || !control) return;
  folder_length = strlen(folder);
  journal = real_open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int below(const char *path) {
  return journal >= 0 && !strncmp(path, folder, folder_length) && (path[folder_length] == '/' || !path[folder_length]);
}

/* Whether fd is a file (or folder) that is watched; gives what stat says. */
static int watched(int fd, struct stat *is) {
  char link[64], path[4096];
  if (journal < 0 || fd < 3 || fd == journal || fstat(fd, is) || !(S_ISREG(is->st_mode) || S_ISDIR(is->st_mode))) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return below(path);
}

static int ordered(const char *what) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", control, what);
  return !access(path, F_OK);
}

static void note(char kind, uint64_t inode, int64_t offset, int64_t size, const char *path, const void *bytes, size_t count) {
  uint32_t lengths[2] = {(uint32_t)strlen(path), (uint32_t)count};
  size_t total = 1 + 4 * 8 + 8 + lengths[0] + count;
  char *all = malloc(total), *at = all;
  uint64_t numbers[4] = {number++, inode, (uint64_t)offset, (uint64_t)size};
  *at++ = kind;
  memcpy(at, numbers, 32), at += 32;
  memcpy(at, lengths, 8), at += 8;
  memcpy(at, path, lengths[0]), at += lengths[0];
  memcpy(at, bytes, count);
  if (real_write(journal, all, total) != (ssize_t)total) abort();
  free(all);
}

/* Notes the bytes of a file from offset on, at most count of them. */
static void note_bytes(char kind, const char *path, const struct stat *is, int64_t offset, size_t count) {
  int64_t there = is->st_size - offset;
  if (there < 0) there = 0;
  if ((int64_t)count > there) count = (size_t)there;
  char *old = malloc(count + 1);
  int fd = real_open(path, O_RDONLY | O_CLOEXEC);
  ssize_t got = fd < 0 ? 0 : pread64(fd, old, count, offset);
  if (fd >= 0) close(fd);
  note(kind, is->st_ino, offset, is->st_size, kind == 'O' ? path : "", old, got < 0 ? 0 : (size_t)got);
  free(old);
}

static void note_write(int fd, const struct stat *is, int64_t offset, size_t count) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  note_bytes('W', link, is, offset, count);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
  struct stat is;
  if (!watched(fd, &is)) return real_pwrite(fd, bytes, count, offset);
  if (ordered("full")) return errno = ENOSPC, -1;
  pthread_mutex_lock(&lock);
  fstat(fd, &is);
  note_write(fd, &is, offset, count);
  ssize_t done = real_pwrite(fd, bytes, count, offset);
  pthread_mutex_unlock(&lock);
  return done;
}
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) { return pwrite64(fd, bytes, count, offset); }

ssize_t write(int fd, const void *bytes, size_t count) {
  struct stat is;
  if (!watched(fd, &is)) return real_write(fd, bytes, count);
  if (ordered("full")) return errno = ENOSPC, -1;
  pthread_mutex_lock(&lock);
  fstat(fd, &is);
  int appends = fcntl(fd, F_GETFL) & O_APPEND;
  note_write(fd, &is, appends ? is.st_size : lseek64(fd, 0, SEEK_CUR), count);
  ssize_t done = real_write(fd, bytes, count);
  pthread_mutex_unlock(&lock);
  return done;
}

int ftruncate64(int fd, off64_t length) {
  struct stat is;
  if (!watched(fd, &is)) return real_ftruncate(fd, length);
  pthread_mutex_lock(&lock);
  fstat(fd, &is);
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  note_bytes('F', link, &is, length, SIZE_MAX >> 1);
  int done = real_ftruncate(fd, length);
  pthread_mutex_unlock(&lock);
  return done;
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int open_with(const char *path, int flags, mode_t mode) {
  if (!below(path) || !(flags & (O_CREAT | O_TRUNC))) return real_open(path, flags, mode);
  pthread_mutex_lock(&lock);
  struct stat is;
  int there = !stat(path, &is);
  if (there && (flags & O_TRUNC) && is.st_size) note_bytes('T', path, &is, 0, SIZE_MAX >> 1);
  int fd = real_open(path, flags, mode);
  if (fd >= 0 && !there && !fstat(fd, &is)) note('C', is.st_ino, 0, 0, path, "", 0);
  pthread_mutex_unlock(&lock);
  return fd;
}
int open64(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  mode_t mode = (flags & O_CREAT) ? va_arg(more, mode_t) : 0;
  va_end(more);
  return open_with(path, flags, mode);
}
int open(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  mode_t mode = (flags & O_CREAT) ? va_arg(more, mode_t) : 0;
  va_end(more);
  return open_with(path, flags, mode);
}

int rename(const char *from, const char *to) {
  if (!below(to)) return real_rename(from, to);
  pthread_mutex_lock(&lock);
  struct stat is;
  if (!stat(to, &is) && S_ISREG(is.st_mode)) note_bytes('O', to, &is, 0, SIZE_MAX >> 1);
  int moved = !stat(from, &is);
  if (moved) note('R', is.st_ino, 0, 0, from, to, strlen(to));
  int done = real_rename(from, to);
  pthread_mutex_unlock(&lock);
  return done;
}

static int sync_of(int fd) {
  struct stat is;
  if (!watched(fd, &is)) return real_fsync(fd);
  while (ordered("hang")) usleep(5000);
  if (lies) return 0;
  /* What is written from here on need not be covered. */
  pthread_mutex_lock(&lock);
  note(S_ISDIR(is.st_mode) ? 'D' : 'S', is.st_ino, (int64_t)number, 0, "", "", 0);
  pthread_mutex_unlock(&lock);
  return 0;
}
int fsync(int fd) { return sync_of(fd); }
int fdatasync(int fd) { return sync_of(fd); }
