"""The kinds of test-time training.

stream_sgd    all parameters, after every chunk of the stream
"""

from pgolf.evaluate.ttt.stream_sgd import StreamSgd

Adaptation = StreamSgd
