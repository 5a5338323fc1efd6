#!/usr/bin/env python3
# ruff: noqa
# fmt: off
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false, reportOptionalMemberAccess=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportPrivateImportUsage=false, reportOperatorIssue=false, reportOptionalSubscript=false
"""kd_peers.py - one-GPU benchmark of full-vocabulary KD losses and NVFP4 fake quant.

Measures forward+backward time and peak extra memory of KL(teacher||student) over a
151,936-entry vocabulary, for every peer that can be imported, plus any number of
candidates, in ONE process on ONE GPU, and checks each against float64.

    python benchmarks/kd_peers.py --json kd.json \
        --candidate benchmarks.candidates:provider   # the project's implementation
    python benchmarks/kd_peers.py --tiny              # CPU smoke test (set TRITON_INTERPRET=1)

PEER WHEELS (none is required; a peer that cannot be imported is listed under "skipped")
    35 MB in all: liger-kernel==0.8.5 fla-core==0.6.0 einops nvidia-modelopt==0.47.0
    megatron-core==0.16.1 trl==1.16.0 torchtune==0.6.1 nemo-automodel==0.7.0, and modelopt's needs
    that the machine may lack: pulp<4 omegaconf regex rich markdown-it-py mdurl pygments
    pydantic==2.14.3 pydantic_core==2.50.4 annotated-types typing-inspection typing-extensions
    nvidia-ml-py PyYAML  (pip download --no-deps --python-version 3.12 ..., then pip install
    --no-index --no-deps --target DIR *.whl and PYTHONPATH=DIR). trl, torchtune and nemo-automodel
    are read file by file, so their own dependencies are not needed.

CANDIDATE PLUG-IN  (--candidate MODULE:FUNCTION, repeatable)
    FUNCTION(kind: str) -> None | callable | dict[str, callable]
    is called once per kind, kind in {"logits", "hidden", "nvfp4"}; None = not offered, a dict
    gives several named variants. The callables:

    kind "logits":  f(student_logits, teacher_logits, *, temperature) -> loss
        student_logits [N, V] bf16, requires_grad;  teacher_logits [N, V] bf16, no grad.
    kind "hidden":  f(student_hidden, student_weight, teacher_hidden, teacher_weight, *, temperature) -> loss
        student_hidden [N, H] and student_weight [V, H] bf16, requires_grad; teacher_* bf16, no grad.
    kind "nvfp4":   f(x, global_amax) -> y    x [M, K] bf16 contiguous, global_amax 0-dim fp32,
        y the dequantized NVFP4 value of x in x.dtype (block 16 along K, E4M3 block scales,
        global scale = global_amax / (6 * 448), round-to-nearest-even).

    loss: a scalar, the MEAN over N of KL(softmax(t/T) || softmax(s/T)) with no T**2 factor,
    or a [N] vector of per-token KL (the harness then takes .float().mean()).
    The harness calls loss.backward() itself. If f overwrites student_logits (gradient in
    place) set  f.destructive = True : the harness restores them, untimed, before every call.
    Any weight-gradient dtype is accepted; wgrad fusion into .main_grad is not (return .grad).

WHAT IS REPORTED
    ms        median of CUDA-event times of one forward+backward (gradients reset, untimed)
    x floor   ms / floor ms, floors from THIS run's measured copy bandwidth and GEMM rate
              logits: 6*N*V bytes (read both once, write grad once); hidden: 4 GEMMs of 2*N*V*H
    extra     GiB of torch allocations above what was live before the call (includes the
              gradients the call must return);  scratch = extra - those gradients
    errL/errG |loss-ref|/ref and ||grad-ref||/||ref|| against float64 on --check-n tokens, full V
              (hidden: worse of dX, dW; its reference starts from UNROUNDED logits, so methods that
              round logits to bf16 show it; the logits section starts from bf16 logits as given).
              The header line says what rounding alone costs: "exact gradient to bf16" is the best any
              bf16-gradient method can score.
"""
import argparse, gc, importlib, importlib.util, json, math, os, platform, sys, time, types, traceback, contextlib, warnings

warnings.filterwarnings("ignore")
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # the repository: candidates are modules of it
import torch
import torch.nn.functional as F

GiB = 2.0**30


