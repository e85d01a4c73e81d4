"""What a user did, weighed for the target or averaged, on a real log; and what a penalty of a batch's rows costs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment

if TYPE_CHECKING:
    from sememe.tokens.click_logs import ClickLog

DIM = 16
LONGEST = 20
STEPS = 400
STRENGTH = 0.5
TABLES = (20_000, 1_000_000)
ROUNDS = 15
CONTENDERS = ("interest", "mean", "none", "interest, batch L2", "interest, id too", "mean, id too")
Ids = NDArray[np.int64]


@experiment(
    "interest",
    paper=Paper("Deep Interest Network for Click-Through Rate Prediction", 2018, "1706.06978"),
    claim="Weighing a user's behaviours by the target beats models that pool them; the regulariser costs only the rows "
    "of the batch.",
    needs=("frappe",),
)
def run(setting: Setting) -> Finding:
    """The Frappe log: a user's other apps as behaviours, the app at hand as the target; users are not known by id."""
    from sememe.tokens.click_logs import ClickLog
    from sememe.tokens.click_measures import interval, measure

    log = ClickLog.sample(setting.data, "frappe")
    logits: dict[str, list[Any]] = {name: [] for name in CONTENDERS}
    for seed in setting.seeds:
        history = histories(log, seed)
        for name in logits:
            logits[name].append(trained(log, history, name, seed))
    labels = log.labels[log.test]
    measured = {name: measure(labels, runs) for name, runs in logits.items()}
    areas = {name: interval(*pair[0]) for name, pair in measured.items()}
    (own, own_draws), (base, base_draws) = measured["interest"][0], measured["mean"][0]
    gap = interval(own - base, own_draws - base_draws)
    (known, known_draws), (least, least_draws) = measured["interest, id too"][0], measured["mean, id too"][0]
    seconds = penalty_seconds(setting.seeds[0])
    ratio = seconds[TABLES[1]] / seconds[TABLES[0]]
    checks = {
        "its AUC is at least one point above that of the mean of the behaviours": gap[0] >= 0.01,
        f"a step with the penalty takes at most 20 % longer with {TABLES[1]:,} rows than with {TABLES[0]:,}": ratio
        <= 1.2,
    }
    return Finding(
        measured=areas["interest"][0],
        baseline=areas["mean"][0],
        interval=(gap[1], gap[2]),
        unit="AUC of clicks: behaviours weighed for the target, and their mean",
        interval_of="the difference, over seeds and test rows",
        checks=checks,
        details={
            "auc": areas,
            "log_loss": {name: interval(*pair[1]) for name, pair in measured.items()},
            "interest_minus_mean_where_users_are_known_by_id_too": interval(known - least, known_draws - least_draws),
            "seconds_of_a_step_with_the_penalty": seconds,
            "ratio": ratio,
        },
        conditions=f"Frappe (49,064 rows to learn from, 28,860 to test): at most {LONGEST} apps that the user chose in "
        "the rows to learn from, the row itself left out, drawn anew for each row; the other nine fields (and in the "
        "details the user's id, too) beside them, vectors "
        f"of {DIM} dimensions, a perceptron, {STEPS} steps of 512 rows, Adam; the penalty with strength {STRENGTH}. "
        "Steps are look-ups of 512 rows with 20 behaviours, the penalty, and stochastic gradients of the rows used.",
        reason=""
        if all(checks.values())
        else "; ".join(
            why
            for held, why in (
                (
                    gap[0] >= 0.01,
                    "likely, not tested: a user of this log has a few tens of apps, whose mean says enough of it "
                    "once a perceptron multiplies it with the app",
                ),
                (ratio <= 1.2, "rows of a large table are not in the processor's caches"),
            )
            if not held
        ),
    )


def histories(log: ClickLog, seed: int) -> tuple[Ids, NDArray[np.bool_]]:
    """Apps each row's user chose in other rows to learn from, ``(n, LONGEST)``, and where there is one.

    A chosen row is left out of its own history, so that rows to learn from look like those to test.
    """
    generator = np.random.default_rng(seed)
    users, apps = log.ids[:, 0], log.ids[:, 1]
    chosen = log.train[log.labels[log.train] > 0]
    chosen = chosen[generator.permutation(len(chosen))]
    chosen = chosen[np.argsort(users[chosen], kind="stable")]
    starts = np.searchsorted(users[chosen], users)
    counts = np.searchsorted(users[chosen], users, side="right") - starts
    rank = np.full(len(log), -1)  # place of a chosen row within its user's
    rank[chosen] = np.arange(len(chosen)) - starts[chosen]
    others = counts - (rank >= 0)
    turn = generator.integers(0, np.maximum(others, 1))
    steps = np.arange(LONGEST)
    there = steps < others[:, None]
    place = (turn[:, None] + steps) % np.maximum(others, 1)[:, None]
    place += (rank[:, None] >= 0) & (place >= rank[:, None])
    known = np.minimum(starts[:, None] + place, len(chosen) - 1)
    return np.where(there, apps[chosen[known]], 0), there


