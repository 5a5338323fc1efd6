"""The config of one run, as typed frozen sections; every field has one doc line with its unit.

Owns names, types, defaults and single-value bounds. It does not compose files (`load.py`), look at
the disk or compare fields with each other (`checks.py`), and it imports nothing heavy.
Defaults of the recipe are those of the scripts that this product replaces.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from qad_core.config.intermediate_layers import check_pair
from qad_core.config.time_limit import check_time_limit, seconds_of_time_limit

PositiveInt = Annotated[int, Field(ge=1, lt=2**31)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # as far as NumPy's generators go
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
SourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+=@-]*$")]  # part of a file's name
TimeLimit = Annotated[str, AfterValidator(check_time_limit)]
LayerNames = Annotated[tuple[str, ...], AfterValidator(check_pair)]


class Section(BaseModel):
    """Base of every section: frozen; an unknown key, an infinity or a NaN is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class ArchitectureConfig(Section):
    """Shape of a decoder-only transformer, in megatron-core's names."""

    family: Literal["qwen3", "llama", "qwen3_moe"]
    """Model family: `qwen3` has RMSNorm on queries and keys, `llama` has not, `qwen3_moe` is `qwen3` with experts."""
    num_layers: PositiveInt
    """Transformer layers."""
    hidden_size: PositiveInt
    """Width of the residual stream, in features."""
    ffn_hidden_size: PositiveInt
    """Width of the SwiGLU MLP, in features."""
    num_attention_heads: PositiveInt
    """Query heads."""
    num_query_groups: PositiveInt
    """Key/value heads (grouped-query attention)."""
    kv_channels: PositiveInt
    """Features a head."""
    vocab_size: PositiveInt
    """Rows of the embedding, in tokens."""
    max_position_embeddings: PositiveInt = 40960
    """Longest sequence that the model was made for, in tokens."""
    rotary_base: PositiveFloat = 1_000_000.0
    """Base of the rotary embedding (rope_theta)."""
    rms_norm_epsilon: PositiveFloat = 1e-6
    """Epsilon of every RMSNorm."""
    tie_word_embeddings: bool = False
    """Whether the output layer shares the embedding's weight."""
    rope_scaling: dict[str, float | int | str] | None = None
    """The `rope_scaling` entry of a Llama-3 config.json; null is plain RoPE."""
    num_moe_experts: PositiveInt | None = None
    """Experts in each layer's MLP; null is one dense MLP a layer."""
    moe_router_topk: PositiveInt | None = None
    """Experts that each token goes to."""
    moe_ffn_hidden_size: PositiveInt | None = None
    """Width of each expert's SwiGLU MLP, in features."""
    moe_normalize_topk: bool = True
    """Whether the weights of a token's chosen experts are scaled to sum to one (norm_topk_prob)."""


class ModelConfig(Section):
    """Student and teacher: where their weights and tokenizer come from."""

    name: str
    """Student's name, part of the run folder's name."""
    weights: str
    """A transformers folder, `.gguf` file, Megatron checkpoint, `package://PACKAGE/FILE` in a package, or `random`."""
    teacher_name: str | None = None
    """Teacher's name; null means the same as the student's."""
    teacher_weights: str | None = None
    """Teacher's weights, in the forms of `weights`; null means the student's own, before quantization."""
    teacher_config: str | None = None
    """YAML with the teacher's shape in Megatron's names (TEACHER_MODEL_CONFIG); null is what its config.json says."""
    tokenizer: str | None = None
    """Folder or GGUF file of the tokenizer, or `bytes` (one token a byte); null means beside the weights."""
    architecture: ArchitectureConfig | None = None
    """Shape; null reads it from the config.json beside the weights."""
    random_seed: Seed = 1234
    """Seed of the weights when `weights` is `random`."""


