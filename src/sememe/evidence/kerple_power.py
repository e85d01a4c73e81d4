"""Power kernels with a learned shape beside ALiBi, which is one of them: losses at up to eight times the length."""

from __future__ import annotations

from sememe.catalog import Paper
from sememe.evidence.kerple_log import CONDITIONS, LENGTHS, means, measured
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.positions import paired, perplexity


@experiment(
    "kerple-power",
    paper=Paper("KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation", 2022, "2205.09921"),
    claim="ALiBi is the case of power 1 of a family of kernels whose shape can be learned.",
    needs=("wikitext2",),
)
def run(setting: Setting) -> Finding:
    """The same texts and training as for the log kernel."""
    import torch

    from sememe.positions.relative import PowerKernelBias, SymmetricAlibi

    runs = measured(setting, {"power": "kerple-power", "ALiBi": "symmetric-alibi"})
    last = LENGTHS[-1]
    mean = means({name: runs[name] for name in ("power", "ALiBi")})
    gaps = {n: paired(*([run[n] for run in runs[name]] for name in ("power", "ALiBi"))) for n in LENGTHS}
    powers = [row[0].tolist() for row in runs["r2 of power"]]
    checks = {
        "with power 1 and the usual slopes it is ALiBi, bit for bit, for 3, 4 and 8 heads": all(
            torch.equal(PowerKernelBias(heads, learn=False).bias(last), SymmetricAlibi(heads).bias(last))
            for heads in (3, 4, 8)
        ),
        "every head learned a power of its own, between 0 and 2": all(
            0 < power < 2 and abs(power - 1) > 1e-3 for row in powers for power in row
        ),
        "at the trained length the loss is below ALiBi's, with confidence": gaps[LENGTHS[0]][2] < 0,
        f"and at {last:,} bytes it is not above it, with confidence": gaps[last][1] <= 0,
    }
    return Finding(
        measured=perplexity(mean["power"][last]),
        baseline=perplexity(mean["ALiBi"][last]),
        interval=(gaps[last][1], gaps[last][2]),
        unit=f"perplexity a byte at {last:,} bytes of a model trained on {LENGTHS[0]}: learned powers, against ALiBi",
        interval_of="learned powers minus ALiBi in nats a byte, paired by seed and text",
        checks=checks,
        details={
            "nats_a_byte": mean,
            "power_minus_ALiBi": gaps,
            "powers_by_seed": powers,
        },
        conditions=CONDITIONS,
        reason=""
        if all(checks.values())
        else f"learned powers minus ALiBi: {gaps[LENGTHS[0]][0]:+.4f} nats a byte at {LENGTHS[0]}, "
        f"{gaps[last][0]:+.4f} at {last:,}",
    )
