/* What a library for a device with memory of its own exports beside abi.h, by whose rules it goes.
 * ffi/device_symbols.ts declares the same table. The CPU library has none of these.
 *
 * Work is put on one stream, in the order of the calls, and a call returns before its work is done. Pointers are to the
 * device's memory unless marked HOST. llmts_global_norm and the functions that say so wait for the stream; they also
 * report what kernels found wrong since the last time: a token or target out of range, named as abi.h's ops would name
 * it.
 */
#ifndef LLMTS_ABI_DEVICE_H
#define LLMTS_ABI_DEVICE_H

#include "abi.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Stores in address[0] (HOST) the address of fresh memory on the device, `bytes` long and aligned to 256, not zeroed.
 */
LLMTS_EXPORT int32_t llmts_device_alloc(uint64_t *address, int64_t bytes);

/* Frees what llmts_device_alloc gave, when the work on the stream is done. What kernels found wrong is left to the next
 * function that reports it. */
LLMTS_EXPORT int32_t llmts_device_free(void *memory);

/* Copies bytes from HOST to the device. from may be reused when the call returns. */
LLMTS_EXPORT int32_t llmts_device_upload(void *to, const void *from, int64_t bytes);

/* Copies bytes from the device to HOST. Waits for the stream. */
LLMTS_EXPORT int32_t llmts_device_download(void *to, const void *from, int64_t bytes);

/* Waits for the stream. */
LLMTS_EXPORT int32_t llmts_device_synchronize(void);

/* Stores in free[0] and total[0] (HOST) the device's memory in bytes, as the driver sees it now. */
LLMTS_EXPORT int32_t llmts_device_memory(int64_t *free, int64_t *total);

/* Whether fp32 products may round their factors to TF32, 10 bits of mantissa (1), or not (0, the default). */
LLMTS_EXPORT int32_t llmts_device_allow_tf32(int32_t allowed);

/* Marks a moment on the stream; the next llmts_device_timer_stop waits for the stream and stores in milliseconds[0]
 * (HOST) the device's time since then. */
LLMTS_EXPORT int32_t llmts_device_timer_start(void);
LLMTS_EXPORT int32_t llmts_device_timer_stop(float *milliseconds);

#ifdef __cplusplus
}
#endif
#endif
