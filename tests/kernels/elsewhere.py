"""What the tests call in another process (see conftest): compiled functions and interpreted kernels."""

import torch

from pgolf.kernels.attention import attend, prepare


def compiled_attention(backend, batches, device="cpu", engine="inductor"):
    """Outputs for (q, k, v, starts) of each batch, and the number of graphs that took."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    ours = torch.compile(attend, backend=engine, fullgraph=True, dynamic=False)
    out = []
    for *qkv, starts in batches:
        layout = prepare(starts, backend, starts.shape[1], device)
        with torch.no_grad():
            out.append(ours(*(x.to(device) for x in qkv), layout).cpu())
    return out, torch._dynamo.utils.counters["stats"]["unique_graphs"]


def refusal(function, *arguments):
    """The text of the error that a call ends in (not every error can travel between processes)."""
    try:
        return f"no error, but {function(*arguments)}"
    except Exception as error:
        return str(error)
