"""Merging at the speed of the disk: synthetic Klein-shaped checkpoints, three bf16 files into one, each variant a process of its own.

`typed` is `clvr merge` as one types it, start-up, survey and the inputs' sums included: `typed first` hashes the inputs, `typed again`
finds their sums in the cache folder, which is the benchmark's own. The other variants of clvr merge without sums.
`floor` reads the three files and writes one, without arithmetic: what no merge can beat. Rounds go through all variants, so that a
slow minute meets them all; figures are medians, ratios are medians of the ratios within a round. Warm: the inputs are in the page
cache. Cold: they are put out of it first (the host of a virtual machine may still hold them). Memory is the process's peak, and that of it
which is no page of a file, looked at every 10 ms: libraries and mapped inputs are pages of files.

python benchmarks/merge.py speed [--out DIR] [--single 4] [--repeat 5] [--cold] [--peers PYTHON ...] [--json FILE]
    --single 4 is 1.9 GB a file, --double 5 --single 20 all of Klein 4B (7.8 GB); --peers are Pythons that have mergekit or sd-mecha;
    --inputs DIR keeps the checkpoints there for the next time
python benchmarks/merge.py survey [--repeat 25]
    the sample before a merge, on the tensors of Klein 4B at a sixth of its width, of which as many elements are sampled: milliseconds of
    CPU time a tensor, the least of the rounds, since a busy machine only adds to it
python benchmarks/merge.py kernel [FILE ...]
    the arithmetic alone, of builds of the kernel in turns: nanoseconds of CPU time an element, three bf16 rows into one, from the cache
python benchmarks/merge.py bits    every pair of layouts against the contract, and against the sum in fp64 rounded once
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROLES = ("base", "aligned", "distilled")
WINDOW = 4 << 20
READ = 512 << 10
BARS = {"kernel": 1.5, "torch": 2.5}
"""Times the floor, warm, without start-up."""
COLD_BAR = 1.4
MEMORY_BAR = 300
"""MB."""
PEER_BARS = {"mergekit": 4.0, "sd-mecha": 12.0}
"""Times as fast, start-up included."""
WRONG_BAR = 2e-4
SURVEY_BAR = 0.05
"""Milliseconds a tensor."""
TYPED = "typed first"
TYPED_BARS = {False: 1.6, True: 1.25}
"""Times the floor, start-up included: warm with known sums, and cold."""


def shapes(hidden: int, double: int, single: int, text: int) -> dict[str, tuple[int, ...]]:
    """FLUX.2 Klein in Black Forest Labs' naming; Klein 4B is 3072, 5, 20, 7680."""
    found = {
        "img_in.weight": (hidden, 128),
        "txt_in.weight": (hidden, text),
        "time_in.in_layer.weight": (hidden, 256),
        "time_in.out_layer.weight": (hidden, hidden),
        "double_stream_modulation_img.lin.weight": (6 * hidden, hidden),
        "double_stream_modulation_txt.lin.weight": (6 * hidden, hidden),
        "single_stream_modulation.lin.weight": (3 * hidden, hidden),
        "final_layer.linear.weight": (128, hidden),
        "final_layer.adaLN_modulation.1.weight": (2 * hidden, hidden),
    }
    for index, stream in itertools.product(range(double), ("img", "txt")):
        block = f"double_blocks.{index}.{stream}_"
        found |= {f"{block}attn.qkv.weight": (3 * hidden, hidden), f"{block}attn.proj.weight": (hidden, hidden)}
        found |= {f"{block}attn.norm.{name}_norm.scale": (128,) for name in ("query", "key")}
        found |= {f"{block}mlp.0.weight": (6 * hidden, hidden), f"{block}mlp.2.weight": (hidden, 3 * hidden)}
    for index in range(single):
        block = f"single_blocks.{index}."
        found |= {f"{block}linear1.weight": (9 * hidden, hidden), f"{block}linear2.weight": (hidden, 4 * hidden)}
        found |= {f"{block}norm.{name}_norm.scale": (128,) for name in ("query", "key")}
    return found


