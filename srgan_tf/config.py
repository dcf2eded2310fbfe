"""Recipes: the configuration of a training run, read from YAML and validated before it starts.

Defaults are the paper's where it states a value (Ledig et al. 2017, section 3.2).
"""

from __future__ import annotations

import difflib
import re
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    Tag,
    ValidationError,
    model_validator,
)

from srgan_tf.errors import UserError
from srgan_tf.files import write_text

Stage = Literal["pretrain", "gan"]
Precision = Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]
ResizeFilter = Literal["bicubic", "bilinear", "box", "lanczos"]
LossName = Literal[
    "mse",
    "l1",
    "psnr",
    "vgg22",
    "vgg54",
    "perceptual",
    "lowres_mse",
    "log_spectrum_mse",
    "coherence",
    "grid_mse",
    "adversarial",
]
STAGES: tuple[Stage, ...] = typing.get_args(Stage)
PREVIOUS = "previous"
LOSS_NAMES: tuple[LossName, ...] = typing.get_args(LossName)

# PyYAML does not wrap the errors of its constructors of dates and numbers (2024-99-99, 0x_).
_YAML_ERRORS = (yaml.YAMLError, ValueError, OverflowError, RecursionError)


class _Section(BaseModel):
    """A section of a recipe: immutable, with unknown keys and non-finite numbers refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )


class _GeneratorConfig(_Section):
    scale: Literal[2, 4, 8] = 4
    """Ratio of HR's side to LR's; ×4 in the paper."""


class SRResNetConfig(_GeneratorConfig):
    """SRResNet, the paper's generator (section 2.1.1)."""

    architecture: Literal["srresnet"] = "srresnet"
    blocks: int = Field(16, ge=1)
    """Residual blocks."""
    filters: int = Field(64, ge=3)
    """Channels; three of them pass RGB through a new generator."""


class ECBSRConfig(_GeneratorConfig):
    """ECBSR, for phones (Zhang et al. 2021, who have up to 16 blocks of 64 filters)."""

    architecture: Literal["ecbsr"]
    blocks: int = Field(10, ge=1)
    """Convolutions between the first and the last."""
    filters: int = Field(32, ge=1)
    """Channels."""
    activation: Literal["prelu", "leaky_relu", "relu"] = "prelu"
    """In 8-bit models `relu` takes no time of its own, `leaky_relu` little and `prelu` more."""


class _LumaConfig(_GeneratorConfig):
    """A baseline whose network enlarges luma only."""


class SRCNNConfig(_LumaConfig):
    """The baseline SRCNN 9-5-5 (Dong et al. 2014)."""

    architecture: Literal["srcnn"]


class ESPCNConfig(_LumaConfig):
    """The baseline ESPCN (Shi et al. 2016)."""

    architecture: Literal["espcn"]


class DRCNConfig(_LumaConfig):
    """The baseline DRCN (Kim et al. 2016)."""

    architecture: Literal["drcn"]
    filters: int = Field(256, ge=1)
    """Channels."""
    recursions: int = Field(16, ge=1)
    """Applications of the recursive convolution."""
    block: Literal[1, 2, 4, 8] = 1
    """Factor of the space-to-depth before the convolutions; above 1 is faster, not in the paper."""

    @model_validator(mode="after")
    def _block_fits(self):
        if self.scale % self.block:
            raise ValueError(f"scale must be a multiple of block ({self.block})")
        return self


_GENERATORS: dict[str, type[_GeneratorConfig]] = {
    "srresnet": SRResNetConfig,
    "ecbsr": ECBSRConfig,
    "srcnn": SRCNNConfig,
    "espcn": ESPCNConfig,
    "drcn": DRCNConfig,
}


def _architecture(generator: Any) -> Any:
    if isinstance(generator, dict):
        return generator.get("architecture", "srresnet")
    return getattr(generator, "architecture", None)


