# ruff: noqa
# fmt: off
# pyright: basic, reportAttributeAccessIssue=false, reportMissingImports=false, reportOptionalMemberAccess=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportGeneralTypeIssues=false
# pyright: reportOptionalSubscript=false, reportPossiblyUnboundVariable=false
"""Baseline step: plain glue of megatron-core 0.16.1 + modelopt 0.46.1 (no project code) on one GPU.

Qwen3-1.7B-shaped teacher and NVFP4 student, sequence 4096, bf16, modelopt's own
fake-quant kernel and LogitsKLLoss; prints one JSON line: forward+backward ms and optimizer ms
a step, memory before and at the peak. Settings by environment: QUANT=0|1, KD=0|1, MBS, LAYERS,
STEPS, RC=full (full recompute), PROF=1 (profiler table), TAG.
"""
import os, sys, time, json, warnings, copy
import torch
import torch.nn.functional as F
warnings.filterwarnings("ignore")
for k, v in dict(RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="29611").items(): os.environ.setdefault(k, v)
L = int(os.environ.get("LAYERS", 28)); H = 2048; S = 4096; B = int(os.environ.get("MBS", 1)); V = 151936
STEPS = int(os.environ.get("STEPS", 6))

def main():
    torch.cuda.set_device(0)
    torch.distributed.init_process_group("nccl")
    from megatron.core import parallel_state as ps
    ps.initialize_model_parallel()
    from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed
    model_parallel_cuda_manual_seed(123)
    from megatron.core.transformer.transformer_config import TransformerConfig
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer.module import MegatronModule

    class SDPA(MegatronModule):
        def __init__(self, config, layer_number, attn_mask_type, attention_type, **kw):
            super().__init__(config=config)
        def forward(self, q, k, v, attention_mask=None, attn_mask_type=None, **kw):
            s, b, h, d = q.shape
            q, k, v = (t.permute(1, 2, 0, 3) for t in (q, k, v))
            o = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            return o.permute(2, 0, 1, 3).reshape(s, b, h * d)

    def mk():
        cfg = TransformerConfig(num_layers=L, hidden_size=H, num_attention_heads=16, num_query_groups=8, kv_channels=128, ffn_hidden_size=6144,
            use_cpu_initialization=False, normalization="RMSNorm", gated_linear_unit=True, activation_func=F.silu, add_bias_linear=False, qk_layernorm=True,
            params_dtype=torch.bfloat16, bf16=True, pipeline_dtype=torch.bfloat16, hidden_dropout=0., attention_dropout=0., bias_activation_fusion=False,
            masked_softmax_fusion=False, gradient_accumulation_fusion=False, apply_rope_fusion=False, recompute_granularity=os.environ.get("RC") or None,
            recompute_method="uniform" if os.environ.get("RC") else None, recompute_num_layers=1 if os.environ.get("RC") else None)
        spec = get_gpt_layer_local_spec(normalization="RMSNorm", qk_layernorm=True)
        spec.submodules.self_attention.submodules.core_attention = SDPA
        return GPTModel(cfg, spec, vocab_size=V, max_sequence_length=S, position_embedding_type="rope", share_embeddings_and_output_weights=True,
                        rotary_base=1000000).cuda()
    student, teacher = mk(), mk().bfloat16()
    teacher.load_state_dict(student.state_dict())
    student = student.bfloat16()
    import modelopt.torch.quantization as mtq, modelopt.torch.distill as mtd
    import modelopt.torch.distill.plugins.megatron as dm
    g = torch.Generator(device="cuda").manual_seed(0)
    toks = torch.randint(0, V, (B, S), device="cuda", generator=g); pos = torch.arange(S, device="cuda")[None].expand(B, -1)
    from megatron.core.pipeline_parallel import get_forward_backward_func
    if os.environ.get("QUANT", "1") == "1":
        with torch.no_grad():
            mtq.quantize(student, copy.deepcopy(mtq.NVFP4_DEFAULT_CFG), lambda m: m(toks, pos, None))
    student.train()
    kd = os.environ.get("KD", "1") == "1"
    model = student
    if kd:
        dcfg = dm.setup_distillation_config(None, student.config, teacher.config)
        model = mtd.convert(student, mode=[("kd_loss", {"teacher_model": teacher, "criterion": dcfg.criterion, "loss_balancer": dcfg.loss_balancer})])
        dm.adjust_distillation_model_for_mcore(model, dcfg)
    from megatron.core.distributed import DistributedDataParallel as DDP, DistributedDataParallelConfig, finalize_model_grads
    ddp = DDP(model.config, DistributedDataParallelConfig(use_distributed_optimizer=True), model)
    from megatron.core.optimizer import get_megatron_optimizer, OptimizerConfig
    opt = get_megatron_optimizer(OptimizerConfig(optimizer="adam", lr=1e-6, use_distributed_optimizer=True, bf16=True, params_dtype=torch.bfloat16, clip_grad=1.0), [ddp])
    model.config.finalize_model_grads_func = finalize_model_grads

    def fstep(it, m):
        out = m(toks, pos, None, labels=toks)
        def lossf(o):
            l = o.float().mean()
            if kd:
                l = m.module.compute_kd_loss(student_loss=l, loss_reduction_fn=lambda x: (x[0] if isinstance(x, tuple) else x).float().mean())["kd_loss"]
            return l, {"loss": l.detach()}
        return out, lossf
    torch.cuda.synchronize(); torch.cuda.reset_peak_memory_stats()
    base = torch.cuda.memory_allocated()
    ts = []
    for it in range(STEPS):
        ddp.zero_grad_buffer(); opt.zero_grad()
        torch.cuda.synchronize(); t = time.time()
        r = get_forward_backward_func()(forward_step_func=fstep, data_iterator=[None], model=[ddp], num_microbatches=1, seq_length=S, micro_batch_size=B, forward_only=False)
        torch.cuda.synchronize(); t1 = time.time()
        ok, gn, nz = opt.step()
        torch.cuda.synchronize(); t2 = time.time()
        ts.append((t1 - t, t2 - t1))
    n = sum(p.numel() for p in student.parameters())
    print(json.dumps(dict(tag=os.environ.get("TAG"), loss=float(r[0]["loss"]), gn=float(gn), fb_ms=[round(1e3 * a, 1) for a, _ in ts], opt_ms=[round(1e3 * b, 1) for _, b in ts],
        base_gib=round(base / 2**30, 2), peak_gib=round(torch.cuda.max_memory_allocated() / 2**30, 2))))
    if os.environ.get("PROF"):
        from torch.profiler import profile, ProfilerActivity
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as p:
            get_forward_backward_func()(forward_step_func=fstep, data_iterator=[None], model=[ddp], num_microbatches=1, seq_length=S, micro_batch_size=B, forward_only=False)
            torch.cuda.synchronize()
        print(p.key_averages().table(sort_by="self_cuda_time_total", row_limit=25, max_name_column_width=60))
if __name__ == "__main__": main()
