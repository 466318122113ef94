"""What has been published: where the FineWeb shards lie on the hub, and what their validation splits sum to.

A repository holds an export under `<prefix>/`: `manifest.json` (which dataset goes with which tokenizer),
`datasets/<name>/fineweb_{train,val}_%06d.bin`, `tokenizers/*.model`. That is the layout of the challenge's own
downloader (data/cached_challenge_fineweb.py) and of the two repositories that its records used through it:
PR 1394 and later for 4096 and 8192, PR 1729 for CaseOps.

A score is bits over bytes, and the bytes of each published validation split are known. Every cheap record
that turned out wrong had another denominator: `implied_bytes = T * loss / (ln 2 * bpb)` more than 0.01 % away
from these constants is a byte-accounting bug or another split (PR 2071: case operators counted at 3 bytes).
"""

import re
from dataclasses import dataclass

VALIDATION_DOCUMENTS = 50_000  # the first of the frozen list; everything after them is training text
TOLERANCE = 1e-4  # of a pinned denominator: wide enough for a tail of less than one window
WINDOW = 2048  # the scored tokens T of a published split are whole windows; its file has up to this many more
OFFICIAL_NAME = re.compile(r"fineweb_val_\d{6}\.bin")  # a file so named claims to be of the official split


@dataclass(frozen=True)
class Variant:
    """One published set of shards. `name` is the dataset's folder below `<prefix>/datasets`."""

    repo: str
    dataset: str
    prefix: str = "datasets"
    operators: bool = False  # whether its tokens hold case operators, and a byte sidecar must come along


ROOT = "data/fineweb"  # a variant is fetched into ROOT/VARIANT, where its recipes look for it

VARIANTS: dict[str, Variant] = {
    "sp1024": Variant("willdepueoai/parameter-golf", "fineweb10B_sp1024"),
    "sp4096": Variant("kevclark/parameter-golf", "fineweb10B_sp4096"),
    "sp8192": Variant("kevclark/parameter-golf", "fineweb10B_sp8192"),
    "sp8192_caseops": Variant(
        "romeerp/parameter-golf-caseops-v1",
        "fineweb10B_sp8192_lossless_caps_caseops_v1_reserved",
        operators=True,
    ),
}


@dataclass(frozen=True)
class Split:
    """A validation split whose figures are known: T scored tokens that stand for `text_bytes` bytes."""

    name: str
    vocab_size: int
    operators: bool
    scored_tokens: int
    text_bytes: int
    documents: int = VALIDATION_DOCUMENTS
    look_up_bytes: int | None = None  # what the look-up rule makes of it where that rule does not apply

    def matches(self, vocab_size: int, operators: bool, tokens: int) -> bool:
        """Whether a stream of `tokens` tokens is this split, whole but for a tail short of one window."""
        tail = tokens - 1 - self.scored_tokens
        return (vocab_size, operators) == (self.vocab_size, self.operators) and 0 <= tail < WINDOW


SPLITS: tuple[Split, ...] = (
    Split("SP1024", 1024, False, 62_021_632, 151_475_668),
    Split("SP4096", 4096, False, 45_508_608, 151_075_000),
    Split("SP8192", 8192, False, 40_540_160, 151_078_222),
    Split("SP8192 CaseOps", 8192, True, 47_851_520, 151_074_499, look_up_bytes=164_594_398),
    Split("SP8192 CaseOps, 10,000 documents", 8192, True, 9_662_464, 32_756_252, documents=10_000),
)
