// SPDX-License-Identifier: Apache-2.0
//! The tables of a ttnn-visualizer report, in version 3.5 of their schema: those that ttnn 0.81.1 writes
//! (`ttnn/graph_report.py`). Most stay empty, as a trace knows nothing of them.

/// The version of the schema, for the report's own table of facts.
pub(super) const VERSION: &str = "3.5";

/// What a trace does not know of a device. The visualizer itself takes 0 for what a report lacks, and draws lines to where
/// there is nothing.
pub(super) const UNKNOWN_OF_DEVICES: [&str; 16] = [
    "num_y_cores",
    "num_x_cores",
    "num_y_compute_cores",
    "num_x_compute_cores",
    "l1_num_banks",
    "l1_bank_size",
    "address_at_first_l1_bank",
    "address_at_first_l1_cb_buffer",
    "num_banks_per_storage_core",
    "num_compute_cores",
    "num_storage_cores",
    "total_l1_memory",
    "total_l1_for_tensors",
    "total_l1_for_interleaved_buffers",
    "total_l1_for_sharded_buffers",
    "cb_limit",
];

/// Tables with a column more, the rank; each column is a number unless it says otherwise.
const RANKED: [(&str, &str); 23] = [
    (
        "devices",
        "device_id, num_y_cores, num_x_cores, num_y_compute_cores, num_x_compute_cores, worker_l1_size, l1_num_banks, \
         l1_bank_size, address_at_first_l1_bank, address_at_first_l1_cb_buffer, num_banks_per_storage_core, \
         num_compute_cores, num_storage_cores, total_l1_memory, total_l1_for_tensors, total_l1_for_interleaved_buffers, \
         total_l1_for_sharded_buffers, cb_limit",
    ),
    ("operations", "operation_id, name text, duration float"),
    ("operation_arguments", "operation_id, name text, value text"),
    ("sub_device_managers", "device_id, sub_device_manager_id"),
    ("sub_devices", "device_id, sub_device_manager_id, sub_device_id, worker_core_ranges text"),
    (
        "operation_executions",
        "execution_id, operation_id, device_id, physical_device_id, runtime_id, global_call_count, command_queue_id",
    ),
    ("execution_sub_devices", "execution_id, device_id, sub_device_manager_id, sub_device_id"),
    (
        "tensors",
        "tensor_id, shape text, dtype text, layout text, memory_config text, device_id, address, buffer_type, \
         storage_type text",
    ),
    ("device_tensors", "tensor_id, device_id, address"),
    ("buffers", "operation_id, device_id, address, max_size_per_bank, buffer_type, buffer_layout"),
    (
        "buffer_chunks",
        "operation_id, device_id, address, bank_id, core_x, core_y, chunk_address, chunk_size, page_size, num_pages, \
         buffer_type",
    ),
    ("captured_graph", "operation_id, captured_graph text"),
    ("nodes", "operation_id, unique_id, node_operation_id, name text"),
    ("edges", "operation_id, source_unique_id, sink_unique_id, source_output_index, sink_input_index, key"),
    (
        "errors",
        "operation_id, operation_name text, error_type text, error_message text, stack_trace text, timestamp text",
    ),
    ("stack_traces", "operation_id, stack_trace text, source_file_id"),
    ("input_tensors", "operation_id, input_index, tensor_id"),
    ("output_tensors", "operation_id, output_index, tensor_id"),
    (
        "tensor_lifetime",
        "tensor_id, producer_operation_id, last_use_operation_id, deallocate_operation_id, producer_source_file text, \
         producer_source_line, last_use_source_file text, last_use_source_line",
    ),
    ("tensor_consumers", "tensor_id, operation_id, input_index"),
    ("tensor_producers", "tensor_id, operation_id, output_index"),
    ("local_tensor_comparison_records", "tensor_id, golden_tensor_id, matches, desired_pcc float, actual_pcc float"),
    ("global_tensor_comparison_records", "tensor_id, golden_tensor_id, matches, desired_pcc float, actual_pcc float"),
];

/// Tables without a rank, and what makes large reports quick to look at.
const OTHERS: &str = "CREATE TABLE source_files (id INTEGER PRIMARY KEY, path text UNIQUE NOT NULL, contents text);\n\
    CREATE TABLE report_metadata (key text UNIQUE, value text);\n\
    CREATE INDEX buffers_by_operation ON buffers (rank, operation_id);\n";

/// What makes the tables.
pub(super) fn script() -> String {
    let table = |(name, columns): &(&str, &str)| {
        let columns: Vec<String> = columns.split(", ").map(typed).collect();
        format!("CREATE TABLE {name} ({}, rank int NOT NULL DEFAULT 0);\n", columns.join(", "))
    };
    RANKED.iter().map(table).chain([OTHERS.to_owned()]).collect()
}

fn typed(column: &str) -> String {
    if column.contains(' ') { column.to_owned() } else { format!("{column} int") }
}
