"""The modes of evaluation.

blocks            disjoint windows of the stream
sliding           overlapping windows of the stream, any stride
varlen            disjoint segments of documents
document_chunks   documents in chunks, each chunk seeing its document: what adapts document by document needs it
"""

from typing import Annotated

from pydantic import Field

from pgolf.evaluate.blocks import Blocks
from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.sliding import Sliding
from pgolf.evaluate.varlen import Varlen

Evaluation = Annotated[Sliding | Blocks | Varlen | DocumentChunks, Field(discriminator="kind")]
