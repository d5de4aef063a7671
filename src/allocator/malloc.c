/* glibc's allocator, told to give large blocks back. Run before main: Rust has no safe way to call mallopt(3).
 *
 * Left alone, glibc raises its mmap threshold to the size of each large block that is freed, up to 32 MiB, and takes the
 * next ones from heaps that it never trims: after a few bursts of 20 MB bodies the process keeps 229 MiB at rest. With a
 * fixed threshold a large block is a mapping of its own, which grows without being copied and is gone when it is freed.
 * Arenas beyond two buy no speed here and keep memory of their own (docs/decisions/container-base.md).
 */
#include <malloc.h>
#include <stdlib.h>

#define LARGE (128 * 1024)

__attribute__((constructor)) static void give_memory_back(void) {
    if (getenv("GLIBC_TUNABLES") == NULL) {
        if (getenv("MALLOC_MMAP_THRESHOLD_") == NULL) mallopt(M_MMAP_THRESHOLD, LARGE);
        if (getenv("MALLOC_TRIM_THRESHOLD_") == NULL) mallopt(M_TRIM_THRESHOLD, LARGE);
        if (getenv("MALLOC_ARENA_MAX") == NULL) mallopt(M_ARENA_MAX, 2);
    }
}