class SourceConfig(Section):
    """Raw text that `qad_core data prepare` turns into tokens."""

    kind: Literal["made", "python_stdlib", "text", "jsonl", "hub"]
    """`made` on the spot, `python_stdlib` (this Python's sources), `text` or `jsonl` files, or `hub`: a hub dataset."""
    paths: tuple[str, ...] = ()
    """Files or folders, searched for *.txt, *.md, *.py (`text`) or *.jsonl, *.parquet; for `hub`, its files' copies."""
    max_characters: Annotated[int, Field(ge=1)] | None = None
    """Stop reading after so many characters; null reads all."""
    repository: str | None = None
    """Dataset on the Hugging Face hub that `hub` reads: `owner/name`."""
    subset: str | None = None
    """Configuration of that repository; null is its only or default one."""
    splits: tuple[str, ...] = ()
    """Splits of the repository that are read, one after the other."""
    percentage: Annotated[float, Field(gt=0, le=100)] = 100.0
    """Share of the records of `jsonl` and `hub` that is taken, each by chance, in percent."""
    sample_seed: Seed = 42
    """Seed of that chance."""
    template: Literal["chat", "plain"] = "chat"
    """Chats as text: `chat` is the tokenizer's chat template, `plain` is lines of `User: ...` and `Assistant: ...`."""
    reasoning: bool = True
    """Whether the think blocks of answers stay in them (the `_cot` of the scripts' names)."""
    max_bad_records: NonNegativeInt = 0
    """Records that may be passed over because they cannot be read or rendered; one more is an error."""


class WeightedSource(SourceConfig):
    """One of several sources of a dataset."""

    weight: PositiveFloat
    """Share of the training samples drawn from it, relative to the others."""


class DatasetConfig(Section):
    """Tokens to train on and held-out tokens to judge by."""

    name: str
    """Part of the run folder's name."""
    blend: str | None = None
    """Datablend JSON with train, valid and test; null means the one that `data prepare` writes in the data cache."""
    source: SourceConfig | None = None
    """Raw text to prepare the blend from, where it has one source; null, and no `sources`: the blend must be there."""
    sources: dict[SourceName, WeightedSource] = {}
    """Raw text to prepare the blend from, where it has several: name -> the fields of `source`, and a `weight`."""
    valid_fraction: Fraction = 0.025
    """Share of the documents held out for evaluation while training."""
    test_fraction: Fraction = 0.025
    """Share of the documents held out for the end."""
    split_seed: Seed = 42
    """Seed of the split into train, valid and test."""
    append_eod: bool = True
    """Whether an end-of-document token ends each document."""
    answer_loss_only: bool = False
    """Whether the loss counts the tokens of each chat's last answer alone, which needs chats; false counts all."""

    @property
    def named_sources(self) -> dict[str, SourceConfig]:
        """Every source by the name that its token files have; the only one has the dataset's."""
        return {self.name: self.source} if self.source is not None else dict(self.sources)


class ParallelismConfig(Section):
    """How one model is laid over ranks; data parallelism is what is left of the world size."""

    name: str = "one-rank"
    """Name of this layout."""
    tensor_model_parallel_size: PositiveInt = 1
    """Ranks that share each layer's weights (TP)."""
    pipeline_model_parallel_size: PositiveInt = 1
    """Ranks that hold consecutive layers (PP)."""
    context_parallel_size: PositiveInt = 1
    """Ranks that share one sequence (CP)."""
    expert_model_parallel_size: PositiveInt = 1
    """Ranks that share the experts of a mixture (EP)."""
    sequence_parallel: bool = False
    """Whether norms and residuals are sharded along the sequence inside a TP group."""

    @property
    def model_parallel_size(self) -> int:
        """Ranks that one replica of the model takes: TP x PP x CP."""
        return self.tensor_model_parallel_size * self.pipeline_model_parallel_size * self.context_parallel_size