def generate(folder: Path, sizes: dict[str, tuple[int, ...]]) -> list[Path]:
    """Normal weights of deviation 0.02, deltas of 0.3 and 2 % of that."""
    import numpy as np

    from clvr_core.weights.dtypes import decode, encode

    entries, end = {}, 0
    for name, shape in sizes.items():
        size = 2 * math.prod(shape)
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(entries).encode()
    text += b" " * (-(len(text) + 8) % 4096)
    random = np.random.default_rng(0)
    noise = [random.standard_normal(1 << 22, dtype=np.float32) for _ in ROLES]
    paths = [folder / f"{role}.safetensors" for role in ROLES]
    files = [path.open("wb") for path in paths]
    for file in files:
        file.write(struct.pack("<Q", len(text)) + text)
    for shape in sizes.values():
        count = math.prod(shape)
        for start in range(0, count, 1 << 22):
            rolled = [np.roll(each, int(random.integers(1 << 22)))[: min(1 << 22, count - start)] for each in noise]
            base = encode(np.float32(0.02) * rolled[0] + np.float32(len(shape) == 1), "BF16")
            files[0].write(base)
            for file, delta, size in zip(files[1:], rolled[1:], (6e-5, 4e-4)):
                file.write(encode(decode(base, "BF16") + np.float32(size) * delta, "BF16"))
    for file in files:
        file.flush()
        os.fsync(file.fileno())
        file.close()
    return paths


