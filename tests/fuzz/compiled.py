"""Fuzzing of what is compiled: libFuzzer over ``lines.c``, ``binary.c`` and ``words.c``, with the
sanitizers of addresses and undefined behaviour, and threads that use ``pool.c``, with that of
threads.

An input that breaks one is kept, beside the program, and the command to repeat it is printed.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from vicinal.native.library import SOURCES
from vicinal.wire import lines

HERE = Path(__file__).parent
NATIVE = SOURCES[0].parent
WATCHED = "-fsanitize=fuzzer,address,undefined"
LINES_BYTES_MAX = 2_000
WORDS_BYTES_MAX = 2_000
SEARCH_BYTES_MAX = 100  # numbers of two bytes that shape a search


def fuzz_lines(seconds: float, seed: int, dimensions: int, texts: Sequence[bytes]) -> None:
    """Fuzz the reading of lines, beginning with these texts."""
    powers = ",".join(f"{{{high:#x}u, {low:#x}u}}" for high, low in lines.powers().tolist())
    headers = {"powers.h": f"static const Power POWERS[] = {{{powers}}};\n"}
    corpus = [bytes([dimensions - 1]) + text * 2 for text in texts]
    _fuzz("lines", headers, corpus, seconds, seed, LINES_BYTES_MAX)


def fuzz_search(seconds: float, seed: int) -> None:
    """Fuzz the search by binary codes."""
    _fuzz("binary", {}, [], seconds, seed, SEARCH_BYTES_MAX)


def fuzz_words(seconds: float, seed: int) -> None:
    """Fuzz the scoring of words."""
    _fuzz("words", {}, [], seconds, seed, WORDS_BYTES_MAX)


def share_pool(seconds: float, seed: int) -> None:
    """Use pools from several threads at random."""
    folder = Path(tempfile.mkdtemp(prefix="vicinal-fuzz-"))
    source = HERE / "pool_threads.c"
    program = _built(folder, source, "-fsanitize=thread")
    if program is None:
        return
    command = [str(program), f"{seconds:g}", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unexpected memory mapping" in done.stderr:
        print("SKIPPED: pool.c IS NOT RUN, AS THE THREAD SANITIZER DOES NOT START", flush=True)
    elif done.returncode:
        sys.exit(f"{done.stdout}{done.stderr[-5_000:]}\nagain with: {' '.join(command)}")
    else:
        print(f"pool.c: seed {seed}: {done.stdout.strip()}", flush=True)
    shutil.rmtree(folder)


def _fuzz(
    name: str,
    headers: Mapping[str, str],
    inputs: Sequence[bytes],
    seconds: float,
    seed: int,
    bytes_max: int,
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="vicinal-fuzz-"))
    for header, text in headers.items():
        (folder / header).write_text(text)
    corpus = folder / "corpus"
    corpus.mkdir()
    for place, each in enumerate(inputs):
        (corpus / str(place)).write_bytes(each)
    program = _built(folder, HERE / f"{name}_fuzzer.c", WATCHED)
    if program is None:
        return
    run = [
        str(program), f"-max_total_time={max(1, round(seconds))}", f"-seed={seed or 1}",
        f"-max_len={bytes_max}", "-len_control=0", "-timeout=20", f"-artifact_prefix={folder}/",
        str(corpus),
    ]  # fmt: skip
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-5_000:])
        kinds = ("crash-", "timeout-", "leak-", "oom-")
        found = [each for each in folder.iterdir() if each.name.startswith(kinds)]
        sys.exit("\n".join(f"again with: {program} {each}" for each in found) or "it failed")
    last = [line for line in done.stderr.splitlines() if line.startswith(("#", "Done "))][-1]
    print(f"{name}.c: seed {seed}: {last}", flush=True)
    shutil.rmtree(folder)


def _built(folder: Path, source: Path, sanitizers: str) -> Path | None:
    """Return the program made of a source, None where it cannot be made, which is said."""
    clang = shutil.which("clang")
    program = folder / source.stem
    reason = "THERE IS NO CLANG"
    if clang is not None:
        command = [
            clang, "-std=gnu11", "-g", "-O1", "-pthread", sanitizers, "-fno-sanitize-recover=all",
            f"-I{folder}", f"-I{NATIVE}", "-o", str(program), str(source), "-lm",
        ]  # fmt: skip
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        if built.returncode == 0:
            return program
        if "clang_rt" not in built.stderr:
            sys.exit(built.stderr)
        reason = "CLANG HAS NO SANITIZERS"
    print(f"SKIPPED: {source.name} IS NOT RUN, AS {reason}", flush=True)
    shutil.rmtree(folder)
    return None