GeneratorConfig = Annotated[
    Annotated[SRResNetConfig, Tag("srresnet")]
    | Annotated[ECBSRConfig, Tag("ecbsr")]
    | Annotated[SRCNNConfig, Tag("srcnn")]
    | Annotated[ESPCNConfig, Tag("espcn")]
    | Annotated[DRCNConfig, Tag("drcn")],
    Discriminator(
        _architecture,
        custom_error_type="architecture",
        custom_error_message=f"architecture must be one of {', '.join(_GENERATORS)}",
    ),
]


Probability = Annotated[float, Field(ge=0, le=1)]
GreyLevels = Annotated[float, Field(ge=0, le=255)]


class _Range(_Section):
    """A section whose pairs of numbers are ranges (low, high)."""

    @model_validator(mode="after")
    def _ranges_ascend(self):
        for key, value in self:
            is_range = isinstance(value, tuple) and not isinstance(value[0], str | BaseModel)
            if is_range and value[0] > value[1]:
                raise ValueError(f"{key} must be [low, high], not {list(value)}")
        return self


class BlurConfig(_Range):
    """A separable low-pass filter."""

    probability: Probability = 0.5
    """Probability that a pass blurs."""
    sigma: tuple[NonNegativeFloat, NonNegativeFloat] = (0.05, 0.7)
    """Range of the Gaussian's standard deviation, in pixels of the smaller of the pass' input and
    output."""
    anisotropy: float = Field(1.4, ge=1)
    """Largest factor by which σ is multiplied along one axis and divided along the other."""
    sinc: Probability = 0.0
    """Share of sinc filters, which ring as sharpening does, instead of Gaussians."""


class NoiseConfig(_Range):
    """Noise added to each pixel."""

    probability: Probability = 0.5
    """Probability that a pass adds noise."""
    sigma: tuple[GreyLevels, GreyLevels] = (0.0, 15.0)
    """Range of the standard deviation, in grey levels; low values are drawn more often. For Poisson
    noise it is the deviation at mid-grey."""
    poisson: Probability = 0.0
    """Share of noise whose variance is proportional to brightness, instead of Gaussian."""
    grey: Probability = 0.4
    """Share of noise that is equal in all three channels."""


class CompressionConfig(_Range):
    """Lossy compression, with the codec's grid of blocks at a random position."""

    probability: Probability = 0.85
    """Probability that a pass compresses."""
    quality: tuple[Annotated[int, Field(ge=1, le=100)], Annotated[int, Field(ge=1, le=100)]] = (
        30,
        95,
    )
    """Range of Pillow's quality, 1 to 100; 30 to 95 as in Real-ESRGAN."""
    subsampled: Probability = 0.67
    """Share of JPEGs with chroma at half the resolution (4:2:0) instead of 4:4:4."""


class DegradationPass(_Range):
    """Blur, resizing, noise and compression, in this order."""

    probability: Probability = 1.0
    """Probability of this pass; ignored for the last one, which always happens."""
    size: tuple[PositiveFloat, PositiveFloat] = (0.4, 1.0)
    """Range of the side to resize to, as a share of HR's; ignored for the last pass, which resizes
    to LR."""
    filters: tuple[ResizeFilter, ...] = Field(
        ("bicubic", "lanczos", "box", "bilinear"), min_length=1
    )
    """Resizing filters, drawn with equal probability; a repeated name is drawn more often."""
    blur: BlurConfig | None = None
    """Blur; null for none."""
    noise: NoiseConfig | None = None
    """Noise; null for none."""
    webp: CompressionConfig | None = None
    """WebP compression; null for none. If it is drawn, the pass skips `jpeg`."""
    jpeg: CompressionConfig | None = None
    """JPEG compression; null for none."""


class DegradationConfig(_Section):
    """Degradation of HR crops to LR."""

    clean: Probability = 0.1
    """Share of crops downscaled by MATLAB's bicubic only, to keep the quality on clean photos."""
    passes: tuple[DegradationPass, ...] = Field((DegradationPass(),), min_length=1)
    """Passes in order."""


