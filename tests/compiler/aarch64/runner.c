/* Runs a program's image on the emulated processor, as sardonyx.runtime does on the host.
 *
 * An image is a file of 64-bit words made for the address in its first word: then its size, the pool, the job, how many
 * threads and runs, how many guard pages, and their addresses. What the program computes is written back to the file.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BASE, SIZE, POOL, JOB, THREADS, RUNS, GUARDS, FIRST_GUARD };

void sardonyx_worker(uint64_t *pool, int64_t thread);
void sardonyx_submit(uint64_t *pool, uint64_t *job);

static uint64_t *pool;

static void *serve(void *thread) {
    sardonyx_worker(pool, (int64_t)thread);
    return NULL;
}

static int fail(const char *what) {
    perror(what);
    return 1;
}

int main(int count, char **arguments) {
    uint64_t head[FIRST_GUARD];
    int file = count == 2 ? open(arguments[1], O_RDWR) : -1;
    if (file < 0 || read(file, head, sizeof head) != sizeof head) return fail("image");
    void *base = (void *)head[BASE];
    const uint64_t *image = mmap(base, head[SIZE], PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
    if (image != base) return fail("mmap");
    for (uint64_t i = 0; i < head[GUARDS]; i++)
        if (mprotect((void *)image[FIRST_GUARD + i], 4096, PROT_NONE)) return fail("mprotect");
    pool = (uint64_t *)head[POOL];
    pthread_t workers[64];
    for (uint64_t i = 1; i < head[THREADS]; i++)
        if (pthread_create(&workers[i], NULL, serve, (void *)i)) return fail("pthread_create");
    for (uint64_t run = 0; run < head[RUNS]; run++) {
        usleep(1000); /* workers stop spinning and sleep meanwhile */
        sardonyx_submit(pool, (uint64_t *)head[JOB]);
    }
    sardonyx_submit(pool, NULL);
    for (uint64_t i = 1; i < head[THREADS]; i++) pthread_join(workers[i], NULL);
    return 0;
}
