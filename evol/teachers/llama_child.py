"""The process in which llama.cpp runs: a program of its own, which needs nothing of evol.

Its standard input is its life line. The first line holds the options as JSON; after it nothing comes, and the end of
the input means that whoever started it is gone, by whatever way. To the standard output it writes one line of JSON, the
address, once the model is loaded. What llama.cpp says of its errors goes to the standard error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any


def main() -> None:
    """Serves until the input ends."""
    parent = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # to be asked to stop is to stop, with no word to the library
    options = json.loads(sys.stdin.readline())
    _end_with_the_input()
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    server = _serve(options)
    answer.write(json.dumps({"url": server.listening_address}) + "\n")
    answer.flush()
    while os.getppid() == parent:  # a second net, should the watcher be gone
        time.sleep(1)


def _end_with_the_input() -> None:
    """Leaves behind a process that kills this whole group when the input ends.

    A thread could not: loading a model holds the interpreter's lock, for minutes with a large one.
    """
    if os.fork():
        return
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def _serve(options: dict[str, Any]) -> Any:  # noqa: ANN401 - xllamacpp has no types
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options["model"]
    params.hostnames = ["127.0.0.1"]
    params.port = options["port"]
    params.api_keys = [options["key"]]
    params.ui = False
    params.verbosity = 1  # errors only
    params.n_parallel = options["slots"]
    params.n_ctx = options["context"] * options["slots"]
    params.cache_ram_mib = options["cache_ram"]
    # Prompts that share no more than the beginning of their fixed text are not alike: the cache in memory has a better.
    params.slot_prompt_similarity = 0.5
    if options["threads"]:
        params.cpuparams.n_threads = options["threads"]
        params.cpuparams_batch.n_threads = options["threads"]
    if options["gpu_layers"] is not None:
        params.n_gpu_layers = options["gpu_layers"]
    if options["chat_template"]:
        params.chat_template = options["chat_template"]
    try:
        return xllamacpp.Server(params)
    except RuntimeError:
        sys.exit(1)  # llama.cpp has said why, on the standard error


if __name__ == "__main__":
    main()
