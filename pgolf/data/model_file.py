"""One file is the whole tokenizer: a SentencePiece model, and behind it a note on how its text is coded.

The note is a protobuf field of its own (number 20240520; SentencePiece leaves 200 and above to others and
passes over what it does not know), so the file is still a model to every other program. A file without
a note is a model as SentencePiece wrote it.
"""

import json
from dataclasses import asdict

from pgolf.data.case_coding import CaseCoding

NOTE_TAG = b"\xc2\x88\x9b\x4d"  # field 20240520 of ModelProto, length-delimited (200 and up are free)


def with_case_coding(model: bytes, case: CaseCoding) -> bytes:
    """A model file that says which case coding its text passes through."""
    note = json.dumps({"case_coding": asdict(case)}, sort_keys=True).encode()
    assert len(note) < 128, "a length of one byte"
    return model + NOTE_TAG + bytes([len(note)]) + note


def case_coding_of(model: bytes) -> CaseCoding | None:
    """What the note at the end of a model file says.

    Raises:
        ValueError, TypeError, KeyError: if it says something else than `with_case_coding` writes.
    """
    at = model.rfind(NOTE_TAG)
    begin = at + len(NOTE_TAG) + 1
    if at < 0 or not begin <= len(model) == begin + model[begin - 1]:
        return None
    return CaseCoding(**json.loads(model[begin:])["case_coding"])
