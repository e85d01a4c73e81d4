"""Text that the encoders' tests share: ordinary, and not."""

SENTENCES = [
    "The committee approved the budget for the coming year.",
    "Who may approve it?",
    "A cat sits on the mat.",
    "A kitten rests on a rug.",
    "Stock prices fell sharply on Tuesday, after the bank's announcement.",
    "Öl & Wasser mischen sich nicht; 42 % der Befragten wussten das.",
    "日本語のテキストも 一つ あります。",
    "def encode(texts, *, kind='passage'): return [f(t) for t in texts]",
    "😀 emoji, \ttabs,\nline breaks and  double  spaces ",
    "x",
]
HOSTILE = [
    "",
    " ",
    "\n\t",
    "\x00",
    "a\x00b",
    "\ud800",
    "ok \udfff end",
    "\u200b",
    "\u0301",
    "<s> </s>",
    "[CLS] [SEP]",
    "y" * 3000,
]