class SlurmConfig(Section):
    """What sbatch is asked for; a field that is null or empty is not passed, so that the site's default holds."""

    partition: str | None = None
    """Partition (--partition)."""
    account: str | None = None
    """Account that pays (--account); also the first part of a job's name."""
    qos: str | None = None
    """Quality of service (--qos)."""
    time_limit: TimeLimit = "4:00:00"
    """Walltime of one link as SLURM writes it: `minutes`, `hours:minutes:seconds` or `days-hours:minutes:seconds`."""
    stop_seconds_before_limit: Annotated[int, Field(ge=0, le=65535)] = 600
    """The trainer is told to save so many seconds before the limit; SLURM sweeps limits every 30 s or so."""
    gpus_per_node: Annotated[int, Field(ge=0, le=64)] | None = None
    """GPUs asked for on each node; null is one a rank, and none where `device` is `cpu`."""
    gpu_type: str | None = None
    """Type of those GPUs, where the cluster has several: `h100`."""
    cpus_per_task: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU cores a node's one task gets (--cpus-per-task)."""
    memory: str | None = None
    """Memory a node (--mem): `0` is all of it, `200G` so much."""
    exclusive: bool = False
    """Whether nodes are shared with nobody (--exclusive)."""
    requeue: bool = True
    """Whether SLURM starts a link again after a node failure or a preemption; it goes on from its checkpoint."""
    setup: tuple[str, ...] = ()
    """Shell lines before the start on the first node, such as `module load cuda`; no secrets."""
    extra_options: tuple[str, ...] = ()
    """Further sbatch options, each as it stands after `#SBATCH`: `--reservation=week12`."""
    secrets: tuple[str, ...] = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")
    """Environment variables that reach the job by its environment alone; only their names are ever shown."""

    @property
    def time_limit_seconds(self) -> int:
        """Walltime of one link."""
        return seconds_of_time_limit(self.time_limit)


class ContainerConfig(Section):
    """What the job's command runs in."""

    runtime: Literal["none", "pyxis", "apptainer"] = "none"
    """`none` is the node itself, `pyxis` is srun --container-image, `apptainer` is apptainer exec."""
    image: str | None = None
    """Image: a .sqsh file or registry name for pyxis (CONTAINER_IMAGE), a .sif file for apptainer."""
    mounts: tuple[str, ...] = ()
    """HOST:CONTAINER folders (CONTAINER_MOUNTS); the run folder, data and weights must be inside one."""
    workdir: str | None = None
    """Working directory inside (CONTAINER_WORKDIR)."""
    python: str | None = None
    """Python with qad_core inside the job; null is `python3` in a container, else the one that submits."""
    options: tuple[str, ...] = ()
    """Further options of srun (pyxis) or of apptainer exec, such as `--no-container-mount-home`."""


class ClusterConfig(Section):
    """The machines of a run."""

    name: str = "local"
    """Name of this cluster."""
    kind: Literal["local", "slurm"] = "local"
    """`local` starts the ranks here with `train`; `slurm` puts them into a queue with `submit`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What the ranks compute on; `auto` takes GPUs where torch sees them."""
    gpu: Literal["a100-40gb", "a100-80gb", "h100", "h200", "b200"] | None = None
    """Type of the GPUs, for the prediction of memory and time; null takes this machine's, or `slurm.gpu_type`."""
    nodes: PositiveInt = 1
    """Machines."""
    processes_per_node: Annotated[int, Field(ge=1, le=1024)] = 1
    """Ranks a machine: one a GPU, or gloo ranks on a CPU."""
    threads_per_process: Annotated[int, Field(ge=0, le=1024)] = 0
    """CPU threads a rank; 0 shares the machine's cores evenly."""
    master_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """TCP port of the rendezvous; 0 takes a free one here, and in a SLURM job one derived from its id."""
    slurm: SlurmConfig = SlurmConfig()
    """What sbatch is asked for, where `kind` is `slurm`."""
    container: ContainerConfig = ContainerConfig()
    """What a SLURM job's command runs in."""

    @property
    def world_size(self) -> int:
        """Ranks in all."""
        return self.nodes * self.processes_per_node

    @property
    def gpus_per_node(self) -> int:
        """GPUs that a SLURM job asks for on each node."""
        if self.slurm.gpus_per_node is not None:
            return self.slurm.gpus_per_node
        return 0 if self.device == "cpu" else self.processes_per_node