def trained(log: ClickLog, history: tuple[Ids, NDArray[np.bool_]], name: str, seed: int) -> Any:
    """Logits of the test rows after training a model with this way of pooling."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    from sememe.tokens.click_models import ClickRecipe
    from sememe.tokens.interest import InterestPooling, batch_l2

    recipe = ClickRecipe(steps=STEPS)
    behaviours, there = (torch.from_numpy(part) for part in history)
    ids, labels, counts = torch.from_numpy(log.ids), torch.from_numpy(log.labels), torch.from_numpy(log.counts)
    generator = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        table = nn.Embedding(log.num_ids, DIM)
        nn.init.normal_(table.weight, std=0.02)
        first = 0 if name.endswith("id too") else 1  # the first field is the user
        fields = len(log.fields) - first
        top = nn.Sequential(
            nn.Linear((fields + 2) * DIM, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)
        )
        pooling = InterestPooling(DIM)
    model = nn.ModuleDict({"table": table, "top": top, "pooling": pooling})

    def logits(rows: Any) -> Any:
        own, target, mask = table(ids[rows, first:]), table(ids[rows, 1]), there[rows]
        past = table(behaviours[rows])
        if name.startswith("interest"):
            user = pooling(past, target, mask)
        elif name.startswith("mean"):
            user = (past * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
        else:
            user = torch.zeros_like(target)
        return top(torch.cat((own.flatten(1), user, user * target), dim=1))[:, 0]

    with_penalty = name.endswith("L2")
    decay = 0.0 if with_penalty else recipe.decay  # the penalty takes the place of the common decay of the table
    optimizer = torch.optim.AdamW(
        [
            {"params": table.parameters(), "weight_decay": decay},
            {"params": [*top.parameters(), *pooling.parameters()], "weight_decay": recipe.decay},
        ],
        fused=True,
    )
    order = np.zeros(0, dtype=np.int64)
    for number in range(recipe.steps):
        if len(order) < recipe.batch:
            order = np.concatenate((order, generator.permutation(log.train)))
        rows, order = torch.from_numpy(order[: recipe.batch]), order[recipe.batch :]
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate_at(number / recipe.steps)
        loss = F.binary_cross_entropy_with_logits(logits(rows), labels[rows])
        if with_penalty:
            loss = loss + batch_l2(table.weight, ids[rows], counts, STRENGTH, sparse=False)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        return torch.cat([logits(torch.from_numpy(part)) for part in np.array_split(log.test, 8)]).double().numpy()


def penalty_seconds(seed: int) -> dict[int, float]:
    """CPU time of a step over tables of two sizes, in turns, with rows drawn as unevenly as ids of logs are."""
    import torch
    from torch import nn

    from sememe.tokens.interest import batch_l2

    generator = np.random.default_rng(seed)
    taken: dict[int, list[float]] = {size: [] for size in TABLES}
    tables = {size: nn.Embedding(size, DIM, sparse=True) for size in TABLES}
    counts = {size: torch.ones(size) for size in TABLES}
    for _ in range(ROUNDS):
        drawn = np.minimum(generator.zipf(1.3, size=(512, LONGEST)), 10**9)
        for size, table in tables.items():
            ids = torch.from_numpy((drawn * 7_919) % size)
            began = time.process_time()
            loss = table(ids).square().mean() + batch_l2(table.weight, ids, counts[size], STRENGTH)
            loss.backward()
            with torch.no_grad():
                gradient = table.weight.grad
                assert gradient is not None and gradient.is_sparse
                table.weight.index_add_(0, gradient._indices()[0], gradient._values(), alpha=-0.1)
            table.weight.grad = None
            taken[size].append(time.process_time() - began)
    return {size: float(np.median(times)) for size, times in taken.items()}