class DataConfig(_Section):
    """HR photos, and how they are cut into batches."""

    source: str = Field("tfds:div2k/bicubic_x4", min_length=1)
    """A folder, `tfds:NAME` of tensorflow-datasets, or `samples` of scikit-image."""
    hr_crop: int = Field(96, ge=16)
    """Side of the square HR crops, in pixels; 96 in the paper."""
    crop_attempts: int = Field(1, ge=1)
    """Number of random crops drawn from a photo, of which the one with the most detail at LR's size
    is used, as there is little to learn from a crop of the sky. 1 as in the paper."""
    min_downscale: float = Field(1.0, gt=0, le=1)
    """Lowest factor, drawn from here to 1, by which a photo is downscaled before it is cropped: it
    removes camera blur and JPEG artefacts. 1, no downscaling, as in the paper."""
    degradation: DegradationConfig | None = None
    """Degradation of HR to LR; null for MATLAB's bicubic downscaling, as in the paper."""
    batch_size: int = Field(16, ge=1)
    """Crops in a batch, over all replicas; 16 in the paper."""
    validation_photos: int = Field(16, ge=1)
    """Number of photos held out of training, at most a fifth, to measure PSNR and SSIM on."""
    validation_crop: int = Field(256, ge=32)
    """Side of the central crop of each held-out photo, in HR pixels."""


class VggConfig(_Section):
    """The VGG19 network of the VGG losses."""

    weights: str = "imagenet"
    """`imagenet`, which Keras downloads, or the path of a `.weights.h5` file without top."""


Losses = Annotated[dict[LossName, Annotated[float, Field(gt=0)]], Field(min_length=1)]


class _StageConfig(_Section):
    steps: int = Field(ge=1)
    """Number of updates of the generator."""
    start_from: str | None = PREVIOUS
    """Initial weights: a run folder, a `.keras` file, a released name, or null for new weights.
    `previous` is the result of the preceding phase; for a recipe's first phase it is new weights in
    the stage pretrain, and srresnet-mse in the stage gan."""
    losses: Losses
    """Weights of the losses in the generator's loss, by their names in `srgan_tf.losses`."""
    batch_size: int | None = Field(None, ge=1)
    """Crops in a batch of this phase; null for `data.batch_size`."""
    clean: Probability | None = None
    """Share of clean crops in this phase; null for `data.degradation.clean`."""
    jitter: bool = False
    """Shift HR and SR by the same random 0 to `scale` - 1 pixels before the VGG losses and the
    discriminator, which prevents a grid in SR. Not in the paper."""
    learning_rate: float = Field(1e-4, gt=0)
    """Adam's peak learning rate (β1 0.9)."""
    schedule: Literal["constant", "drop", "cosine"] = "constant"
    """`drop` divides the learning rate by 10 after half of the steps; `cosine` raises it linearly
    over `warmup_steps`, then lowers it to a hundredth along a cosine."""
    warmup_steps: int = Field(0, ge=0)
    """Number of warm-up steps of the schedule `cosine`."""
    global_clipnorm: float | None = Field(None, gt=0)
    """Largest norm of a step's gradients, over all weights of a network; longer ones are scaled
    down. On several devices it applies to each one's gradients. Without batch normalization, high
    learning rates can diverge without it."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay per step of the moving average of the generator's weights; 0 for no average."""
    freeze_bn: bool = False
    """Normalize by the statistics of the initial weights instead of each batch's: trains the
    generator as it is used, and needs trained weights. False as in the paper."""
    bn_synchronized: bool = True
    """Compute batch statistics over all devices; false uses each device's share of the batch, which
    saves a synchronization per layer."""

    @model_validator(mode="after")
    def _fits(self):
        if self.warmup_steps and self.schedule != "cosine":
            raise ValueError("warmup_steps needs schedule: cosine")
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps ({self.warmup_steps}) must be below steps")
        return self


class PretrainConfig(_StageConfig):
    """Training of the generator on content losses (paper, section 3.2: 10⁶ updates at 1e-4)."""

    steps: int = Field(1_000_000, ge=1)
    losses: Losses = {"mse": 1.0}
    l1_steps: int = Field(0, ge=0)
    """Number of first steps that minimize L1 instead of `losses`, as L1 learns faster at high
    learning rates."""

    @model_validator(mode="after")
    def _has_no_discriminator(self):
        if "adversarial" in self.losses:
            raise ValueError("losses.adversarial needs the stage gan")
        return self