class QuantizationConfig(Section):
    """How the student is quantized."""

    format: Literal["nvfp4", "none"] = "nvfp4"
    """`nvfp4` fake-quantizes weights and activations of all block linears; `none` is a plain student."""
    activations: bool = True
    """Whether activations are quantized with the weights (W4A4); false quantizes weights only (W4A16)."""
    weight_scales: Literal["max", "mse", "four_over_six"] = "max"
    """Block scales of weights: `max` follows a block's amax; `mse` (least squared error) and `four_over_six` (amax to
    6 or to 4) are chosen at calibration and held."""
    calibration_sequences: PositiveInt = 16
    """Training sequences seen by max calibration."""


class DistillationConfig(Section):
    """The KD loss."""

    config: str | None = None
    """KD YAML of Megatron's scripts (KD_CFG_PATH); its values lie under the fields that are set beside it."""
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    """Softmax temperature of teacher and student; the loss has no T^2 factor."""
    divergence: Literal["forward", "reverse"] = "forward"
    """`forward` trains on KL(teacher || student), `reverse` on KL(student || teacher); evaluation is always forward."""
    top_k: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Teacher's most likely tokens that count on their own, all others as one; 0 is all, as evaluation always is."""
    skip_lm_loss: bool = True
    """Whether KL alone is trained on; false adds cross-entropy, CE + kd_loss_scale x KL. loss/kd is KL in any case."""
    kd_loss_scale: PositiveFloat = 1.0
    """Weight of KL beside the cross-entropy, where `skip_lm_loss` is false."""
    intermediate_layers: tuple[LayerNames, ...] = ()
    """Layers compared too, scaled to KL's size: [[student's, teacher's, cosine or mse]], such as decoder.layers.5."""
    chunk_tokens: NonNegativeInt = 0
    """Tokens whose full-vocabulary logits exist at once; 0 chooses from the device."""


class TrainConfig(Section):
    """The recipe; the defaults are the scripts' values."""

    micro_batch_size: PositiveInt = 1
    """Sequences a rank and a forward pass."""
    global_batch_size: PositiveInt = 256
    """Sequences an optimizer step, over all ranks."""
    sequence_length: PositiveInt = 4096
    """Tokens a sequence."""
    train_samples: Annotated[int, Field(ge=1, le=10**12)] = 299_800
    """Sequences in all; iterations are train_samples // global_batch_size."""
    learning_rate: PositiveFloat = 1e-6
    """Peak learning rate."""
    min_learning_rate: NonNegativeFloat = 0.0
    """Learning rate at the end of the decay."""
    learning_rate_decay_style: Literal["cosine", "linear", "constant"] = "cosine"
    """Shape of the decay."""
    warmup_fraction: Fraction = 0.01
    """Share of the samples with a rising learning rate."""
    decay_fraction: Fraction = 0.99
    """Share of the samples after which the decay has reached its end."""
    adam_beta1: Fraction = 0.9
    """AdamW's decay of the first moment."""
    adam_beta2: Fraction = 0.95
    """AdamW's decay of the second moment."""
    adam_epsilon: PositiveFloat = 1e-8
    """AdamW's epsilon."""
    weight_decay: NonNegativeFloat = 0.1
    """AdamW's decoupled weight decay."""
    clip_grad: NonNegativeFloat = 1.0
    """Largest global gradient norm; 0 does not clip."""
    seed: Seed = 1234
    """Seed of data order and initialisation."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Weights and products; `auto` is bf16 where the device has it, else fp32. Optimizer states are fp32."""
    recompute: Literal["none", "full"] = "none"
    """`full` recomputes every layer in the backward pass, to save memory."""
    cuda_graphs: bool = True
    """Whether passes on a GPU are recorded and replayed, where they can be; false starts each of their kernels anew."""
    iterations_to_skip: tuple[PositiveInt, ...] = ()
    """1-based iterations whose data are consumed without a step."""
    exit_duration_minutes: PositiveFloat | None = None
    """Save and exit 3 after so many minutes; null never."""
    exit_iteration: PositiveInt | None = None
    """Save and exit 3 after this iteration; null never."""
    distributed_timeout_minutes: Annotated[float, Field(ge=0.01, le=525_600)] = 30.0
    """A collective that takes longer ends the run."""

    @property
    def train_iterations(self) -> int:
        """Optimizer steps in all."""
        return self.train_samples // self.global_batch_size


