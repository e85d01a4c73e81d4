"""Rows for any token from its pieces, by a network that learned on random tokenizers of a frozen model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from sememe import progress
from sememe.catalog import Paper, register
from sememe.contracts import Vectors
from sememe.errors import InputError
from sememe.vocab.initialize import hypernet_file
from sememe.vocab.initialize.random_unigram import endless
from sememe.vocab.initialize.rows import Ids, Initializer, Problem, Vocabulary
from sememe.vocab.initialize.spelling import parts

if TYPE_CHECKING:
    from sememe.vocab.initialize.piece_network import PieceNetwork

_TOGETHER = 256  # known tokens that are imitated in a step
_APPLIED = 4_096  # tokens that get their rows at a time


@register(
    "hypernet",
    room="vocab",
    kind="initializer",
    summary="a small transformer over a token's pieces, trained on random tokenizers of the frozen model",
    paper=Paper("Zero-Shot Tokenizer Transfer", 2024, "2405.07883"),
    claim="Close to the original model without training it on the new tokenizer.",
    slow=True,
)
class TokenizerHypernet(Initializer):
    """A small transformer over the pieces that the old tokenizer makes of a new token.

    First it learns to rebuild known rows from the other tokens that spell them. Then, in each step, a random Unigram
    tokenizer is drawn from some of the text, the frozen model reads the text in its tokens with rows of the
    hypernetwork, and the network learns from the model's loss and from the distance to known rows of tokens that both
    vocabularies have.

    As an initializer it learns on the model and the text of the problem, once for both tables, with the problem's seed;
    one that was read from a folder is used as it is.

    Parameters
    ----------
    steps : int
        With the model's loss.
    warmup : int
        Steps before those, of rebuilding alone.
    batch, length : int
        Sequences a step, and their tokens.
    size : int
        Largest vocabulary that is drawn; the smallest is half of it.
    noise : float
        Most noise on the logarithms of counts; a tokenizer gets a random share of it.
    others : int
        Most tokens of a vocabulary beside those of the text that the softmax chooses from.
    imitation : float
        Weight of the distance to known rows.
    rate : float
        Highest learning rate.
    width, layers, heads : int
        Of the transformer; width 0 is the model's own, but at most 256.
    most : int
        Pieces of a token that are looked at.
    seed : int
    folder : str
        Of a hypernetwork that was saved: an initializer reads it and learns nothing.
    save : str
        A folder to save to, after an initializer has learned.

    Attributes
    ----------
    losses_ : float64 ndarray of shape (steps,)
        Nats a token of the frozen model, in tokens of each step's own tokenizer.
    """

    needs: ClassVar[tuple[str, ...]] = ("model", "text")

    def __init__(
        self,
        steps: int = 200,
        warmup: int = 300,
        batch: int = 8,
        length: int = 128,
        size: int = 2_048,
        noise: float = 1.0,
        others: int = 1_024,
        imitation: float = 0.5,
        rate: float = 2e-3,
        width: int = 0,
        layers: int = 2,
        heads: int = 4,
        most: int = 8,
        seed: int = 0,
        folder: str = "",
        save: str = "",
    ) -> None:
        self.steps, self.warmup, self.batch, self.length = steps, warmup, batch, length
        self.size, self.noise, self.others = size, noise, others
        self.imitation, self.rate = imitation, rate
        self.width, self.layers, self.heads, self.most = width, layers, heads, most
        self.seed, self.folder, self.save = seed, folder, save

    def fit(self, model: Any, tokenizer: Vocabulary, texts: Sequence[str]) -> Self:
        """Learn the rows of a causal language model.

        Parameters
        ----------
        model : transformers.PreTrainedModel
            Causal. It does not change.
        tokenizer : Vocabulary
            The model's.
        texts : sequence of str

        Raises
        ------
        InputError
            No text to draw tokenizers from, or settings that are not possible.
        """
        from sememe.vocab.initialize.model_loss import ModelLoss, tables_of

        if not any(text.strip() for text in texts):
            raise InputError("a hypernetwork learns from text, and there is none", fix="give a sample of text")
        loss = ModelLoss(model, self.batch, self.length)
        self.prepare(tables_of(model, len(tokenizer.tokens)), tokenizer)
        drawn = endless(texts, self.batch, self.length, size=self.size, noise=self.noise, generator=self._generator)
        seen: dict[str, list[int]] = {}

        def step(net: PieceNetwork) -> tuple[Any, float]:
            vocabulary, ids = next(drawn)
            used, places = np.unique(ids, return_inverse=True)
            # The tokens of the text, and as many others of the vocabulary for the softmax to choose from.
            others = self._generator.permutation(np.setdiff1d(np.arange(len(vocabulary.tokens)), used))[: self.others]
            names = [vocabulary.tokens[number] for number in (*used, *others)]
            for name in names:
                if name not in seen:
                    seen[name] = [n for n in tokenizer.pieces(name) if n not in tokenizer.special]
            made, imitated = self._mixed(net, names, net.of([seen[name] for name in names]))
            nats = loss(made[0], made[-1], places.reshape(ids.shape))
            return nats + self.imitation * imitated, nats.item()

        self.losses_ = np.array(self.learn(step, self.steps, "learning from the frozen model"))
        return self

    def prepare(self, tables: Sequence[Vectors], tokenizer: Vocabulary) -> Self:
        """Begin with the mean of pieces and learn to rebuild known rows.

        Parameters
        ----------
        tables : sequence of float32 ndarrays of shape (v, d)
            Input and output table, or the one that is both.
        tokenizer : Vocabulary
        """
        whole = (self.batch, self.length, self.size, self.layers, self.heads)
        if min(whole) < 1 or min(self.steps, self.warmup) < 0 or self.rate <= 0 or self.noise < 0:
            raise InputError(f"{self!r} cannot learn", fix="give positive numbers")
        self._generator = np.random.default_rng(self.seed)
        self._spelling = tokenizer
        self._net = self._network(tables)
        self._known: dict[bytes, int] = {}
        for number in range(len(tokenizer.tokens)):
            text = tokenizer.text_of(number)
            if text and number not in tokenizer.special:
                self._known.setdefault(text, number)
        self._parts: dict[bytes, list[int]] = {}
        names = [text for text in self._known if len(text) > 1]
        self.losses_ = np.zeros(0)
        if names:

            def step(net: PieceNetwork) -> tuple[Any, float]:
                chosen = self._generator.integers(len(names), size=min(_TOGETHER, len(names)))
                loss = self._rebuilt(net, [names[place] for place in chosen])
                return loss, loss.item()

            self.learn(step, self.warmup, "learning to rebuild rows")
        return self

    def learn(
        self, step: Callable[[PieceNetwork], tuple[Any, float]], steps: int, label: str = "learning"
    ) -> list[float]:
        """Train the network on any loss.

        Parameters
        ----------
        step : function
            Of the network: the loss as a tensor, and the number that is noted.
        steps : int
        label : str
            What progress is called.

        Returns
        -------
        list of float
            The noted numbers.
        """
        import torch

        from sememe.lab.train import Recipe

        if not steps:
            return []
        recipe = Recipe(steps=steps, rate=self.rate)
        parameters = list(self._net.parameters())
        optimizer = torch.optim.AdamW(parameters, lr=self.rate, betas=(0.9, 0.98), weight_decay=0.01)
        noted = []
        with progress.task(label, total=steps, unit="steps") as tick:
            for number in range(steps):
                for group in optimizer.param_groups:
                    group["lr"] = recipe.rate_at((number + 1) / (steps + 1))
                optimizer.zero_grad(set_to_none=True)
                loss, value = step(self._net)
                if not np.isfinite(value):
                    raise InputError(f"the loss is {value} at step {number + 1}", fix="lower the learning rate")
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                noted.append(value)
                tick()
        return noted

    def rows(self, pieces: Sequence[Sequence[int]]) -> Vectors:
        """Rows of tokens by their pieces, float32 ``(t, m, d)`` for ``t`` tables; of none, the tables' means."""
        self._check_fitted()
        import torch

        with torch.inference_mode():
            found = [
                self._net.of(pieces[start : start + _APPLIED]).numpy() for start in range(0, len(pieces), _APPLIED)
            ]
        if not found:
            return np.zeros((len(self._net.rows), 0, self._net.dim), dtype=np.float32)
        return np.concatenate(found, axis=1)

    def save_to(self, folder: str | os.PathLike[str]) -> Path:
        """Write what was learned into a new folder (safetensors and JSON), whole or not at all.

        The model's tables are not written: `open` gets them again, and checks that they are the same.

        Raises
        ------
        InputError
            The folder exists, or cannot be written.
        """
        self._check_fitted()
        kept = {name: value for name, value in self.get_params().items() if name not in ("folder", "save")}
        tables = [rows.numpy() for rows in self._net.rows]
        state = {name: value.detach().numpy() for name, value in self._net.state_dict().items()}
        return hypernet_file.write(folder, state, kept, tables, self._spelling, self.losses_)

    @classmethod
    def open(
        cls, folder: str | os.PathLike[str], tables: Sequence[Vectors], tokenizer: Vocabulary
    ) -> TokenizerHypernet:
        """Read a hypernetwork.

        Parameters
        ----------
        folder : path
            What `save_to` wrote.
        tables : sequence of float32 ndarrays of shape (v, d)
            As for `prepare`: of the model that it learned from.
        tokenizer : Vocabulary
            That model's.

        Raises
        ------
        InputError
            No such folder, damaged files, or tables or a tokenizer that are not those it learned from.
        """
        params, state, losses = hypernet_file.read(folder, tables, tokenizer)
        try:
            made = cls(**params)
            made._net = made._network(tables)
            hypernet_file.fill(made._net, state)
        except (TypeError, ValueError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(f"holds no hypernetwork of this version ({reason[:120]})", where=str(folder)) from None
        made._spelling, made.losses_ = tokenizer, losses
        return made

    def _network(self, tables: Sequence[Vectors]) -> PieceNetwork:
        from sememe.lab.model import seeded
        from sememe.vocab.initialize.piece_network import PieceNetwork

        width = self.width or max(self.heads, min(tables[0].shape[1], 256) // self.heads * self.heads)
        with seeded(self.seed):
            return PieceNetwork(tables, width=width, layers=self.layers, heads=self.heads, most=self.most)

    def _require(self, problem: Problem, need: str) -> None:
        if not (need == "text" and self.folder):
            super()._require(problem, need)

    def _weigh(self, problem: Problem, table: Vectors, ids: Ids) -> Any:
        known = (problem.old, problem.model, problem.text, problem.seed, self.get_params())
        if getattr(self, "_of", None) != known:  # the other table of the same model was made before
            self._made, self._of = self._learned(problem), known
        matching = [n for n, own in enumerate(self._made._net.rows) if np.array_equal(own.numpy(), table)]
        if not matching:
            raise InputError("the table is none of the model's", where="hypernet", fix="give the model that it is from")
        return self._made.rows([problem.pieces(number) for number in ids.tolist()])[matching[0]]

    def _learned(self, problem: Problem) -> TokenizerHypernet:
        """Read from the folder, or trained for a problem."""
        from sememe.vocab.initialize.model_loss import frozen, tables_in

        if self.folder:
            tables = tables_in(problem.model, len(problem.old.tokens))
            return TokenizerHypernet.open(self.folder, tables, problem.old)
        settings = {**self.get_params(), "seed": problem.seed, "save": ""}
        made = TokenizerHypernet(**settings).fit(frozen(problem.model), problem.old, problem.text)
        if self.save:
            made.save_to(self.save)
        return made

    def _mixed(self, net: PieceNetwork, names: Sequence[str], made: Any) -> tuple[Any, Any]:
        """Rows as surgery gives them, and what to imitate.

        Tokens that both vocabularies have keep their rows, so that the others learn to stand beside those. What the
        network makes of them, whole and rebuilt from parts, shall come near their rows.
        """
        import torch

        raw = [name.encode("utf-8", "replace") for name in names]
        both = torch.tensor([text in self._known for text in raw])
        if not both.any():
            return made, torch.zeros(())
        wanted = net.rows[:, [self._known.get(text, 0) for text in raw]]
        whole = _distance(net, made[:, both], wanted[:, both])
        mixed = torch.where(both[None, :, None], wanted, made)
        long = [text for text in raw if len(text) > 1 and text in self._known]
        if not long:
            return mixed, whole
        chosen = self._generator.integers(len(long), size=min(_TOGETHER, len(long)))
        return mixed, (whole + self._rebuilt(net, [long[place] for place in chosen])) / 2

    def _rebuilt(self, net: PieceNetwork, names: Sequence[bytes]) -> Any:
        """Distance of known rows from what the network makes of the parts that spell them."""
        import torch

        for name in names:
            if name not in self._parts:
                self._parts[name] = parts(name, self._known)
        wanted = torch.tensor([self._known[name] for name in names])
        return _distance(net, net.of([self._parts[name] for name in names]), net.rows[:, wanted])


def _distance(net: PieceNetwork, made: Any, wanted: Any) -> Any:
    """Mean squared distance in units of each table's variance."""
    return (((made - wanted) / net.spread[:, None, None]) ** 2).mean()