class DiscriminatorConfig(_Section):
    """The discriminator."""

    architecture: Literal["srgan", "unet"] = "srgan"
    """`srgan` has one logit per crop, as in the paper; `unet` one per pixel, with spectral
    normalization, as in Real-ESRGAN."""
    filters: int = Field(64, ge=1)
    """Channels of the first convolution; 64 in the paper."""


class GanConfig(_StageConfig):
    """Adversarial training (paper, section 3.2: 10⁵ updates at 1e-4, then 10⁵ at 1e-5)."""

    steps: int = Field(200_000, ge=1)
    losses: Losses = {"vgg54": 1.0, "adversarial": 1e-3}
    schedule: Literal["constant", "drop", "cosine"] = "drop"
    discriminator: DiscriminatorConfig = DiscriminatorConfig()


@dataclass(frozen=True)
class Phase:
    """A phase of a recipe: one run of a stage, from its first step to its last.

    Attributes:
        name: the stage, with a number if the recipe has several phases of it, such as `gan-2`.
        stage: `pretrain` or `gan`.
        index: position among the recipe's phases, from 0.
        index_in_stage: position among the phases of its stage, from 0.
        section: the phase's section of the recipe.
    """

    name: str
    stage: Stage
    index: int
    index_in_stage: int
    section: PretrainConfig | GanConfig


def _one_or_several(phases: Any) -> str:
    return "several" if isinstance(phases, list | tuple) else "one"


_ONE_OR_SEVERAL = Discriminator(_one_or_several)
Pretraining = Annotated[
    Annotated[PretrainConfig, Tag("one")]
    | Annotated[tuple[PretrainConfig, ...], Field(min_length=1), Tag("several")],
    _ONE_OR_SEVERAL,
]
Adversarial = Annotated[
    Annotated[GanConfig, Tag("one")]
    | Annotated[tuple[GanConfig, ...], Field(min_length=1), Tag("several")],
    _ONE_OR_SEVERAL,
]


class Config(_Section):
    """A recipe: phases of pretraining, then phases of adversarial training."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    """Name of the recipe's cards and of its phases' default folders, `runs/NAME/PHASE`."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the choice of held-out photos and of new weights; a phase's batches have the seed
    `seed` + the phase's index."""
    precision: Precision = "float32"
    """Keras' dtype policy; `auto` measures whether this machine trains faster in mixed_bfloat16 or
    float32. `mixed_float16` scales losses; it is for GPUs before Ampere, without bfloat16."""
    meant_for_gpu: bool = False
    """Warn if there is no GPU, as the recipe takes weeks without one."""
    deterministic: bool = False
    """Use bit-reproducible kernels only, which are slower."""
    generator: GeneratorConfig = SRResNetConfig()
    data: DataConfig = DataConfig()
    vgg: VggConfig = VggConfig()
    pretrain: Pretraining | None = None
    """A phase of pretraining, or a list of them."""
    gan: Adversarial | None = None
    """A phase of adversarial training, or a list of them."""
    checkpoint_every: int = Field(500, ge=1)
    """Number of steps between checkpoints."""
    checkpoints_kept: int = Field(3, ge=2)
    """Number of checkpoints kept, the newest."""
    validate_every: int = Field(500, ge=1)
    """Number of steps between validations."""
    log_every: int = Field(50, ge=1)
    """Number of steps between logs; the losses are then also shown and checked to be finite."""

    @model_validator(mode="after")
    def _fits_together(self):
        multiple = 16 if self.gan else self.generator.scale
        if self.data.hr_crop % multiple:
            raise ValueError(f"data.hr_crop must be a multiple of {multiple}")
        if self.data.validation_crop % self.generator.scale:
            raise ValueError(f"data.validation_crop must be a multiple of {self.generator.scale}")
        for phase in self.phases():
            if isinstance(self.generator, _LumaConfig):
                self._fits_luma(phase)
            if phase.section.clean is not None and self.data.degradation is None:
                raise ValueError(f"{phase.name}.clean needs a section data.degradation")
        if not (self.pretrain or self.gan):
            raise ValueError("a recipe needs a section pretrain or gan")
        return self

    def _fits_luma(self, phase: Phase) -> None:
        if other := set(phase.section.losses) - {"mse", "l1"}:
            raise ValueError(
                f"{self.generator.architecture} learns on luma: {phase.name}.losses can be mse and "
                f"l1, not {', '.join(sorted(other))}"
            )

    def phases(self, name: str | None = None) -> list[Phase]:
        """Return the recipe's phases in order.

        Args:
            name: a stage or a phase's name, to return these only; None for all.

        Raises:
            UserError: the recipe has no such phase.
        """
        phases: list[Phase] = []
        for stage in STAGES:
            value = getattr(self, stage)
            sections = [] if value is None else value if isinstance(value, tuple) else [value]
            for index, section in enumerate(sections):
                own_name = f"{stage}-{index + 1}" if len(sections) > 1 else stage
                phases.append(Phase(own_name, stage, len(phases), index, section))
        chosen = [phase for phase in phases if name in (None, phase.name, phase.stage)]
        if phases and not chosen:
            names = [phase.name for phase in phases]
            raise UserError(
                f"the recipe {self.name} has no phase {name}, only {', '.join(names)}: choose "
                f"--stage {names[0]} or another --config"
            )
        return chosen

    def data_of(self, phase: Phase) -> DataConfig:
        """Return `data` with what a phase of the recipe changes in it."""
        data, section = self.data, phase.section
        if section.batch_size is not None:
            data = data.model_copy(update={"batch_size": section.batch_size})
        if section.clean is not None and data.degradation is not None:
            degradation = data.degradation.model_copy(update={"clean": section.clean})
            data = data.model_copy(update={"degradation": degradation})
        return data