class EvaluationConfig(Section):
    """Held-out evaluation at step 0 (plain post-training quantization), on the way, and at the end."""

    interval: NonNegativeInt = 200
    """Steps between evaluations; 0 evaluates at step 0 and the end only."""
    sequences: PositiveInt = 20
    """Held-out sequences an evaluation, over all ranks."""


class CheckpointConfig(Section):
    """What is kept of the training state."""

    interval: NonNegativeInt = 200
    """Steps between saves; 0 saves at the end and on a stop only."""
    keep_last: PositiveInt = 2
    """Newest checkpoints kept; older ones are removed after a save."""


class PathsConfig(Section):
    """Where things lie; relative paths are from the working directory, and made absolute when a config is loaded."""

    checkpoint_root: Path = Path("runs")
    """Folder of all run folders (QAD_CHECKPOINT_ROOT)."""
    data_cache: Path = Path("runs/data_cache")
    """Prepared tokens and Megatron's index caches (DATACACHE_DIR)."""
    models_root: Path = Path("models")
    """Folder that relative weights and tokenizer paths start from (MODELS_ROOT)."""


class RunConfig(Section):
    """Everything that one run is."""

    loss: Literal["qad", "qat"] = "qad"
    """`qad`: KL to the teacher; `qat`: cross-entropy on the data only."""
    tag: str = ""
    """Suffix of the run folder's name, to keep runs apart."""
    model: ModelConfig
    """Student and teacher."""
    dataset: DatasetConfig
    """Tokens."""
    parallelism: ParallelismConfig = ParallelismConfig()
    """Layout over ranks."""
    cluster: ClusterConfig = ClusterConfig()
    """Machines."""
    quantization: QuantizationConfig = QuantizationConfig()
    """How the student is quantized."""
    distillation: DistillationConfig = DistillationConfig()
    """The KD loss."""
    train: TrainConfig = TrainConfig()
    """The recipe."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Held-out evaluation."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Saving."""
    paths: PathsConfig = PathsConfig()
    """Folders."""

    @property
    def data_parallel_size(self) -> int:
        """Replicas of the model: world size over TP x PP x CP (floored; `checks.py` refuses a remainder)."""
        return self.cluster.world_size // self.parallelism.model_parallel_size

    @property
    def num_micro_batches(self) -> int:
        """Forward passes a rank and a step (floored; `checks.py` refuses a remainder)."""
        return self.train.global_batch_size // (self.train.micro_batch_size * max(self.data_parallel_size, 1))

    @property
    def run_name(self) -> str:
        """Name of the run folder, in the layout of the scripts that this replaces."""
        teacher = self.model.teacher_name or self.model.name
        tag = f"-{self.tag}" if self.tag else ""
        kind = "-qat" if self.loss == "qat" else ""
        rate = re.sub(r"e([+-])0+", r"e\1", f"{self.train.learning_rate:g}")  # 1e-6, as the scripts write it
        return f"{self.model.name}-Teacher-{teacher}-Data-{self.dataset.name}-lr{rate}{kind}{tag}"
