"""What the tests call in another process (see conftest): compiled functions and interpreted kernels."""

import subprocess
import tempfile
from pathlib import Path

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


def cross_entropy(logits, targets, cap, of_nats, of_lse, compiled=False):
    """(nats, lse, gradient of the logits) by the kernel, for these gradients of the two outputs."""
    z = logits.detach().requires_grad_()  # a view stays one
    run = torch.compile(kernel_scores, backend="aot_eager", fullgraph=True) if compiled else kernel_scores
    nats, lse = run(z, targets, cap)
    (grad,) = torch.autograd.grad((nats, lse), z, (of_nats, of_lse))
    return nats.detach(), lse.detach(), grad


def kernel_scores(logits, targets, cap):
    """What `softcap_cross_entropy` does on CUDA, wherever the logits are."""
    from pgolf.kernels.softcap_cross_entropy import _sides, fused

    return fused(logits, targets, *_sides(cap))


def operations_are_sound(logits, targets, cap):
    """torch's own checks of both operations: schema, what the fakes return, autograd, under compilation."""
    from pgolf.kernels.softcap_cross_entropy import _sides, fused, fused_backward

    sides, ones = _sides(cap), torch.ones(len(logits))
    backward = torch.library.opcheck(
        fused_backward,
        (ones, ones, logits.bfloat16(), targets, ones, *sides),
        test_utils=("test_schema", "test_faketensor"),
    )
    forward = torch.library.opcheck(fused, (logits.bfloat16().requires_grad_(), targets, *sides))
    return {*forward.values(), *backward.values()}


def compiled_for_hopper(kernel, types, constants, aligned, **options):
    """A Triton kernel as machine code for compute capability 9.0, where it needs no GPU: (PTX, the compiler's
    report of registers and memory). `types` of the arguments; `aligned`: those divisible by 16, as launches
    find them."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = kernel.arg_names
    source = ASTSource(
        kernel,
        {name: types.get(name, "constexpr") for name in names},
        {(names.index(name),): value for name, value in constants.items()},
        {(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    made = triton.compile(
        source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": True, **options}
    )
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        report = subprocess.run(
            [tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        )
    return made.asm["ptx"], report.stdout


def cross_entropy_for_hopper(capped):
    from pgolf.kernels import softcap_cross_entropy_triton as kernels

    both = {"logits": "*bf16", "targets": "*i64", "lse": "*fp32", "stride": "i32"}
    caps = {"up": "fp32", "down": "fp32"}
    constants = {"VOCAB": 8192, "CAPPED": capped, "COLUMNS": kernels.COLUMNS}
    results = []
    for kernel, own in (
        (kernels._forward, {"nats": "*fp32"}),
        (kernels._backward, {"grad_nats": "*fp32", "grad_lse": "*fp32", "out": "*bf16"}),
    ):
        results.append(
            compiled_for_hopper(kernel, both | own | caps, constants, [*both, *own], num_warps=kernels.WARPS)
        )
    return results


def small_tiles():
    """Tiles of 16 x 32 in place of those for a GPU, so that small matrices have several and are cut."""
    from pgolf.kernels import fused_mlp_triton as kernels

    kernels.TILES = (kernels.Tile(16, 32, 16, warps=4, stages=2),)
    kernels._fastest.clear()


def mlp_gradients(x, up, down, slope, upstream, compiled=False):
    """(y, dx, dup, ddown) by the kernel."""
    from pgolf.kernels.fused_mlp import fused_mlp

    small_tiles()
    run = torch.compile(fused_mlp, backend="aot_eager", fullgraph=True) if compiled else fused_mlp
    leaves = [t.detach().requires_grad_() for t in (x, up, down)]
    y = run(*leaves, slope)
    return y.detach(), *torch.autograd.grad(y, leaves, upstream.to(y.dtype))


def mlp_saved(x, up, slope):
    """(pre, post) as the kernel writes them."""
    from pgolf.kernels import fused_mlp_triton as kernels

    small_tiles()
    return kernels.forward(x, up, slope)


def mlp_operations_are_sound(x, up, down, slope):
    from pgolf.kernels.fused_mlp import fused, fused_backward

    small_tiles()
    y, pre, post = fused(x, up, down, slope)
    both = ("test_schema", "test_faketensor")
    backward = torch.library.opcheck(fused_backward, (y, x, up, down, pre, post, slope), test_utils=both)
    leaves = [t.detach().requires_grad_() for t in (x, up, down)]
    forward = torch.library.opcheck(fused, (*leaves, slope))
    return {*forward.values(), *backward.values()}


def mlp_for_hopper(is_forward, tile):
    """The kernel with one of its tiles as machine code, at the record's widths."""
    from pgolf.kernels import fused_mlp_triton as kernels

    def descriptor(*block):
        return f"tensordesc<bf16[{block[0]},{block[1]}]>"

    half = descriptor(tile.rows, tile.columns // 2)
    of_b = (tile.columns, tile.inner) if is_forward else (tile.inner, tile.columns)
    types = {"a": descriptor(tile.rows, tile.inner), "b": descriptor(*of_b), "pre": half, "out": half}
    types |= dict.fromkeys(("rows", "columns", "programs"), "i32")
    constants = {"SLOPE": 0.5, "FORWARD": is_forward, "DEPTH": 512}
    constants |= {"ROWS": tile.rows, "COLUMNS": tile.columns, "INNER": tile.inner}
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    return compiled_for_hopper(kernels._kernel, types, constants, ("rows", "columns"), **options)


def graph_of(function, *arguments):
    """The operations of the one graph that a function is compiled to. It is traced and not run."""
    operations = []

    def engine(graph, inputs):
        operations.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        (outputs,) = graph.graph.find_nodes(op="output")[0].args
        made = [torch.empty(o.meta["example_value"].shape) for o in outputs]
        return lambda *_: made

    torch._dynamo.reset()
    torch.compile(function, backend=engine, fullgraph=True, dynamic=False)(*arguments)
    return operations


def traced_attention(backend, q, k, v, starts):
    layout = prepare(starts, backend, starts.shape[1], "cpu")
    return graph_of(attend, q, k, v, layout)


def compiled_mlp(x, up, down, slope):
    """On the GPU: the graph's operations, once what it computes was compared with the reference."""
    from pgolf.kernels.fused_mlp import mlp, mlp_reference

    inputs = [t.cuda().requires_grad_() for t in (x, up, down)]
    got = torch.compile(mlp, fullgraph=True, dynamic=False)(*inputs, slope, True)
    right = mlp_reference(*(t.double() for t in inputs), slope)
    assert (got.double() - right).abs().max() < 0.05
    return graph_of(mlp, *inputs, slope, True)