# --------------------------------------------------------------------------- helpers
def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--n", default="8192,4096,16384", help="token counts, measured in this order")
    p.add_argument("--vocab", type=int, default=151936)
    p.add_argument("--hidden", type=int, default=4096)
    p.add_argument("--temperature", type=float, default=1.0)
    p.add_argument("--perturb", type=float, default=0.05, help="student-teacher distance; 0.02, 0.05, 0.1, 0.3 give KL of about 0.004, 0.024, 0.09, 0.8")
    p.add_argument("--candidate", action="append", default=[], metavar="MODULE:FUNCTION")
    p.add_argument("--only", default="", help="comma-separated substrings of peer names to run")
    p.add_argument("--skip", default="", help="comma-separated substrings of peer names to skip")
    p.add_argument("--sections", default="logits,hidden,nvfp4")
    p.add_argument("--check-n", type=int, default=256)
    p.add_argument("--reps", type=int, default=20, help="wanted repetitions")
    p.add_argument("--cap", type=float, default=1.0, help="seconds of timed GPU work per peer and size")
    p.add_argument("--deadline", type=float, default=225.0, help="seconds after which no new measurement starts")
    p.add_argument("--no-compile", action="store_true", help="leave out the torch.compile peers")
    p.add_argument("--json", default="")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--tiny", action="store_true", help="tiny sizes on the CPU: tests the script, times mean nothing")
    a = p.parse_args()
    a.n = [int(v) for v in a.n.split(",") if v]
    if a.tiny:
        a.n, a.vocab, a.hidden, a.check_n, a.reps = [48], 1000, 64, 32, 2
    a.dev = "cuda" if torch.cuda.is_available() and not a.tiny else "cpu"
    return a


T0 = time.time()
CUDA = False
RESULT = {"rows": [], "nvfp4": [], "skipped": {}, "calib": {}, "env": {}}


def log(*a):
    print(f"[{time.time()-T0:6.1f}s]", *a, flush=True)


def sync():
    if CUDA:
        torch.cuda.synchronize()


def free():
    gc.collect()
    if CUDA:
        torch.cuda.empty_cache()


def load_file(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    m = importlib.util.module_from_spec(spec)
    sys.modules[name] = m
    spec.loader.exec_module(m)
    return m


def pkg_dir(top):
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"{top} not installed")
    return list(spec.submodule_search_locations)[0]


def version(dist):
    try:
        from importlib.metadata import version as v
        return v(dist)
    except Exception:
        return None


def short(e):
    return f"{type(e).__name__}: {str(e).strip().splitlines()[0] if str(e).strip() else ''}"[:160]


