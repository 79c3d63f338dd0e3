// Counts what this process asks the heap for, the libraries it calls included. Left out is what
// no caller can avoid: oneDNN's dnnl_primitive_execute builds a small table of arguments at every call (seen
// in 3.2), and libgomp a team where its size differs from the last one's.
#pragma once

namespace allocations {

extern const bool can_count;  // false under a sanitizer, which owns malloc
void start();
int stop();  // how many since start()

}  // namespace allocations