def read_config(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Read a recipe and apply `key=value` overrides to it.

    Args:
        path: a YAML file.
        overrides: such as `["pretrain.steps=1000", "vgg.weights=vgg19.weights.h5"]`. Values are
            parsed as YAML, except those of text keys, which are used verbatim (a folder may be
            called 2024).

    Raises:
        UserError: no such file, not YAML, an unknown key, or a value out of range; the message
            names the key and the nearest valid one.
    """
    path = Path(path)
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, *_YAML_ERRORS) as error:
        raise UserError(f"{path}: not a readable YAML file: {error}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: not a recipe, which is a mapping of keys to values")
    for override in overrides or []:
        _apply(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(error)}") from None


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: list[Any] = []
        for each, _ in node.value:
            if each.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(each, deep=True)
            if key in keys:
                problem = f"the key {key} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, each.start_mark)
            keys.append(key)
        return super().construct_mapping(node, deep)


def write_config(config: Config, path: str | Path) -> None:
    """Write a recipe with all defaults filled in; `read_config` returns an equal one."""
    # None within a section is kept: it may differ from the default, as in start_from.
    tree = {key: value for key, value in config.model_dump().items() if value is not None}
    write_text(Path(path), yaml.safe_dump(tree, sort_keys=False))


def _apply(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise UserError(f"--set {override}: write it as key=value")
    *sections, last = key.split(".")
    try:
        value = text if _takes_text(sections, last, text) else _number(yaml.safe_load(text))
    except _YAML_ERRORS:
        raise UserError(f"--set {override}: the value is not valid YAML") from None
    _assign(tree, [*sections, last], value, override)


def _assign(tree: Any, keys: list[str], value: Any, override: str) -> None:
    """Set a value in a tree; in a list of phases, set it in each."""
    if isinstance(tree, list):
        for phase in tree:
            _assign(phase, keys, value, override)
        return
    if not isinstance(tree, dict):
        raise UserError(f"--set {override}: the recipe has no such section")
    key, *rest = keys
    stage, number = _numbered(key)
    if number is not None:
        phases = tree.get(stage)
        if not isinstance(phases, list) or not 1 <= number <= len(phases):
            raise UserError(f"--set {override}: the recipe has no phase {key}")
        if not rest:
            raise UserError(f"--set {override}: name a key of the phase, such as {key}.steps")
        _assign(phases[number - 1], rest, value, override)
    elif rest:
        if tree.get(key) is None:
            tree[key] = {}
        if not isinstance(tree[key], dict | list):
            raise UserError(f"--set {override}: {key} is not a section")
        _assign(tree[key], rest, value, override)
    else:
        tree[key] = value


def _numbered(key: str) -> tuple[str, int | None]:
    """Return (stage, number) of a phase's name, such as gan-2; (key, None) for any other key."""
    match = re.fullmatch(r"(pretrain|gan)-(\d{1,4})", key)
    return (match[1], int(match[2])) if match else (key, None)


def _takes_text(sections: list[str], last: str, text: str) -> bool:
    section = _section(sections)
    if section is None or last not in section.model_fields:
        return False
    annotation = section.model_fields[last].annotation
    return annotation is str or (annotation == (str | None) and text not in ("", "~", "null"))


def _number(value: Any) -> Any:
    # YAML 1.1 parses 1e-4, without a dot, as a string.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
    return value


def _explain(error: ValidationError) -> str:
    lines = []
    problems = error.errors()
    for problem in problems:
        # A list whose elements are all invalid is also too short.
        place = problem["loc"]
        if problem["type"] == "too_short" and any(
            other["loc"][: len(place)] == place and other is not problem for other in problems
        ):
            continue
        location = _keys(place)
        key = ".".join(part for part in location if part not in _GENERATORS)
        if location[-1:] == ["[key]"]:
            name = str(problem["input"])
            near = difflib.get_close_matches(name, LOSS_NAMES, n=1, cutoff=0.4)
            section = ".".join(location[:-2])
            hint = f", did you mean {section}.{near[0]}?" if near else ""
            known = ", ".join(LOSS_NAMES)
            lines.append(f"unknown loss {section}.{name}{hint}; the losses are {known}")
        elif problem["type"] == "extra_forbidden":
            lines.append(f"unknown key {key}{_nearest_key(location)}")
        elif problem["type"] == "missing":
            lines.append(f"{key} is missing")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            given = "" if isinstance(problem["input"], dict) else f" (it is {problem['input']!r})"
            if isinstance(problem["input"], BaseModel):
                given = ""
            lines.append(f"{key}: {message}{given}" if key else f"{message}{given}")
    return "; ".join(lines)


def _keys(location: tuple[int | str, ...]) -> list[str]:
    """Return the recipe's keys in a pydantic location, which also names the members of unions."""
    parts = [str(part) for part in location]
    if parts and parts[0] in STAGES:
        if parts[1:2] == ["several"] and len(parts) > 2:
            return [f"{parts[0]}-{int(parts[2]) + 1}", *parts[3:]]
        return parts[:1] + parts[2:]
    return parts


def _section(keys: list[str]) -> type[BaseModel] | None:
    section: type[BaseModel] | None = Config
    for key in keys:
        key, _ = _numbered(key)
        if key.isdecimal():  # an element of a list
            continue
        if key in _GENERATORS:
            section = _GENERATORS[key]
            continue
        if section is None or key not in section.model_fields:
            return None
        types = _types(section.model_fields[key].annotation)
        sections = [t for t in types if isinstance(t, type) and issubclass(t, BaseModel)]
        section = sections[0] if sections else None  # the first generator's is srresnet's
    return section


def _types(annotation: Any) -> list[Any]:
    """Return the types in a union, including nested and annotated ones."""
    inner = typing.get_args(annotation)
    return [t for part in inner for t in _types(part)] if inner else [annotation]


def _nearest_key(location: list[str]) -> str:
    section = _section(location[:-1])
    assert section is not None  # pydantic has found the key in it
    near = difflib.get_close_matches(location[-1], section.model_fields, n=1, cutoff=0.4)
    prefix = "".join(f"{part}." for part in location[:-1] if part not in _GENERATORS)
    if near:
        return f", did you mean {prefix}{near[0]}?"
    return f"; the keys here are {', '.join(section.model_fields)}"
