"""The kinds of test-time training.

stream_sgd      the network's own parameters, after every chunk of the stream
document_lora   adapters of each document, after every chunk of it
phased          the network's own parameters, after a few rounds of documents; each document's adapters besides
"""

from typing import Annotated

from pydantic import Field

from pgolf.evaluate.ttt.document_lora import DocumentLora
from pgolf.evaluate.ttt.phased import Phased
from pgolf.evaluate.ttt.stream_sgd import StreamSgd

Adaptation = Annotated[DocumentLora | StreamSgd | Phased, Field(discriminator="kind")]
