"""Measures of a tokenizer on a text: how finely it cuts, and whether its tokens mean something by themselves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sememe.catalog import Paper, register
from sememe.errors import InputError
from sememe.vocab.sample import UNSPACED, script_of_text, words

if TYPE_CHECKING:
    from sememe.vocab.tokenizer import TokenizerFile

# Endings and beginnings that are units of meaning; short lists of the productive ones, by language.
AFFIXES: Mapping[str, str] = {
    "en": """
        s es ed ing er ers est ly ness ment tion ion able ible al ful less ity ive ous ism ist un re pre dis
        in im non anti over under mis sub inter
    """,
    "de": """
        e en er es em n s st t te ten ung ungen heit keit lich ig isch bar los in innen chen lein schaft tum
        be ge ver er ent zer un vor ab an auf aus ein mit nach zu
    """,
    "fr": """
        s e es er ez ent ait aient ais ons ment tion ions eur euse eux if ive able age isme iste re in im dé
        pré sur
    """,
    "es": """
        s es a o as os ar er ir ando iendo ado ido mente ción ciones dad able ible ito ita ero era ismo ista
        re des in pre
    """,
    "it": """
        i e a o are ere ire ando endo ato ito mente zione zioni tà bile ino ina ista ismo ri dis in pre
    """,
    "pt": """
        s es a o ar er ir ando endo ado ido mente ção ções dade ável ível inho ista ismo re des in pre
    """,
    "ru": """
        а я ы и у ю е о ой ый ий ая ое ые ого ему ом ам ами ах ть ся ла ли ло ет ит ют ение ость ник ка не
        по за вы при
    """,
    "tr": """
        lar ler ı i u ü a e da de dan den ta te tan ten ın in un ün nın nin nun nün sı si su sü m mı mi mu
        mü lı li lu lü lık lik luk lük sız siz suz süz cı ci cu cü çı çi ca ce mak mek dı di du dü tı ti tu
        tü mış miş muş müş yor acak ecek ki
    """,
}


def affixes(languages: Iterable[str]) -> set[str]:
    """The affixes of some languages together; of all that are known where none of these is."""
    known = [AFFIXES[language] for language in languages if language in AFFIXES] or list(AFFIXES.values())
    return {affix for line in known for affix in line.split()}


@dataclass(frozen=True, slots=True)
class Cuts:
    """How finely a tokenizer cuts some texts.

    Attributes
    ----------
    texts, bytes, characters, words, tokens : int
        Bytes are UTF-8; words are runs of letters and digits.
    bytes_per_token : float
    bytes_per_word : float or None
        None in scripts that write no spaces between words.
    fertility : float or None
        Tokens a word, each word encoded by itself with a space before it.
    fragmentation : float or None
        Share of words that are cut into several tokens.
    unknown : float
        Share of tokens that are the unknown token.
    """

    texts: int
    bytes: int
    characters: int
    words: int
    tokens: int
    bytes_per_token: float
    bytes_per_word: float | None
    fertility: float | None
    fragmentation: float | None
    unknown: float

    def as_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


def measure_cuts(
    tokenizer: TokenizerFile, texts: Sequence[str], encoded: Sequence[Sequence[int]], *, spaced: bool = True
) -> Cuts:
    """Measure texts whose tokens are known already.

    Parameters
    ----------
    tokenizer : TokenizerFile
    texts : list of str
    encoded : list of list of int
        Their tokens.
    spaced : bool
        Whether the script writes spaces between words.
    """
    size = sum(len(text.encode("utf-8", "replace")) for text in texts)
    counts = Counter(word for text in texts for word in words(text)) if spaced else Counter[str]()
    total = sum(counts.values())
    tokens = sum(map(len, encoded))
    unknown = tokenizer.unknown
    fertility = fragmentation = None
    if total:
        forms = list(counts)
        lengths = [len(ids) for ids in tokenizer.encode_batch([f" {form}" for form in forms])]
        fertility = sum(counts[f] * n for f, n in zip(forms, lengths, strict=True)) / total
        fragmentation = sum(counts[f] for f, n in zip(forms, lengths, strict=True) if n > 1) / total
    return Cuts(
        texts=len(texts),
        bytes=size,
        characters=sum(map(len, texts)),
        words=total,
        tokens=tokens,
        bytes_per_token=size / tokens if tokens else 0.0,
        bytes_per_word=sum(n * len(w.encode("utf-8", "replace")) for w, n in counts.items()) / total if total else None,
        fertility=fertility,
        fragmentation=fragmentation,
        unknown=sum(ids.count(unknown) for ids in map(list, encoded)) / tokens
        if tokens and unknown is not None
        else 0.0,
    )


def is_spaced(texts: Sequence[str]) -> bool:
    """Whether texts are in a script that writes spaces between words."""
    return script_of_text("".join(texts[:200])[:20_000]) not in UNSPACED


@register(
    "tokenizer-report",
    room="vocab",
    kind="measure",
    summary="share of tokens that are words of the language, or single units of meaning",
    paper=Paper("Tokenization Standards for Linguistic Integrity: Turkish as a Benchmark", 2025, "2502.07057"),
    claim="The share of tokens that are valid words predicts a model's results better than their purity.",
)
class TokenizerReport:
    """Size, token count, time, and how many of the distinct tokens used are words, or single units of meaning.

    A token counts as a word where the lexicon has it (without its marker and regardless of case), and as pure where it
    is one unit of meaning: an affix, or a root, that is, a word of the lexicon that is not another word with an affix.

    Parameters
    ----------
    lexicon : iterable of str
        Words of the language.
    affixes : iterable of str
        Its affixes; see `affixes`.
    """

    def __init__(self, lexicon: Iterable[str], affixes: Iterable[str] = ()) -> None:
        self.lexicon, self.affixes = lexicon, affixes
        self._lexicon = {word.casefold() for word in lexicon if word}
        self._affixes = {affix.casefold() for affix in affixes}
        if not self._lexicon:
            raise InputError("the lexicon has no words")

    def __call__(self, tokenizer: TokenizerFile, texts: Sequence[str]) -> dict[str, Any]:
        """The report.

        Returns
        -------
        dict
            ``vocabulary``, ``tokens``, ``distinct``, ``seconds``, ``words`` (share of distinct tokens, "%TR"), ``pure``
            ("%Pure"), and both weighted by how often each token occurs.
        """
        started = time.perf_counter()
        counts = Counter(token for ids in tokenizer.encode_batch(list(texts)) for token in ids)
        seconds = time.perf_counter() - started
        judged = {}
        for token, count in counts.items():
            raw = tokenizer.text_of(token)
            text = raw.decode("utf-8", "replace").strip().casefold() if raw is not None else ""
            if any(character.isalpha() for character in text):  # neither word nor part of one: digits, punctuation
                judged[token] = (text, count)
        total = sum(count for _, count in judged.values())
        words_ = {token for token, (text, _) in judged.items() if text in self._lexicon}
        pure = {token for token, (text, _) in judged.items() if self.is_unit(text)}
        return {
            "vocabulary": sum(1 for token in tokenizer.tokens if token),
            "tokens": sum(counts.values()),
            "distinct": len(counts),
            "seconds": seconds,
            "words": len(words_) / max(len(judged), 1),
            "pure": len(pure) / max(len(judged), 1),
            "words_weighted": sum(judged[token][1] for token in words_) / max(total, 1),
            "pure_weighted": sum(judged[token][1] for token in pure) / max(total, 1),
        }

    def is_unit(self, text: str) -> bool:
        """Whether a text is one unit of meaning: an affix, or a word that no affix can be taken from."""
        if text in self._affixes:
            return True
        if text not in self._lexicon:
            return False
        for affix in self._affixes:
            for rest in (text.removesuffix(affix), text.removeprefix(affix)):
                if rest != text and len(rest) > 2 and rest in self._lexicon:
                    return False
        return True