def floor(paths: list[Path], out: Path) -> None:
    """Reads all, writes as much as one has, in the windows and with the writes of a merge."""
    import mmap

    size = min(path.stat().st_size for path in paths)
    files = [os.open(path, os.O_RDONLY) for path in paths]
    part = out.with_suffix(".part")
    target = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_DIRECT", 0), 0o666)
    os.posix_fallocate(target, 0, -(-size // 4096) * 4096)
    starts = iter(range(0, size, WINDOW))
    lock = threading.Lock()

    def work() -> None:
        window, rest = memoryview(mmap.mmap(-1, WINDOW)), memoryview(mmap.mmap(-1, READ))
        while True:
            with lock:
                start = next(starts, None)
            if start is None:
                return
            end = min(start + WINDOW, size)
            for place in range(start, end, READ):
                many = min(READ, end - place)
                os.preadv(files[0], [window[place - start : place - start + many]], place)
                for file in files[1:]:
                    os.preadv(file, [rest[:many]], place)
            os.pwrite(target, window[: -(-(end - start) // 4096) * 4096], start)

    threads = [threading.Thread(target=work) for _ in range(min((os.cpu_count() or 1) + 1, 8))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.ftruncate(target, size)
    os.fsync(target)
    os.replace(part, out)


def build_kernel(folder: Path) -> Path | None:
    """The optional kernel as the package's build makes it, or None without a compiler."""
    out = folder / "_kernel.so"
    compiler = shutil.which("cc")
    if not compiler:
        return None
    flags = ["-O3", "-ffp-contract=off", "-shared", "-fPIC"]
    done = subprocess.run(
        [compiler, *flags, ROOT / "clvr_core" / "merge" / "_kernel.c", "-o", out], check=False, capture_output=True
    )
    return out if done.returncode == 0 else None


def load_kernel(path: Path | None) -> None:
    """In a child: the kernel built here, or none even if the package has one."""
    from clvr_core.merge import native

    found = native.load(path) if path else None
    assert (found is None) is (path is None), f"{path} does not give the bits of the contract"
    native.kernel = lambda: found


def child(options: argparse.Namespace) -> None:
    """One variant in a process of its own; prints its seconds without start-up."""
    *paths, out = options.files
    variant = options.variant.partition("+")[0]
    if variant == "floor":
        started = time.perf_counter()
        floor(paths, out)
    else:
        load_kernel(options.kernel)
        if variant == "torch":
            import torch  # noqa: F401 (its import is start-up)
        from clvr_core.merge.plan import make_plan
        from clvr_core.merge.recipe import MergeRecipe
        from clvr_core.merge.run import merge

        started = time.perf_counter()
        with make_plan(MergeRecipe(*paths, beta=0.8)) as plan:
            merge(plan, out, sha256="sha256" in options.variant, measured="report" in options.variant)
        assert ("torch" in sys.modules) is (variant == "torch")
    print(time.perf_counter() - started)


MERGEKIT = """merge_method: task_arithmetic
base_model: {0}
models:
  - {{model: {1}, parameters: {{weight: 1.0}}}}
  - {{model: {2}, parameters: {{weight: 0.8}}}}
parameters: {{normalize: false, lambda: 1.0}}
dtype: float32
out_dtype: bfloat16
"""
SD_MECHA = """
import sys, torch, sd_mecha
from safetensors import safe_open
from sd_mecha.extensions import model_configs
from sd_mecha.extensions.builtin.merge_methods.linear import add_difference
with safe_open(sys.argv[1], "pt") as file:
    shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
keys = {name: model_configs.KeyMetadata(shape, torch.bfloat16) for name, shape in shapes.items()}
config = model_configs.ModelConfigImpl(identifier="klein-benchmark", components={"diffuser": keys})
model_configs.register_aux(config)
base, aligned, distilled = (sd_mecha.model(path, config=config) for path in sys.argv[1:4])
recipe = add_difference(add_difference(base, sd_mecha.subtract(aligned, base), alpha=1.0), sd_mecha.subtract(distilled, base), alpha=0.8)
sd_mecha.merge(recipe, merge_device="cpu", merge_dtype=torch.float32, output_dtype=torch.bfloat16, output=sys.argv[4])
"""


def commands(folder: Path, paths: list[Path], out: Path, options: argparse.Namespace) -> dict[str, list]:
    kernel = build_kernel(folder)
    here = [sys.executable, __file__, "child"]
    words = [word for role, path in zip(ROLES, paths) for word in (f"--{role}", path)]
    typed = [sys.executable, "-m", "clvr_core.cli", "merge", *words, "--beta", "0.8", "--out", out]
    found = {"floor": [*here, "floor", *paths, out], TYPED: typed, "typed again": typed}
    found["torch"] = [*here, "torch", *paths, out]
    if kernel:
        found["kernel"] = [*here, "--kernel", kernel, "kernel", *paths, out]
    if options.extras:
        found["torch+sha256"] = [*here, "torch+sha256", *paths, out]
        found["torch+report"] = [*here, "torch+report", *paths, out]
        if kernel:
            for extra in ("sha256", "report"):
                found[f"kernel+{extra}"] = [*here, "--kernel", kernel, f"kernel+{extra}", *paths, out]
    for peer in options.peers:
        recipe = folder / "mergekit.yml"
        recipe.write_text(MERGEKIT.format(*paths))
        tool = Path(peer).with_name("mergekit-pytorch")
        if tool.exists():
            found["mergekit"] = [tool, recipe, folder / "mergekit", "--quiet"]
        if subprocess.run([peer, "-c", "import sd_mecha"], capture_output=True, check=False).returncode == 0:
            found["sd-mecha"] = [peer, "-c", SD_MECHA, *paths, out]
    return found


def prepare(paths: list[Path], out: Path, cold: bool) -> None:
    out.unlink(missing_ok=True)
    shutil.rmtree(out.parent / "mergekit", ignore_errors=True)
    os.sync()
    buffer = bytearray(8 << 20)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            if cold:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                while file.readinto(buffer):
                    pass


def once(command: list, out: Path) -> dict[str, float]:
    """Wall seconds until the output is on the disk, peak memory in MB, and the seconds without start-up where the child tells them."""
    started = time.perf_counter()
    environment = {**os.environ, "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    environment["CLVR_CACHE"] = str(out.parent / "cache")
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    own = [0.0]
    watch = threading.Thread(target=watch_memory, args=(process.pid, own), daemon=True)
    watch.start()
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[:4]} failed: {text.strip()[-2000:]}")
    for path in (out, out.parent / "mergekit" / "model.safetensors"):
        if path.exists():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    wall = time.perf_counter() - started
    watch.join()
    inside = float(text.split()[-1]) if "child" in command else math.nan
    return {
        "wall": wall,
        "inside": inside,
        "cpu": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss / 1024,
        "own": max(own),
    }


def watch_memory(pid: int, found: list[float]) -> None:
    """Adds the process's megabytes that are no page of a file, until it ends."""
    while True:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            return
        kilobytes = [int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:"))]
        if not kilobytes:
            return  # it has ended and was not waited for
        found.append(sum(kilobytes) / 1024)
        time.sleep(0.01)


def speed(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(dir=options.out) as name:
        folder = Path(name)
        place = options.inputs or folder
        paths = [place / f"{role}.safetensors" for role in ROLES]
        if not all(path.exists() for path in paths):
            # In a process of its own: a child's peak of memory begins with that of its parent.
            sizes = map(str, (options.hidden, options.double, options.single, options.text))
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            subprocess.run([sys.executable, __file__, "generate", place, *sizes], env=environment, check=True)
        out = folder / "merged.safetensors"
        variants = commands(folder, paths, out, options)
        rows: dict[str, list[dict[str, float]]] = {variant: [] for variant in variants}
        once([*variants[TYPED], "--dry-run"], out)  # compiles the modules, as the installation of a package does
        for _ in range(options.repeat):
            for variant, command in variants.items():
                prepare(paths, out, options.cold)
                if variant == TYPED:
                    shutil.rmtree(folder / "cache", ignore_errors=True)
                rows[variant].append(once(command, out))
        size = paths[0].stat().st_size
        result = {
            "bytes": size,
            "cold": options.cold,
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "rows": rows,
        }
    print(
        f"3 x {size / 1e9:.3g} GB bf16 into one, {'cold' if options.cold else 'warm'}, {os.cpu_count()} cores, median of {options.repeat}"
    )
    print(table(rows))
    print("\n".join(verdicts(rows, options.cold)))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


def median(rows: list[dict[str, float]], key: str) -> float:
    return statistics.median(row[key] for row in rows)


def ratio(rows: dict[str, list[dict[str, float]]], over: str, under: str, key: str) -> float:
    return statistics.median(top[key] / bottom[key] for top, bottom in zip(rows[over], rows[under]))


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    lines = [
        "| variant | s | without start-up | times the floor | CPU s | times the floor's | peak MB | without pages of files, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for variant, each in rows.items():
        inside = median(each, "inside")
        shown = "" if math.isnan(inside) else f"{inside:.2f}"
        times = ratio(rows, variant, "floor", "wall" if math.isnan(inside) else "inside")
        spent = ratio(rows, variant, "floor", "cpu")
        lines.append(
            f"| {variant} | {median(each, 'wall'):.2f} | {shown} | {times:.2f} | {median(each, 'cpu'):.2f} | {spent:.2f} "
            f"| {median(each, 'memory'):.0f} | {median(each, 'own'):.0f} |"
        )
    return "\n".join(lines)


def verdicts(rows: dict[str, list[dict[str, float]]], cold: bool) -> list[str]:
    def line(what: str, found: float, bar: float, met: bool) -> str:
        return f"{what}: {found:.2f}, bar {bar:g}: {'met' if met else 'NOT MET'}"

    found = []
    for variant, bar in BARS.items():
        if variant in rows:
            times, limit = ratio(rows, variant, "floor", "inside"), COLD_BAR if cold else bar
            found.append(line(f"{variant}, times the floor without start-up", times, limit, times <= limit))
            memory = median(rows[variant], "own")
            found.append(line(f"{variant}, peak MB without pages of files", memory, MEMORY_BAR, memory < MEMORY_BAR))
    typed = TYPED if cold else "typed again"
    if typed in rows:
        for key, what in (("wall", "time"), ("cpu", "CPU")):
            times, bar = ratio(rows, typed, "floor", key), TYPED_BARS[cold]
            found.append(line(f"{typed}, times the floor's {what}, start-up included", times, bar, times <= bar))
    fastest = "kernel" if "kernel" in rows else "torch"
    for peer, bar in PEER_BARS.items():
        if peer in rows:
            times = ratio(rows, peer, fastest, "wall")
            found.append(line(f"{peer}, times the wall time of {fastest}, start-up included", times, bar, times >= bar))
            if fastest != "torch":
                found.append(f"{peer}, times the wall time of torch: {ratio(rows, peer, 'torch', 'wall'):.2f}")
    return found


def survey_speed(options: argparse.Namespace) -> None:
    from clvr_core.merge.native import engine_in_words
    from clvr_core.merge.plan import make_plan
    from clvr_core.merge.recipe import MergeRecipe
    from clvr_core.merge.survey import survey

    with tempfile.TemporaryDirectory(dir=options.out) as name:
        paths = generate(Path(name), shapes(512, 5, 20, 1280))
        spent: dict[str, list[float]] = {"headers and plan": [], "survey": []}
        for _ in range(options.repeat):
            started = time.process_time()
            with make_plan(MergeRecipe(*paths, beta=0.8)) as plan:
                planned = time.process_time()
                survey(plan)
                spent["survey"].append(time.process_time() - planned)
                spent["headers and plan"].append(planned - started)
                count = len(plan.outputs)
    print(f"{count} tensors, {engine_in_words()}, least of {options.repeat}, load {os.getloadavg()[0]:.0f}")
    for what, seconds in spent.items():
        print(f"{what}: {1e3 * min(seconds) / count:.3f} ms of CPU time a tensor, {1e3 * min(seconds):.0f} ms in all")
    met = "met" if 1e3 * min(spent["survey"]) / count <= SURVEY_BAR else "NOT MET"
    print(f"survey, bar {SURVEY_BAR:g} ms a tensor: {met}")


def kernel_speed(options: argparse.Namespace) -> None:
    import numpy as np

    from clvr_core.merge.engine import BLOCK, Block, KernelEngine
    from clvr_core.merge.native import kernel, load
    from clvr_core.weights.dtypes import encode

    random = np.random.default_rng(0)
    values = np.float32(0.02) * random.standard_normal((3, BLOCK), dtype=np.float32)
    rows = [memoryview(bytearray(encode(row, "BF16").tobytes())) for row in values]
    block = Block(rows, [("BF16", None)] * 3, ("aligned", "distilled"), [1.0, 0.8], None, BLOCK)
    builds = {str(path): load(path) for path in options.libraries} or {"the kernel": kernel()}
    engines = {name: KernelEngine(build) for name, build in builds.items()}
    least: dict[tuple[str, bool], float] = {}
    for _ in range(options.repeat):
        for (name, engine), measured, _ in itertools.product(engines.items(), (False, True), range(20)):
            started = time.process_time()
            engine.merge(block, "BF16", measured=measured)
            spent = (time.process_time() - started) / BLOCK * 1e9
            least[name, measured] = min(spent, least.get((name, measured), math.inf))
    for (name, measured), spent in least.items():
        print(f"{name}: {spent:.2f} ns an element{', with the measures' if measured else ''}")
    print(f"least of {options.repeat}, load {os.getloadavg()[0]:.0f}")


def bits(options: argparse.Namespace) -> None:
    """Every pair of layouts, merged and compared with the contract in plain torch and with fp64."""
    import torch
    from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers as to_diffusers
    from safetensors.torch import load_file, save_file

    from clvr_core.merge.plan import make_plan
    from clvr_core.merge.recipe import MergeRecipe
    from clvr_core.merge.run import merge

    forms = {
        "bfl": dict,
        "model.diffusion_model.": lambda each: {f"model.diffusion_model.{name}": value for name, value in each.items()},
        "diffusers": lambda each: {name: value.contiguous() for name, value in to_diffusers(dict(each)).items()},
    }
    alpha, beta = 0.7, 0.85
    with tempfile.TemporaryDirectory(dir=options.out) as name:
        folder = Path(name)
        load_kernel(build_kernel(folder))
        plain = [load_file(path) for path in generate(folder, shapes(options.hidden, 1, 1, 2 * options.hidden))]
        expected, wrong, total, worst = {}, 0, 0, 0
        for key in plain[0]:
            base, aligned, distilled = (each[key].float() for each in plain)
            expected[key] = (base + ((aligned - base) * alpha + (distilled - base) * beta)).bfloat16()
            b, a, d = (each.double() for each in (base, aligned, distilled))
            strengths = torch.tensor([alpha, beta], dtype=torch.float32).double()
            exact = (b + strengths[0] * (a - b) + strengths[1] * (d - b)).bfloat16()
            steps = (expected[key].view(torch.int16).int() - exact.view(torch.int16).int()).abs()
            wrong, total, worst = wrong + int((steps > 0).sum()), total + steps.numel(), max(worst, int(steps.max()))
        for role, each in zip(ROLES, plain):
            for form, shape in forms.items():
                save_file(shape(each), folder / f"{role}-{form}.safetensors")
        pairs = list(itertools.product(forms, forms, forms, ("base", "bfl", "diffusers")))
        different = 0
        for number, (*inputs, layout) in enumerate(pairs):
            paths = [folder / f"{role}-{form}.safetensors" for role, form in zip(ROLES, inputs)]
            out = folder / "merged.safetensors"
            with make_plan(MergeRecipe(*paths, alpha=alpha, beta=beta, layout=layout)) as plan:
                merge(plan, out, overwrite=True, sha256=False)
            same_layout = layout == "base" or (layout == "bfl") == (inputs[0] != "diffusers")
            right = forms[inputs[0] if same_layout else layout](expected)
            found = load_file(out)
            same = found.keys() == right.keys() and all(
                torch.equal(found[key].view(torch.int16), right[key].view(torch.int16)) for key in right
            )
            different += not same
            if not same:
                print(f"pair {number}: {' '.join(inputs)} to {layout}: other bits")
    said = "NOT MET" if different else "met"
    print(f"{len(pairs)} pairs of layouts, {total} elements each: {different} differ from the contract, bar 0: {said}")
    said = "met" if wrong / total <= WRONG_BAR and worst <= 1 else "NOT MET"
    print(
        f"{100 * wrong / total:.4f} % differ from fp64 rounded once, by {worst} unit, bar {100 * WRONG_BAR:g} % and 1: {said}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)
    timed = kinds.add_parser("speed")
    timed.add_argument("--hidden", type=int, default=3072)
    timed.add_argument("--text", type=int, default=7680)
    timed.add_argument("--double", type=int, default=1)
    timed.add_argument("--single", type=int, default=4)
    timed.add_argument("--repeat", type=int, default=5)
    timed.add_argument("--cold", action="store_true", help="put the inputs out of the page cache before each run")
    timed.add_argument("--extras", action="store_true", help="time the inputs' sha256 and the report too")
    timed.add_argument(
        "--peers", metavar="PYTHON", nargs="+", default=[], help="Pythons with mergekit or sd-mecha, to time them too"
    )
    timed.add_argument(
        "--inputs", type=Path, metavar="DIR", help="a folder of three checkpoints made before, or to be made"
    )
    timed.add_argument("--json", type=Path)
    timed.set_defaults(run=speed)
    sampled = kinds.add_parser("survey")
    sampled.add_argument("--repeat", type=int, default=25)
    sampled.set_defaults(run=survey_speed)
    alone = kinds.add_parser("kernel")
    alone.add_argument(
        "libraries", type=Path, nargs="*", metavar="FILE", help="built libraries (default: the one in use)"
    )
    alone.add_argument("--repeat", type=int, default=10)
    alone.set_defaults(run=kernel_speed)
    exact = kinds.add_parser("bits")
    exact.add_argument("--hidden", type=int, default=512)
    exact.set_defaults(run=bits)
    for each in (timed, sampled, exact):
        each.add_argument(
            "--out", type=Path, help="a folder on the disk to be measured (default: the system's temporary one)"
        )
    one = kinds.add_parser("child")
    one.add_argument("--kernel", type=Path)
    one.add_argument("variant")
    one.add_argument("files", type=Path, nargs=4)
    one.set_defaults(run=child)
    made = kinds.add_parser("generate")
    made.add_argument("folder", type=Path)
    made.add_argument("sizes", type=int, nargs=4, help="hidden, double blocks, single blocks, width of the text")
    made.set_defaults(run=lambda options: generate(options.folder, shapes(*options.sizes)))
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
