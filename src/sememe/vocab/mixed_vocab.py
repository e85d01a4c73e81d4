"""A small student of a large encoder that has a small vocabulary of its own, aligned with the teacher's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sememe import progress
from sememe.catalog import Paper, register
from sememe.contracts import Vectors
from sememe.errors import InputError
from sememe.estimator import Estimator
from sememe.vocab.initialize import Problem, make
from sememe.vocab.mixed_words import TwoWays, two_ways, written

if TYPE_CHECKING:
    from sememe.vocab.mixed_teacher import Teacher
    from sememe.vocab.tokenizer import TokenizerFile

_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")


@register(
    "mixed-vocab",
    room="vocab",
    kind="distiller",
    summary="a smaller encoder with a smaller vocabulary, whose rows first learn to stand among the teacher's own",
    paper=Paper("Extremely Small BERT Models from Mixed-Vocabulary Training", 2019, "1909.11687"),
    claim="Students an order of magnitude smaller than other distilled models, at a better trade of size for accuracy.",
)
class MixedVocabDistiller(Estimator):
    """Two stages, after which vocabulary, width and layers are all smaller.

    First the teacher, which stays as it is, reads texts in which each word is written by its own tokenizer or by the
    student's, at random. Rows of student tokens are ``small @ up + shift``: as wide as the student, and brought into
    the teacher's space by one affine map. They learn that the teacher understands the mixed text as it understands the
    plain one, and where it fills gaps, also that the gaps are filled. They begin as the rows that the teacher has for
    the same tokens, or means of its pieces, in their principal directions.

    Then a student with these rows and fresh layers learns from the teacher's states of the same words, carried to the
    teacher's space by a linear map, and to fill gaps.

    Parameters
    ----------
    width, layers, heads, inner : int
        Of the student; ``inner`` 0 is four times the width.
    align_steps : int
        Batches of the first stage.
    steps : int
        Batches of the second.
    batch : int
        Texts a step.
    most : int
        Tokens of a text that are read.
    share : float
        Probability that a word of the first stage is written in student tokens.
    align_rate, rate : float
        Highest learning rates of the two stages.
    rows : {"teacher", "random"}
        Where student rows begin; ``random`` with ``align_steps=0`` is plain distillation.
    seed : int

    Attributes
    ----------
    align_losses_, losses_ : float64 ndarrays
        Of each step.
    rows_ : float32 ndarray of shape (v_small, width)
        The student's rows after the first stage.
    lift_ : float32 ndarray of shape (width, d)
        Brings the student's vectors of texts into the teacher's space.
    student : transformers.PreTrainedModel
        Of the teacher's class.
    """

    def __init__(
        self,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        inner: int = 0,
        align_steps: int = 100,
        steps: int = 1_000,
        batch: int = 32,
        most: int = 64,
        share: float = 0.5,
        align_rate: float = 2e-3,
        rate: float = 1e-3,
        rows: str = "teacher",
        seed: int = 0,
    ) -> None:
        self.width, self.layers, self.heads, self.inner = width, layers, heads, inner
        self.align_steps, self.steps, self.batch, self.most = align_steps, steps, batch, most
        self.share, self.align_rate, self.rate = share, align_rate, rate
        self.rows, self.seed = rows, seed

    def fit(
        self,
        model: Any,
        large: TokenizerFile,
        small: TokenizerFile,
        texts: Sequence[str],
        *,
        teacher: Teacher | None = None,
    ) -> Self:
        """Learn a student.

        Parameters
        ----------
        model : transformers.PreTrainedModel
            The teacher: an encoder, bare or with a head that fills gaps. It does not change.
        large, small : TokenizerFile
            Of teacher and student; they must agree where words begin and end.
        texts : sequence of str
        teacher : Teacher, optional
            Of the same model and texts, from another student's lesson, so that its states are known already.

        Raises
        ------
        InputError
            Settings or a model that this cannot be done with, or no text.
        """
        from sememe.lab.model import seeded
        from sememe.vocab.initialize.model_loss import without_gradients
        from sememe.vocab.mixed_teacher import Teacher

        self._check(model)
        if teacher is None:
            teacher = Teacher(model, two_ways(large, small, texts, self.most))
        self._base = len(large.tokens)
        self._masks = large.roles.get("mask", -1), small.roles.get("mask", -1)
        if len(teacher.rows) < self._base:
            raise InputError(f"the table has {len(teacher.rows)} rows for a tokenizer of {self._base} tokens")
        with seeded(self.seed), without_gradients(model):
            self._begin(teacher, large, small)
            self.align_losses_ = self._align(teacher)
            self.rows_: Vectors = self._small.detach().numpy().copy()
            self.student = self._fresh(model, small)
            self.losses_ = self._distil(teacher)
        self.student.eval()
        self.lift_: Vectors = np.ascontiguousarray(self._lift.weight.detach().numpy().T)
        return self

    def _check(self, model: Any) -> None:
        whole = (self.width, self.layers, self.heads, self.batch, self.most)
        if min(whole) < 1 or min(self.inner, self.align_steps, self.steps) < 0 or not 0 < self.share <= 1:
            raise InputError(f"{self!r} cannot learn", fix="give positive numbers, and a share up to 1")
        if self.width % self.heads or self.rows not in ("teacher", "random"):
            raise InputError(f"{self!r} is no student", fix="a multiple of heads as width; rows teacher or random")
        config: Any = getattr(model, "config", None)
        if not all(hasattr(config, name) for name in _SIZES) or getattr(config, "is_decoder", False):
            raise InputError(f"{type(model).__name__} is no encoder of a known layout", fix="give a BERT or its like")
        if self.width > config.hidden_size:
            raise InputError(f"the student would be wider ({self.width}) than the teacher ({config.hidden_size})")

    # The first stage

    def _begin(self, teacher: Teacher, large: TokenizerFile, small: TokenizerFile) -> None:
        """Student rows and the affine map, from the principal directions of the rows that the teacher would give."""
        import torch
        from torch import nn

        table = np.ascontiguousarray(teacher.rows[: self._base].numpy())
        made = make("subword-mean").weights(Problem.of(large, small), table).apply(table)
        centre = made.mean(axis=0)
        _, vectors = np.linalg.eigh(np.cov((made - centre).T.astype(np.float64)))
        self._directions = np.ascontiguousarray(vectors[:, ::-1][:, : self.width], dtype=np.float32)  # (d, width)
        start = torch.from_numpy((made - centre) @ self._directions)
        if self.rows == "random":
            start = start.std() * torch.randn_like(start)
        self._small = nn.Parameter(start.contiguous())
        self._up = nn.Parameter(torch.from_numpy(np.ascontiguousarray(self._directions.T)))
        self._shift = nn.Parameter(torch.from_numpy(centre))
        self._bias = nn.Parameter(torch.zeros(len(start)))

    def _align(self, teacher: Teacher) -> np.ndarray:
        import torch

        from sememe.vocab import mixed_teacher as lesson

        head = lesson.output_of(teacher.model)
        output = teacher.rows[: self._base] if head is None else head.weight.detach().float()[: self._base]
        bias = getattr(head, "bias", None)
        bias = torch.zeros(self._base) if bias is None else bias.detach()[: self._base]
        generator = np.random.default_rng(self.seed)

        def step(chosen: list[int], ways: list[TwoWays]) -> Any:
            rows = self._small @ self._up + self._shift
            batch = written(ways, self._base, self.share, generator)
            table = torch.cat((teacher.rows[: self._base], rows))
            found = lesson.read(teacher.model, table, batch)
            loss = lesson.unlike((found.words, found.texts), teacher.states(chosen))
            if head is not None:
                hidden = lesson.hide(batch, self._base, self._masks, generator)
                seen = lesson.read(teacher.model, table, hidden).before_head
                both = torch.cat((output, rows)), torch.cat((bias, self._bias))
                loss = loss + lesson.gap_cost(seen, *both, hidden, batch)
            return loss

        parameters = [self._small, self._up, self._shift, self._bias]
        return self._learn(teacher, step, parameters, self.align_steps, self.align_rate, "aligning vocabularies")

    # The second stage

    def _fresh(self, model: Any, small: TokenizerFile) -> Any:
        """A student of the teacher's class, with the rows of the first stage; positions are projected like them."""
        import torch
        from torch import nn

        config = copy.deepcopy(model.config)
        sizes = (self.width, self.layers, self.heads, self.inner or 4 * self.width, len(small.tokens))
        for name, value in zip(_SIZES, sizes, strict=True):
            setattr(config, name, value)
        config.tie_word_embeddings = True
        for role, number in small.roles.items():
            if getattr(config, f"{role}_token_id", None) is not None:
                setattr(config, f"{role}_token_id", number)
        student = type(model)(config)
        words, old = student.get_input_embeddings(), dict(model.base_model.named_modules())
        with torch.no_grad():
            for name, module in student.base_model.named_modules():
                if isinstance(module, nn.Embedding) and module is not words and name in old:
                    rows = old[name].weight.detach().float()
                    if rows.shape[0] == module.weight.shape[0]:
                        module.weight.copy_(rows @ torch.from_numpy(self._directions))
            words.weight.copy_(self._small)
            head = student.get_output_embeddings()
            if head is not None and getattr(head, "bias", None) is not None:
                head.bias.copy_(self._bias)
        self._lift = nn.Linear(self.width, model.config.hidden_size, bias=False)
        return student.eval()  # no dropout: what is imitated is not noise

    def _distil(self, teacher: Teacher) -> np.ndarray:
        from sememe.vocab import mixed_teacher as lesson

        generator = np.random.default_rng([self.seed, 1])
        student = self.student
        head = lesson.output_of(student)

        def step(chosen: list[int], ways: list[TwoWays]) -> Any:
            batch = written(ways, 0, 1.0, generator)
            table = student.get_input_embeddings().weight
            found = lesson.read(student, table, batch)
            loss = lesson.unlike((self._lift(found.words), self._lift(found.texts)), teacher.states(chosen))
            if head is not None:
                hidden = lesson.hide(batch, 0, self._masks, generator)
                seen = lesson.read(student, table, hidden).before_head
                loss = loss + lesson.gap_cost(seen, head.weight, head.bias, hidden, batch)
            return loss

        parameters = [*student.parameters(), *self._lift.parameters()]
        return self._learn(teacher, step, parameters, self.steps, self.rate, "teaching the student")

    def _learn(
        self,
        teacher: Teacher,
        step: Callable[[list[int], list[TwoWays]], Any],
        parameters: list[Any],
        steps: int,
        rate: float,
        label: str,
    ) -> np.ndarray:
        """Train on a loss of some texts; the loss of each step."""
        import torch

        from sememe.lab.train import Recipe

        noted: list[float] = []
        if not steps:
            return np.array(noted)
        recipe = Recipe(steps=steps, rate=rate).checked()
        optimizer = torch.optim.AdamW(parameters, lr=rate, betas=recipe.betas, weight_decay=recipe.decay)
        generator = np.random.default_rng([self.seed, 2])
        order: list[int] = []
        with progress.task(label, total=steps, unit="steps") as tick:
            for number in range(steps):
                if len(order) < min(self.batch, len(teacher.texts)):
                    order = generator.permutation(len(teacher.texts)).tolist()
                chosen, order = order[: self.batch], order[self.batch :]
                for group in optimizer.param_groups:
                    group["lr"] = recipe.rate_at((number + 1) / (steps + 1))
                optimizer.zero_grad(set_to_none=True)
                loss = step(chosen, [teacher.texts[place] for place in chosen])
                if not torch.isfinite(loss):
                    raise InputError(f"the loss is {loss.item()} at step {number + 1}", fix="lower the learning rate")
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)
                optimizer.step()
                noted.append(loss.item())
                tick()
        return np.array(noted)
