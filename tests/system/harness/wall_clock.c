/* The wall clock of one process, shifted: CLOCK_REALTIME, gettimeofday and time; all other clocks are left alone.
 *
 * Preloaded. The environment names a file, which is mapped: its first eight bytes are the shift in nanoseconds, and
 * whoever writes there makes the clock jump at that instant. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t SECOND = 1000000000;
static volatile int64_t *shift;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("WALL_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *found = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    if (found == MAP_FAILED || !real) {
        fputs("wall_clock: WALL_CLOCK must name a file of eight bytes\n", stderr);
        _exit(127);
    }
    close(file);
    shift = found;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    if (!real) /* asked for by another library that begins before this one */
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(id, now);
    if (!failed && shift && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        int64_t shown = (int64_t)now->tv_sec * SECOND + now->tv_nsec + *shift;
        now->tv_sec = shown / SECOND;
        now->tv_nsec = shown % SECOND;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec shown;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &shown))
        return -1;
    now->tv_sec = shown.tv_sec;
    now->tv_usec = shown.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into)
{
    struct timespec shown;
    if (clock_gettime(CLOCK_REALTIME, &shown))
        return -1;
    if (into)
        *into = shown.tv_sec;
    return shown.tv_sec;
}
