"""The artifact as a text compressor: a range coder driven by its predictions, one token at a time.

Encoder and decoder share one sequential path (`_walk`): the distribution of token t is computed from
tokens before t alone, in the same window that the scorer used for it, so the coded length is the
scorer's own bits up to the coder's rounding. What the decoder does not have it cannot use: a predictor
that peeks does not decode.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import constriction
import numpy as np
import torch
from numpy.typing import NDArray

from pgolf.data.starts import document_starts
from pgolf.errors import DataError
from pgolf.formats.shards import BOS
from pgolf.model.gpt import Gpt

MAGIC = b"PGOLFTXT"


@dataclass(frozen=True)
class Passage:
    """A document (or its beginning): how many tokens after BOS, and the windows they are seen in.

    `windows` rows are (context_begin, begin, end) relative to BOS at 0: target t in [begin, end) is
    predicted from tokens context_begin .. t - 1.
    """

    length: int
    windows: list[list[int]]


def compress(network: Gpt, passages: list[Passage], tokens: list[NDArray[np.int64]]) -> bytes:
    """Code the tokens of passages (each beginning with BOS) into a self-describing byte string."""
    encoder = constriction.stream.queue.RangeEncoder()
    for passage, ids in zip(passages, tokens, strict=True):
        seen = torch.tensor([BOS])
        for target, model in _walk(network, passage, lambda: seen):  # noqa: B023
            encoder.encode(int(ids[target]), model)
            seen = torch.cat([seen, torch.tensor([int(ids[target])])])
    words = encoder.get_compressed()
    header = json.dumps([[p.length, p.windows] for p in passages], separators=(",", ":")).encode()
    return MAGIC + struct.pack("<II", len(header), len(words)) + header + words.astype("<u4").tobytes()


def decompress(network: Gpt, data: bytes) -> list[list[int]]:
    """The token ids of each passage, BOS not included.

    Raises:
        DataError: if `data` was not written by `compress` or is cut short.
    """
    passages, words = _opened(data)
    decoder = constriction.stream.queue.RangeDecoder(words)
    out = []
    for passage in passages:
        seen = torch.tensor([BOS])
        for _, model in _walk(network, passage, lambda: seen):  # noqa: B023
            seen = torch.cat([seen, torch.tensor([int(decoder.decode(model))])])
        out.append(seen[1:].tolist())
    return out


def coded_bytes(data: bytes) -> int:
    """Bytes of the coded stream, without the header that describes it."""
    return 4 * struct.unpack_from("<II", data, len(MAGIC))[1]


def _walk(network: Gpt, passage: Passage, seen) -> Iterator[tuple[int, object]]:  # type: ignore[no-untyped-def]
    """(target, entropy model) for each target; `seen()` is asked for the tokens before it."""
    device = next(network.parameters()).device
    for context, begin, end in passage.windows:
        for target in range(begin, min(end, passage.length + 1)):
            past = seen()[context:target].unsqueeze(0)
            with torch.inference_mode():
                logits = network(past.to(device), document_starts(past).to(device))[0, -1]
            probabilities = torch.softmax(logits.double(), dim=0).cpu().numpy()
            yield target, constriction.stream.model.Categorical(probabilities, perfect=False)


def _opened(data: bytes) -> tuple[list[Passage], NDArray[np.uint32]]:
    start = len(MAGIC) + 8
    try:
        header, words = struct.unpack_from("<II", data, len(MAGIC))
        whole = data[: len(MAGIC)] == MAGIC and len(data) == start + header + 4 * words
        passages = [Passage(n, rows) for n, rows in json.loads(data[start : start + header])] if whole else []
    except (struct.error, ValueError):
        whole = False
    if not whole:
        raise DataError("a coded passage is whole", f"{len(data)} bytes", "compress the text again")
    return passages, np.frombuffer(data, dtype="<u4", offset=start + header).astype(np.uint32)