def timed(step, prep, reps, cap, warm=2):
    """(median ms, min ms, number of reps); prep runs untimed before every step."""
    for _ in range(warm):
        prep(); step(); sync()
    prep(); sync(); t = time.perf_counter(); step(); sync()
    est = max(time.perf_counter() - t, 1e-6)
    k = int(max(3, min(max(reps, 1) * 2, cap / est)))
    out = []
    if CUDA:
        ev = []
        for _ in range(k):
            prep()
            a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            a.record(); step(); b.record()
            ev.append((a, b))
        sync()
        out = [a.elapsed_time(b) for a, b in ev]
    else:
        for _ in range(k):
            prep(); t = time.perf_counter(); step(); out.append((time.perf_counter() - t) * 1e3)
    out.sort()
    return out[len(out) // 2], out[0], len(out)


def peak_extra(step, prep):
    if not CUDA:
        prep(); step(); return float("nan")
    prep(); free(); sync()
    base = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step(); sync()
    return (torch.cuda.max_memory_allocated() - base) / GiB


def rel(x, ref):
    x = x.double()
    if not torch.isfinite(x).all():
        return float("nan")
    return ((x - ref).norm() / ref.norm()).item()


def mean(loss):
    return loss if loss.ndim == 0 else loss.float().mean()


# --------------------------------------------------------------------------- data
PERTURB = 0.05


def make_hidden(n, V, H, dev, seed):
    """Student = slightly perturbed teacher, as in QAD: logits of std ~3, KL set by --perturb."""
    g = torch.Generator(device=dev).manual_seed(seed)
    r = lambda *s: torch.randn(*s, generator=g, device=dev, dtype=torch.bfloat16)
    sw = 3.0 / math.sqrt(H)
    tw = r(V, H).mul_(sw)
    w = r(V, H).mul_(PERTURB * sw).add_(tw)
    tx = r(n, H)
    x = r(n, H).mul_(PERTURB).add_(tx)
    return x, w, tx, tw


def ref_logits(s, t, T):
    s, t = s.double() / T, t.double() / T
    ls, lt = s.log_softmax(-1), t.log_softmax(-1)
    pt = lt.exp()
    loss = (pt * (lt - ls)).sum(-1).mean()
    return loss, (ls.exp() - pt) / (T * s.shape[0])


# --------------------------------------------------------------------------- peers
PEERS = []  # (name, kind, builder, needs_compile, note)


def peer(name, kind, compiled=False, note=""):
    def deco(f):
        PEERS.append((name, kind, f, compiled, note)); return f
    return deco


def naive_kl(s, t, temperature):
    ls = F.log_softmax(s.float() / temperature, dim=-1)
    lt = F.log_softmax(t.float() / temperature, dim=-1)
    return F.kl_div(ls, lt, reduction="batchmean", log_target=True)


@peer("naive fp32", "logits", note="log_softmax(float) x2 + kl_div, eager")
def _(a):
    return lambda s, t, temperature: naive_kl(s, t, temperature)


@peer("naive + torch.compile", "logits", compiled=True)
def _(a):
    return torch.compile(naive_kl, dynamic=False)


@peer("modelopt LogitsKLLoss", "logits", note="TP=1 path, per-token loss")
def _(a):
    from modelopt.torch.distill.plugins.megatron import LogitsKLLoss
    cfg = types.SimpleNamespace(tensor_model_parallel_size=1, sequence_parallel=False)

    def f(s, t, temperature):
        m = LogitsKLLoss(cfg, temperature=temperature)
        out = m(s.unsqueeze(1), t.unsqueeze(1))  # [s, b=1, V] -> ([b, s], tp_reduce, sp)
        return out[0].reshape(-1)
    return f


@peer("modelopt TopKLogitsKLLoss k=1024", "logits", note="NOT full KL (top-k renormalised): error columns show the bias")
def _(a):
    from modelopt.torch.distill.plugins.megatron import TopKLogitsKLLoss
    cfg = types.SimpleNamespace(tensor_model_parallel_size=1, sequence_parallel=False)
    k = min(1024, a.vocab // 2)
    return lambda s, t, temperature: TopKLogitsKLLoss(cfg, temperature=temperature, top_k=k)(s.unsqueeze(1), t.unsqueeze(1))[0].reshape(-1)


@peer("NeMo-Automodel KDLoss chunk=1024", "logits")
def _(a):
    m = load_file("_nemo_kd_loss", os.path.join(pkg_dir("nemo_automodel"), "components", "loss", "kd_loss.py"))

    def f(s, t, temperature):
        lab = torch.zeros(s.shape[0], dtype=torch.long, device=s.device)
        return m.KDLoss(temperature=temperature, chunk_size=1024)(s, t, lab) / temperature**2
    return f


@peer("Liger kl_div", "logits", note="fp32 log_softmax x2, then LigerKLDivLossFunction")
def _(a):
    from liger_kernel.ops import LigerKLDivLossFunction

    def f(s, t, temperature):
        ls = F.log_softmax(s.float() / temperature, dim=-1)
        with torch.no_grad():
            lt = F.log_softmax(t.float() / temperature, dim=-1)
        return LigerKLDivLossFunction.apply(ls, lt, "batchmean", True)
    return f


@peer("Liger kl_loss_and_grad kernel (in place)", "logits",
      note="teacher probs by torch.softmax (bf16), then Liger's _kl_div_kernel; destructive")
def _(a):
    from liger_kernel.ops.backends._triton.kl_div import kl_loss_and_grad_triton

    class K(torch.autograd.Function):
        @staticmethod
        def forward(ctx, s, t, T):
            q = torch.softmax(t if T == 1 else t / T, dim=-1)
            rows, dx = kl_loss_and_grad_triton(s.detach(), q, None, -100, T, 1e-10, 1.0 / s.shape[0])
            ctx.save_for_backward(dx)
            return rows.sum()

        @staticmethod
        def backward(ctx, g):
            return ctx.saved_tensors[0], None, None  # harness: g == 1

    f = lambda s, t, temperature: K.apply(s, t, temperature)
    f.destructive = True
    return f


@peer("FLA kl_div_kernel (in place)", "logits", note="2 reads of each logit + 1 write, gradient over the logits; destructive; T=1 only")
def _(a):
    from fla.modules.fused_kl_div.ops import kl_div_kernel, MAX_FUSED_SIZE, STATIC_WARPS
    import triton

    class K(torch.autograd.Function):
        @staticmethod
        def forward(ctx, s, t):
            N, V = s.shape
            d = s.detach()
            loss = torch.empty(N, dtype=torch.float32, device=s.device)
            kl_div_kernel[(N,)](logits=d, target_logits=t, loss=loss, s_logits=d.stride(-2), s_loss=loss.stride(-1),
                                reduction="batchmean", N=N, V=V, BV=min(MAX_FUSED_SIZE, triton.next_power_of_2(V)),
                                num_warps=STATIC_WARPS)
            ctx.save_for_backward(d)
            return loss.sum()

        @staticmethod
        def backward(ctx, g):
            return ctx.saved_tensors[0], None

    def f(s, t, temperature):
        if temperature != 1:
            raise NotImplementedError("kernel has no temperature")
        return K.apply(s, t)
    f.destructive = True
    return f


def torchtune_cls():
    try:  # loading the one file avoids torchtune's torchao requirement
        return load_file("_tt_kd", os.path.join(pkg_dir("torchtune"), "modules", "loss", "kd_losses.py")).ForwardKLWithChunkedOutputLoss, "torchtune"
    except Exception:
        return None, "re-stated formula"


def chunked_fkl(s_chunks, t_chunks, n, T):
    tot = 0.0
    for s, t in zip(s_chunks, t_chunks):
        pt = F.softmax(t / T, dim=-1, dtype=torch.float32)
        tot = tot - (pt * F.log_softmax(s / T, dim=-1, dtype=torch.float32)).sum()
    return tot / n  # cross-entropy form: differs from KL by the teacher's entropy


@peer("torchtune ForwardKL 8 chunks", "logits", note="loss is CE form (KL + teacher entropy): errL not comparable")
def _(a):
    cls, _src = torchtune_cls()

    def f(s, t, temperature):
        if cls is None or temperature != 1:
            return chunked_fkl(s.chunk(8), t.chunk(8), s.shape[0], temperature)
        lab = torch.zeros(1, s.shape[0], dtype=torch.long, device=s.device)
        return cls(8)([c.unsqueeze(0) for c in s.chunk(8)], [c.unsqueeze(0) for c in t.chunk(8)], lab)
    f.ce_form = True
    return f


# ---- from hidden states
@peer("naive (linear x2 + fp32 KL)", "hidden")
def _(a):
    def f(x, w, tx, tw, temperature):
        with torch.no_grad():
            t = tx @ tw.t()
        return naive_kl(x @ w.t(), t, temperature)
    return f


@peer("linear x2 + compiled KL", "hidden", compiled=True)
def _(a):
    c = torch.compile(naive_kl, dynamic=False)

    def f(x, w, tx, tw, temperature):
        with torch.no_grad():
            t = tx @ tw.t()
        return c(x @ w.t(), t, temperature)
    return f


@peer("checkpointed token chunks 1024 + compile", "hidden", compiled=True,
      note="pure PyTorch: torch.utils.checkpoint per chunk, compiled body")
def _(a):
    from torch.utils.checkpoint import checkpoint
    C = 16 if a.tiny else 1024

    def body(x, w, tx, tw, T: float):
        s = (x @ w.t()).float() / T
        t = (tx @ tw.t()).float() / T
        ls, lt = F.log_softmax(s, -1), F.log_softmax(t, -1)
        return (lt.exp() * (lt - ls)).sum()
    cb = torch.compile(body, dynamic=False)

    def f(x, w, tx, tw, temperature):
        n = x.shape[0]
        parts = [checkpoint(cb, x[i:i + C], w, tx[i:i + C], tw, temperature, use_reentrant=False) for i in range(0, n, C)]
        return torch.stack(parts).sum() / n
    return f


@peer("torchtune-like 8 chunks", "hidden", note="lm_head per chunk, fp32 softmax saved by autograd; CE form")
def _(a):
    def f(x, w, tx, tw, temperature):
        with torch.no_grad():
            t = [c @ tw.t() for c in tx.chunk(8)]
        return chunked_fkl([c @ w.t() for c in x.chunk(8)], t, x.shape[0], temperature)
    f.ce_form = True
    return f


@peer("Liger fused_linear_jsd beta=0", "hidden", note="ops.LigerFusedLinearJSDFunction, fp32 chunk logits, dW in bf16")
def _(a):
    from liger_kernel.ops import LigerFusedLinearJSDFunction as L
    return lambda x, w, tx, tw, temperature: L.apply(x, w, tx, tw, None, 0.0, -100, temperature)


@peer("Liger fused_linear_jsd beta=0 accum fp32", "hidden")
def _(a):
    from liger_kernel.ops import LigerFusedLinearJSDFunction as L
    return lambda x, w, tx, tw, temperature: L.apply(x, w, tx, tw, None, 0.0, -100, temperature, torch.float32)


@peer("Liger chunked_loss JSD beta=0 compiled", "hidden", compiled=True, note="LigerFusedLinearJSDLoss chunk 1024, bf16 logits")
def _(a):
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    def f(x, w, tx, tw, temperature):
        m = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.0, temperature=temperature,
                                    compiled=True, chunk_size=16 if a.tiny else 1024)
        return m(x, w, tx, tw, torch.zeros(x.shape[0], dtype=torch.long, device=x.device))
    return f


@peer("teacher probs + Liger fused_linear_kl_div", "hidden", note="the op takes [N,V] target probabilities: materialised in bf16 here")
def _(a):
    from liger_kernel.ops import LigerFusedLinearKLDivFunction as L

    def f(x, w, tx, tw, temperature):
        with torch.no_grad():
            t = tx @ tw.t()
            q = torch.softmax(t if temperature == 1 else t / temperature, dim=-1); del t
        return L.apply(x, w, q, None, "batchmean", -100, temperature)
    return f


@peer("FLA fused_kl_div (bf16 dW)", "hidden", note="bf16 logits, T=1 only")
def _(a):
    from fla.modules.fused_kl_div import FusedKLDivLoss
    m = FusedKLDivLoss(accumulate_grad_in_fp32=False)
    return lambda x, w, tx, tw, temperature: m(x, tx, w, tw)


@peer("FLA fused_kl_div (default, fp32 dW GEMM)", "hidden", note="casts both dW operands to fp32")
def _(a):
    from fla.modules.fused_kl_div import FusedKLDivLoss
    m = FusedKLDivLoss()
    return lambda x, w, tx, tw, temperature: m(x, tx, w, tw)


@peer("TRL ChunkedDivergenceFunction", "hidden", note="4096x32768 fp32 tiles, recompute in backward (6 GEMMs)")
def _(a):
    try:
        from trl.kernels.chunked_divergence import ChunkedDivergenceFunction as C
    except Exception:  # the kernel files need only transformers + triton: load them without the rest of trl
        import transformers.utils as tu
        if not hasattr(tu, "is_triton_available"):
            tu.is_triton_available = lambda: importlib.util.find_spec("triton") is not None
        d = pkg_dir("trl")
        for k in [k for k in sys.modules if k == "trl" or k.startswith("trl.")]:
            del sys.modules[k]
        for name in ("trl", "trl.kernels", "trl.trainer", "trl.trainer.utils"):
            m = types.ModuleType(name); m.__path__ = []; sys.modules[name] = m
        sys.modules["trl.trainer.utils"].maybe_gather_lm_head_ctx = lambda *x: contextlib.nullcontext()
        load_file("trl.kernels.chunked_logprob", os.path.join(d, "kernels", "chunked_logprob.py"))
        C = load_file("trl.kernels.chunked_divergence", os.path.join(d, "kernels", "chunked_divergence.py")).ChunkedDivergenceFunction
    return lambda x, w, tx, tw, temperature: C.apply(x, w, None, tx, tw, None, 0.0, temperature)[0]


# --------------------------------------------------------------------------- running
def wanted(a, name):
    o = [s for s in a.only.split(",") if s]
    k = [s for s in a.skip.split(",") if s]
    return (not o or any(s in name for s in o) or name.startswith("cand")) and not any(s in name for s in k)


def candidates(a, kind):
    out = []
    for spec in a.candidate:
        try:
            mod, fn = spec.split(":")
            got = getattr(importlib.import_module(mod), fn)(kind)
        except Exception as e:
            RESULT["skipped"][f"cand {spec} {kind}"] = short(e)
            log("candidate", spec, kind, "failed:", short(e)); traceback.print_exc(); continue
        if got is None:
            continue
        for k, f in (got.items() if isinstance(got, dict) else [("", got)]):
            out.append((f"cand {spec.split(':')[0]} {k}".strip(), f, ""))
    return out


def build_all(a, kind):
    out = candidates(a, kind)
    for name, k, b, compiled, note in PEERS:
        if k != kind or not wanted(a, name):
            continue
        if compiled and a.no_compile:
            RESULT["skipped"][f"{kind}: {name}"] = "--no-compile"; continue
        try:
            out.append((name, b(a), note))
        except Exception as e:
            RESULT["skipped"][f"{kind}: {name}"] = short(e)
            log("not available:", name, "|", short(e))
    return out


def calibrate(a):
    c = RESULT["calib"]
    n = (1 << 20) if not CUDA else (1 << 31)
    x = torch.empty(n, dtype=torch.uint8, device=a.dev).random_(0, 255)
    y = torch.empty_like(x)
    ms, _, _ = timed(lambda: y.copy_(x), lambda: None, 20, 0.3)
    c["copy_TBps"] = 2 * n / ms / 1e9
    del x, y
    m = 8192 if CUDA else 128
    p, q = (torch.randn(m, m, device=a.dev, dtype=torch.bfloat16) for _ in range(2))
    ms, _, _ = timed(lambda: p @ q, lambda: None, 20, 0.3)
    c["gemm_8192_TFLOPs"] = 2 * m**3 / ms / 1e9
    free()
    log(f"copy {c['copy_TBps']:.2f} TB/s, bf16 GEMM 8192^3 {c['gemm_8192_TFLOPs']:.0f} TFLOP/s")


def gemm_floor(a, n):
    """The four products that no full-vocabulary KD can avoid, by cuBLAS, nothing else."""
    x, w, tx, tw = make_hidden(n, a.vocab, a.hidden, a.dev, a.seed)
    s = torch.empty(n, a.vocab, device=a.dev, dtype=torch.bfloat16)
    t = torch.empty_like(s); dx = torch.empty_like(x); dw = torch.empty_like(w)

    def step():
        torch.mm(tx, tw.t(), out=t); torch.mm(x, w.t(), out=s)
        torch.mm(s, w, out=dx); torch.mm(s.t(), x, out=dw)
    ms, lo, k = timed(step, lambda: None, a.reps, a.cap)
    return ms


def check(a, kind, fns):
    """float64 errors for every function on a.check_n tokens and the full vocabulary."""
    T, err = a.temperature, {}
    x, w, tx, tw = make_hidden(a.check_n, a.vocab, a.hidden, a.dev, a.seed + 1)
    if kind == "logits":
        s0, t = (x @ w.t()), (tx @ tw.t())
        rl, rg = ref_logits(s0, t, T)
        ent = -(lambda q: (q.exp() * q).sum(-1).mean())((t.double() / T).log_softmax(-1))
        err["f64->bf16"] = (0.0, rel(rg.bfloat16(), rg))
    else:
        X, W = x.double(), w.double()
        s, t64 = X @ W.t(), tx.double() @ tw.double().t()
        rl, g = ref_logits(s, t64, T)
        ent = -(lambda q: (q.exp() * q).sum(-1).mean())((t64 / T).log_softmax(-1))
        rdx, rdw = g @ W, g.t() @ X
        err["f64->bf16"] = (0.0, max(rel(rdx.bfloat16(), rdx), rel(rdw.bfloat16(), rdw)))
        # what bf16-rounded logits alone cost, everything after in float64
        lb, gb = ref_logits(s.bfloat16(), t64.bfloat16(), T)
        err["f64, logits rounded to bf16"] = (abs((lb - rl) / rl).item(), max(rel(gb @ W, rdx), rel(gb.t() @ X, rdw)))
        del X, W, s, t64, g, gb
    free()
    for name, f, _ in fns:
        try:
            if kind == "logits":
                s = s0.clone().requires_grad_()
                l = mean(f(s, t, temperature=T)); l.backward()
                eg = rel(s.grad, rg)
            else:
                xs, ws = x.clone().requires_grad_(), w.clone().requires_grad_()
                l = mean(f(xs, ws, tx, tw, temperature=T)); l.backward()
                eg = max(rel(xs.grad, rdx), rel(ws.grad, rdw))
            lv = l.detach().double() - (ent if getattr(f, "ce_form", False) else 0.0)
            err[name] = (abs((lv - rl) / rl).item(), eg)
        except Exception as e:
            err[name] = (None, None)
            RESULT["skipped"][f"check {kind}: {name}"] = short(e)
            log("check failed:", name, "|", short(e))
        finally:
            s = xs = ws = l = None
            free()
    RESULT.setdefault("ref", {})[kind] = {"kl": rl.item(), "f64->bf16 errG": err["f64->bf16"][1],
                                          "bf16-logits errG": err.get("f64, logits rounded to bf16", (None, None))[1]}
    return err


BUILT = {}


def bench(a, kind, sizes):
    if kind not in BUILT:
        fns = build_all(a, kind)
        log(f"--- {kind}: {len(fns)} implementations; float64 check on {a.check_n} tokens")
        BUILT[kind] = (fns, check(a, kind, fns) if fns else {})
    fns, err = BUILT[kind]
    if not fns:
        return
    bw, tf = RESULT["calib"]["copy_TBps"] * 1e12, RESULT["calib"]["gemm_8192_TFLOPs"] * 1e12
    for n in sizes:
        if time.time() - T0 > a.deadline:
            RESULT["skipped"][f"{kind} N={n}"] = "deadline"; continue
        V, H, T = a.vocab, a.hidden, a.temperature
        if kind == "logits":
            floor, grads = 6 * n * V / bw * 1e3, n * V * 2 / GiB
            x, w, tx, tw = make_hidden(n, V, H, a.dev, a.seed)
            s0, t = x @ w.t(), tx @ tw.t()
            s = s0.clone().requires_grad_()
            del x, w, tx, tw
        else:
            floor, grads = 8 * n * V * H / tf * 1e3, (n * H + V * H) * 2 / GiB
            ms = gemm_floor(a, n); free()
            RESULT["rows"].append(dict(kind=kind, N=n, name="4 cuBLAS GEMMs, no loss", ms=ms, floor_ms=floor, extra=None, scratch=None,
                                       errL=None, errG=None, reps=None, note="measured arithmetic floor"))
            log(f"{kind} N={n} 4 GEMMs: {ms:.2f} ms ({8*n*V*H/ms/1e9:.0f} TFLOP/s)")
            x, w, tx, tw = make_hidden(n, V, H, a.dev, a.seed)
            x.requires_grad_(); w.requires_grad_()
        free()
        for name, f, note in fns:
            if time.time() - T0 > a.deadline:
                RESULT["skipped"][f"{kind} N={n} {name}"] = "deadline"; continue
            destructive = getattr(f, "destructive", False)

            def prep():
                if kind == "logits":
                    s.grad = None
                    if destructive:
                        s.data.copy_(s0)
                else:
                    x.grad = w.grad = None

            def step():
                l = f(s, t, temperature=T) if kind == "logits" else f(x, w, tx, tw, temperature=T)
                mean(l).backward()

            row = dict(kind=kind, N=n, name=name, floor_ms=floor, note=note, errL=err.get(name, (None, None))[0], errG=err.get(name, (None, None))[1])
            try:
                prep(); step(); sync()  # compile and autotune outside the memory reading
                row["extra"] = peak_extra(step, prep)
                row["scratch"] = row["extra"] - (0 if destructive else grads)
                row["ms"], row["min_ms"], row["reps"] = timed(step, prep, a.reps, a.cap, warm=1)
                log(f"{kind} N={n} {name}: {row['ms']:.2f} ms, extra {row['extra']:.2f} GiB, {row['reps']} reps")
            except Exception as e:
                row["error"] = short(e)
                log(f"{kind} N={n} {name}: FAILED {short(e)}")
            RESULT["rows"].append(row)
            if kind == "logits":
                s.grad = None; s.data.copy_(s0)
            else:
                x.grad = w.grad = None
            free()
        s = s0 = t = x = w = tx = tw = None
        free()


# --------------------------------------------------------------------------- NVFP4 fake quant
def nvfp4_ref(x, amax, dtype=torch.float64):
    """Plain-PyTorch NVFP4 quantize-dequantize, round to nearest even."""
    gs = amax.float() / (6.0 * 448.0)
    b = x.to(dtype).reshape(*x.shape[:-1], -1, 16)
    sc = (b.abs().amax(-1, keepdim=True).float() / (6.0 * gs)).clamp(max=448.0).to(torch.float8_e4m3fn).float() * gs
    sc = sc.to(dtype)
    sc = torch.where(sc > 0, sc, torch.ones_like(sc))
    v = b.abs() / sc
    q = torch.where(v <= 0.25, 0.0, torch.where(v < 0.75, 0.5, torch.where(v <= 1.25, 1.0, torch.where(v < 1.75, 1.5, torch.where(
        v <= 2.5, 2.0, torch.where(v < 3.5, 3.0, torch.where(v <= 5.0, 4.0, 6.0)))))))
    return (torch.where(b >= 0, q.to(dtype), -q.to(dtype)) * sc).reshape(x.shape)


def nvfp4_peers(a):
    out = candidates(a, "nvfp4")

    def add(name, b):
        if not wanted(a, name):
            return
        try:
            out.append((name, b(), ""))
        except Exception as e:
            RESULT["skipped"]["nvfp4: " + name] = short(e); log("not available:", name, "|", short(e))

    def mo_dyn():
        from modelopt.torch.kernels.quantization.gemm.fp4_kernel_hopper import fp4_fake_quant_block
        return lambda x, am: fp4_fake_quant_block(x, am)

    def mo_static():
        from modelopt.torch.kernels.quantization.gemm.fp4_kernel import static_blockwise_fp4_fake_quant
        return lambda x, am: static_blockwise_fp4_fake_quant(x, x.view(-1, 16).abs().amax(-1), am)

    def mo_static_pre():
        from modelopt.torch.kernels.quantization.gemm.fp4_kernel import static_blockwise_fp4_fake_quant
        cache = {}

        def f(x, am):  # weights with calibrated amax: the per-block amax is an input
            if x.data_ptr() not in cache:
                cache[x.data_ptr()] = x.view(-1, 16).abs().amax(-1)
            return static_blockwise_fp4_fake_quant(x, cache[x.data_ptr()], am)
        return f

    add("modelopt fp4_fake_quant_block (dynamic)", mo_dyn)
    add("modelopt static_blockwise (amax given)", mo_static_pre)
    add("modelopt static_blockwise (+block amax)", mo_static)
    if not a.no_compile:
        add("plain torch + torch.compile", lambda: (lambda c: (lambda x, am: c(x, am)))(
            torch.compile(lambda x, am: nvfp4_ref(x, am, torch.float32).to(x.dtype), dynamic=False)))
    return out


def bench_nvfp4(a):
    shapes = [(4096, 12288), (8192, 4096), (16384, 12288)] if not a.tiny else [(32, 128)]
    fns = nvfp4_peers(a)
    log(f"--- nvfp4: {len(fns)} implementations")
    bw = RESULT["calib"]["copy_TBps"]
    g = torch.Generator(device=a.dev).manual_seed(a.seed + 7)
    for M, K in shapes:
        if time.time() - T0 > a.deadline:
            RESULT["skipped"][f"nvfp4 {M}x{K}"] = "deadline"; continue
        nb = 1 if a.tiny else max(2, math.ceil(600e6 / (M * K * 4)))  # rotate past the L2
        xs = [torch.randn(M, K, generator=g, device=a.dev, dtype=torch.bfloat16).mul_(0.02) for _ in range(nb)]
        am = torch.stack([x.abs().amax() for x in xs]).amax().float()
        ref = nvfp4_ref(xs[0][: min(M, 1024)], am)
        for name, f, _ in [("copy (x.clone)", lambda x, am: x.clone(), "")] + fns:
            row = dict(M=M, K=K, name=name)
            try:
                y = f(xs[0], am)
                if not name.startswith("copy"):
                    y0 = y[: ref.shape[0]].double()
                    row["err"] = ((y0 - ref).norm() / ref.norm()).item()
                    row["mismatch"] = ((y0 - ref).abs() > 0.01 * ref.abs() + 1e-9).double().mean().item()
                inner = 4 * nb

                def step():
                    for i in range(inner):
                        f(xs[i % nb], am)
                ms, _, _ = timed(step, lambda: None, a.reps, 0.15)
                row["us"] = ms * 1e3 / inner
                if CUDA:  # kernel time without launch gaps
                    try:
                        st = torch.cuda.Stream(); st.wait_stream(torch.cuda.current_stream())
                        with torch.cuda.stream(st):
                            f(xs[0], am)
                        torch.cuda.current_stream().wait_stream(st)
                        gr = torch.cuda.CUDAGraph()
                        with torch.cuda.graph(gr):
                            step()
                        ms, _, _ = timed(gr.replay, lambda: None, a.reps, 0.15)
                        row["graph_us"] = ms * 1e3 / inner
                        del gr
                    except Exception as e:
                        row["graph_error"] = short(e)
                best = row.get("graph_us", row["us"])
                row["TBps"] = M * K * 4 / best / 1e6
                row["of_copy"] = row["TBps"] / bw
                log(f"nvfp4 {M}x{K} {name}: {row['us']:.1f} us (graph {row.get('graph_us', float('nan')):.1f})")
            except Exception as e:
                row["error"] = short(e); log(f"nvfp4 {M}x{K} {name}: FAILED {short(e)}")
            RESULT["nvfp4"].append(row)
        del xs; free()


# --------------------------------------------------------------------------- report
def fmt(v, spec):
    return "-" if v is None or (isinstance(v, float) and math.isnan(v)) else format(v, spec)


def report(a):
    c = RESULT["calib"]
    print("\n" + "=" * 118)
    e = RESULT["env"]
    print(f"{e.get('gpu')}  torch {e.get('torch')}  triton {e.get('triton')}  V={a.vocab} H={a.hidden} T={a.temperature} bf16   "
          f"copy {c.get('copy_TBps', 0):.2f} TB/s   GEMM {c.get('gemm_8192_TFLOPs', 0):.0f} TFLOP/s")
    for k, r in RESULT.get("ref", {}).items():
        print(f"float64 KL on the {k} check slice {r['kl']:.4f}; errG of rounding the exact gradient to bf16 {r['f64->bf16 errG']:.1e}"
              + (f"; errG of bf16-rounded logits alone {r['bf16-logits errG']:.1e}" if r["bf16-logits errG"] is not None else ""))
    for kind in ("logits", "hidden"):
        for n in a.n:
            rows = [r for r in RESULT["rows"] if r["kind"] == kind and r["N"] == n]
            if not rows:
                continue
            print(f"\n{'from ' + kind}  N={n}  floor {rows[0]['floor_ms']:.2f} ms"
                  f"\n{'implementation':46s} {'ms':>9s} {'x floor':>8s} {'extra GiB':>10s} {'scratch':>8s} {'errL':>9s} {'errG':>9s} {'reps':>5s}")
            for r in sorted(rows, key=lambda r: r.get("ms", 1e9)):
                if "ms" not in r:
                    print(f"{r['name'][:46]:46s} {r.get('error', '')[:70]}"); continue
                print(f"{r['name'][:46]:46s} {r['ms']:9.2f} {r['ms']/r['floor_ms']:8.2f} {fmt(r['extra'], '10.2f'):>10s} {fmt(r['scratch'], '8.2f'):>8s} "
                      f"{fmt(r['errL'], '9.1e'):>9s} {fmt(r['errG'], '9.1e'):>9s} {fmt(r['reps'], '5d'):>5s}")
    if RESULT["nvfp4"]:
        print(f"\nNVFP4 fake quant, bf16 in, bf16 out (4 bytes/element)\n{'implementation':42s} {'shape':>12s} {'us':>9s} {'graph us':>9s} {'TB/s':>6s} {'of copy':>8s} {'err':>9s} {'mismatch':>9s}")
        for r in RESULT["nvfp4"]:
            if "us" not in r:
                print(f"{r['name'][:42]:42s} {r['M']}x{r['K']}  {r.get('error', '')[:60]}"); continue
            print(f"{r['name'][:42]:42s} {str(r['M'])+'x'+str(r['K']):>12s} {r['us']:9.1f} {fmt(r.get('graph_us'), '9.1f'):>9s} {r['TBps']:6.2f} {r['of_copy']:8.2f} "
                  f"{fmt(r.get('err'), '9.1e'):>9s} {fmt(r.get('mismatch'), '9.1e'):>9s}")
    if RESULT["skipped"]:
        print("\nskipped:")
        for k, v in RESULT["skipped"].items():
            print(f"  {k}: {v}")
    print(f"total {time.time()-T0:.0f} s")


def main():
    global CUDA, PERTURB
    a = parse()
    PERTURB = a.perturb
    CUDA = a.dev == "cuda"
    torch.manual_seed(a.seed)
    RESULT["args"] = {k: v for k, v in vars(a).items()}
    RESULT["env"] = dict(gpu=torch.cuda.get_device_name() if CUDA else platform.processor() or "cpu", torch=torch.__version__,
                         python=platform.python_version(),
                         **{d.replace("-", "_"): version(d) for d in ("triton", "liger-kernel", "fla-core", "trl", "torchtune",
                                                                     "nvidia-modelopt", "megatron-core", "nemo-automodel", "transformers")})
    if CUDA:
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = True  # PyTorch's default, stated
    try:
        calibrate(a)
        sec = a.sections.split(",")
        for i, n in enumerate(a.n):  # everything at the first size before the others, in case the deadline cuts in
            for kind in ("hidden", "logits"):
                if kind in sec:
                    bench(a, kind, [n])
            if i == 0 and "nvfp4" in sec:
                bench_nvfp4(a)
    except Exception:
        traceback.print_exc()
    if a.json:
        os.makedirs(os.path.dirname(os.path.abspath(a.json)), exist_ok=True)
        with open(a.json, "w") as fh:
            json.dump(RESULT, fh, indent=1, default=str)
    report(a)


if __name__ == "__main__":
    main()
