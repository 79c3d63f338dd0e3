// oneDNN, opened when a dense layer first wants it instead of linked: a process that runs depthwise layers
// alone never maps its 52 MB, and where there is none our own products serve. Inside the box, and measure.
//
// To be included in the place of <dnnl.hpp>: the C functions that oneDNN's C++ classes call are looked up by
// name at their first use. One that is missing in the list below is an undefined symbol when linking.
#pragma once
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <cstddef>

namespace replk::dense {

/// Whether oneDNN can be opened on this machine, and this process may have the code that it generates; tried
/// once, and a failure is logged once as a warning. Thread-safe.
bool onednn_available();

/// The address of one of its functions. Throws unsupported, naming what is missing. Thread-safe.
void* onednn_symbol(const char* name);

template <std::size_t size>
struct SymbolName {
  constexpr SymbolName(const char (&text)[size]) { std::copy_n(text, size, name); }
  char name[size];
};

template <SymbolName symbol, class Function>
Function onednn_function() {
  static const Function function = reinterpret_cast<Function>(onednn_symbol(symbol.name));
  return function;
}

}  // namespace replk::dense

// Within its own expansion a macro's name stands for itself: the declaration of <dnnl.h>.
#define REPLK_ONEDNN(function) ::replk::dense::onednn_function<#function, decltype(&function)>()
#define dnnl_convolution_forward_primitive_desc_create \
  REPLK_ONEDNN(dnnl_convolution_forward_primitive_desc_create)
#define dnnl_engine_create REPLK_ONEDNN(dnnl_engine_create)
#define dnnl_engine_destroy REPLK_ONEDNN(dnnl_engine_destroy)
#define dnnl_inner_product_forward_primitive_desc_create \
  REPLK_ONEDNN(dnnl_inner_product_forward_primitive_desc_create)
#define dnnl_matmul_primitive_desc_create REPLK_ONEDNN(dnnl_matmul_primitive_desc_create)
#define dnnl_memory_create_v2 REPLK_ONEDNN(dnnl_memory_create_v2)
#define dnnl_memory_desc_clone REPLK_ONEDNN(dnnl_memory_desc_clone)
#define dnnl_memory_desc_create_with_tag REPLK_ONEDNN(dnnl_memory_desc_create_with_tag)
#define dnnl_memory_desc_destroy REPLK_ONEDNN(dnnl_memory_desc_destroy)
#define dnnl_memory_desc_equal REPLK_ONEDNN(dnnl_memory_desc_equal)
#define dnnl_memory_desc_get_size_v2 REPLK_ONEDNN(dnnl_memory_desc_get_size_v2)
#define dnnl_memory_desc_query REPLK_ONEDNN(dnnl_memory_desc_query)
#define dnnl_memory_destroy REPLK_ONEDNN(dnnl_memory_destroy)
#define dnnl_memory_get_engine REPLK_ONEDNN(dnnl_memory_get_engine)
#define dnnl_memory_get_memory_desc REPLK_ONEDNN(dnnl_memory_get_memory_desc)
#define dnnl_memory_set_data_handle_v2 REPLK_ONEDNN(dnnl_memory_set_data_handle_v2)
#define dnnl_post_ops_append_binary REPLK_ONEDNN(dnnl_post_ops_append_binary)
#define dnnl_post_ops_append_eltwise REPLK_ONEDNN(dnnl_post_ops_append_eltwise)
#define dnnl_post_ops_append_sum REPLK_ONEDNN(dnnl_post_ops_append_sum)
#define dnnl_post_ops_create REPLK_ONEDNN(dnnl_post_ops_create)
#define dnnl_post_ops_destroy REPLK_ONEDNN(dnnl_post_ops_destroy)
#define dnnl_primitive_attr_create REPLK_ONEDNN(dnnl_primitive_attr_create)
#define dnnl_primitive_attr_destroy REPLK_ONEDNN(dnnl_primitive_attr_destroy)
#define dnnl_primitive_attr_set_post_ops REPLK_ONEDNN(dnnl_primitive_attr_set_post_ops)
#define dnnl_primitive_attr_set_scratchpad_mode REPLK_ONEDNN(dnnl_primitive_attr_set_scratchpad_mode)
#define dnnl_primitive_create REPLK_ONEDNN(dnnl_primitive_create)
#define dnnl_primitive_desc_destroy REPLK_ONEDNN(dnnl_primitive_desc_destroy)
#define dnnl_primitive_desc_next_impl REPLK_ONEDNN(dnnl_primitive_desc_next_impl)
#define dnnl_primitive_desc_query REPLK_ONEDNN(dnnl_primitive_desc_query)
#define dnnl_primitive_desc_query_md REPLK_ONEDNN(dnnl_primitive_desc_query_md)
#define dnnl_primitive_destroy REPLK_ONEDNN(dnnl_primitive_destroy)
#define dnnl_primitive_execute REPLK_ONEDNN(dnnl_primitive_execute)
#define dnnl_reorder_primitive_desc_create REPLK_ONEDNN(dnnl_reorder_primitive_desc_create)
#define dnnl_set_max_cpu_isa REPLK_ONEDNN(dnnl_set_max_cpu_isa)
#define dnnl_stream_create REPLK_ONEDNN(dnnl_stream_create)
#define dnnl_stream_destroy REPLK_ONEDNN(dnnl_stream_destroy)
#define dnnl_stream_wait REPLK_ONEDNN(dnnl_stream_wait)
#define dnnl_version REPLK_ONEDNN(dnnl_version)

#include <oneapi/dnnl/dnnl.hpp>
