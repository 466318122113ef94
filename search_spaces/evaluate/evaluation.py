"""Which mode of evaluation, and what adapts and remembers on the way."""

from optuna.trial import BaseTrial

from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.evaluation import Evaluation
from search_spaces.evaluate.adaptation import adaptation
from search_spaces.evaluate.blocks import blocks
from search_spaces.evaluate.document_chunks import document_chunks
from search_spaces.evaluate.memories import memories
from search_spaces.evaluate.sliding import sliding
from search_spaces.evaluate.varlen import varlen

KINDS = ["sliding", "blocks", "varlen", "document_chunks"]


def evaluation(
    trial: BaseTrial, at: str, trained: int, documents: int, executions: int, stored: int, finest: int = 4
) -> Evaluation:
    """`documents`: of the split that is scored; `executions` and `stored` blocks of the network."""
    kind = trial.suggest_categorical(f"{at}.kind", KINDS)
    opens = kind == "document_chunks"
    ttt = adaptation(trial, f"{at}.ttt", trained, documents, executions, stored, opens)
    if opens:
        adapting = DocumentChunks(ttt=ttt, memory=memories(trial, f"{at}.memory"))
        chunked = document_chunks(trial, at, trained, adapting.carries)
        return chunked.but(ttt=ttt, memory=adapting.memory)
    if kind == "sliding":
        return sliding(trial, at, trained, finest).but(ttt=ttt)
    return (blocks if kind == "blocks" else varlen)(trial, at, trained).but(ttt=ttt)
