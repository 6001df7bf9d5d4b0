/* SPDX-License-Identifier: Apache-2.0 */
/*! The look-alike's C interface, for ctypes. A function that can fail returns NULL or -1; la_last_error says why. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct la_mesh la_mesh;       /* a mesh device, held by the caller */
typedef struct la_tensor la_tensor;   /* a mesh buffer, held by the caller */
typedef struct la_buffer la_buffer;   /* one more reference to one buffer */
typedef struct la_cache la_cache;     /* a container of references to buffers */
typedef struct la_program la_program; /* a program with its buffer pool */
typedef struct la_shelf la_shelf;     /* a container of the standard library */

/* What the library did, from its own point of view. */
enum la_action {
    LA_ALLOCATED = 1,  /* an owner's request was met */
    LA_REPORTED = 2,   /* a free was reported to the graph tracker */
    LA_RELEASED = 3,   /* an owner's block went back to the allocator */
    LA_DEALLOCATE = 4, /* deallocate() was called on a buffer, with the status it has */
    LA_MARKED = 5,     /* a buffer's status was set to deallocated, nothing else */
    LA_DESTROYED = 6,  /* a buffer was destroyed, with the status that it had before */
    LA_BULK = 7,       /* an allocator dropped everything; device_id is the mesh's */
    LA_CLOSED = 8,     /* a mesh was closed; device_id is the mesh's */
};

typedef struct la_entry {
    uint64_t unique_id;
    uint64_t address;
    uint64_t size;
    uint32_t action;
    int32_t buffer_type;
    int32_t device_id;
    uint8_t status;
    uint8_t owns;
    uint8_t hooked;
    uint8_t padding;
} la_entry;

/* The reason of the last failure in this thread. */
const char* la_last_error(void);

la_mesh* la_mesh_open(int chips);
la_mesh* la_mesh_submesh(la_mesh* mesh, int chips);
int la_mesh_id(const la_mesh* mesh);
void la_mesh_close(la_mesh* mesh);
void la_mesh_drop(la_mesh* mesh);
/* Everything that the mesh's allocator holds is released, the mesh stays open. */
void la_mesh_release_all(la_mesh* mesh);
/* The block at an address is released behind its owner's back. */
void la_mesh_release_address(la_mesh* mesh, int type, uint64_t address);

/* The mesh's program cache keeps one more reference to a buffer, until it is cleared. */
void la_mesh_cache_program(la_mesh* mesh, la_buffer* buffer);
void la_mesh_clear_program_cache(la_mesh* mesh);

la_tensor* la_tensor_create(la_mesh* mesh, int type, uint64_t size, uint64_t page_size);
/* A mesh buffer over memory that is somebody else's. */
la_tensor* la_tensor_at(la_mesh* mesh, int type, uint64_t size, uint64_t page_size, uint64_t address);
void la_tensor_deallocate(la_tensor* tensor);
void la_tensor_drop(la_tensor* tensor);
void la_tensor_describe(const la_tensor* tensor, la_entry* entry);

/* One more reference to a tensor's owning buffer. */
la_buffer* la_buffer_share(la_tensor* tensor);
/* A non-owning buffer over the second half of a tensor. */
la_buffer* la_buffer_view(la_tensor* tensor);
/* A second owner of a tensor's block. */
la_buffer* la_buffer_adopt(la_tensor* tensor);
void la_buffer_deallocate(la_buffer* buffer);
void la_buffer_drop(la_buffer* buffer);
/* Releases a buffer's block, even if the buffer does not own it, as old releases did. */
void la_buffer_release(la_buffer* buffer);
void la_buffer_describe(const la_buffer* buffer, la_entry* entry);

la_cache* la_cache_new(void);
void la_cache_keep(la_cache* cache, la_tensor* tensor);
/* Deallocates what is kept, and forgets it. */
void la_cache_clear(la_cache* cache);
void la_cache_drop(la_cache* cache);

la_program* la_program_new(void);
void la_program_keep(la_program* program, la_tensor* tensor);
void la_program_keep_buffer(la_program* program, la_buffer* buffer);
void la_program_run(la_program* program, la_mesh* mesh);
void la_program_drop(la_program* program);

/* Kinds: 0 vector, 1 map, 2 unordered_map, 3 deque. */
la_shelf* la_shelf_new(int kind);
void la_shelf_put(la_shelf* shelf, la_buffer* buffer);
void la_shelf_clear(la_shelf* shelf);
void la_shelf_drop(la_shelf* shelf);

/* Whether the buffer of each chip reports that it is allocated, and that it is freed: without effect but in the variants
   excess-reporting*, where they begin with frees alone. */
void la_report_chips(int allocations, int frees);

/* Between the two, allocations are only pretended. */
int la_capture_begin(void);
void la_capture_end(void);

void la_log_enable(int enabled);
size_t la_log_size(void);
int la_log_entry(size_t index, la_entry* entry);

#ifdef __cplusplus
}
#endif
