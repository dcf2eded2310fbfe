"""The configuration tree of a training run, read from YAML and validated as a whole."""

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
    Tag,
    ValidationError,
    model_validator,
)

from srgan_tf.errors import UserError
from srgan_tf.files import atomic_write

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
    "adversarial",
]
STAGES: tuple[Stage, ...] = typing.get_args(Stage)
PREVIOUS = "previous"
LOSSES: tuple[LossName, ...] = typing.get_args(LossName)

# PyYAML lets through what the constructors of dates and numbers raise (2024-99-99, 0x_).
_YAML_ERRORS = (yaml.YAMLError, ValueError, OverflowError, RecursionError)


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )


class _GeneratorConfig(_Section):
    scale: Literal[2, 4, 8] = 4


class SRResNetConfig(_GeneratorConfig):
    """Size of the SRResNet (paper: ×4, 16 blocks of 64 filters)."""

    architecture: Literal["srresnet"] = "srresnet"
    blocks: int = Field(16, ge=1)
    filters: int = Field(64, ge=3)
    activation: Literal["prelu", "relu"] = "prelu"
    one_shuffle: bool = False
    """One pixel shuffle straight to the photo, for speed, in place of the paper's stages."""


class ECBSRConfig(_GeneratorConfig):
    """Size of the ECBSR, for phones (its paper: up to 16 blocks of 64 filters)."""

    architecture: Literal["ecbsr"]
    blocks: int = Field(10, ge=1)
    filters: int = Field(32, ge=1)
    activation: Literal["prelu", "relu"] = "prelu"


class _LumaConfig(_GeneratorConfig):
    """A baseline that enlarges luma alone."""


class SRCNNConfig(_LumaConfig):
    """The baseline SRCNN 9-5-5."""

    architecture: Literal["srcnn"]


class ESPCNConfig(_LumaConfig):
    """The baseline ESPCN."""

    architecture: Literal["espcn"]


class DRCNConfig(_LumaConfig):
    """Size of the baseline DRCN (its paper: 256 filters, 16 recursions)."""

    architecture: Literal["drcn"]
    filters: int = Field(256, ge=1)
    recursions: int = Field(16, ge=1)
    block: Literal[1, 2, 4, 8] = 1
    """Side of the blocks of pixels that are convolved as one, in place of pixels."""

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


class _Range(_Section):
    """A section with ranges (low, high)."""

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
    sigma: tuple[float, float] = Field((0.05, 0.7))
    """Standard deviation of the Gaussian, in pixels of the smaller image, before or after."""
    anisotropy: float = Field(1.4, ge=1)
    """How many times wider than on average the Gaussian may be along one axis."""
    sinc: Probability = 0.0
    """Share of sinc filters, which ring, instead of Gaussians."""


class NoiseConfig(_Range):
    """Noise added to each pixel."""

    probability: Probability = 0.5
    sigma: tuple[float, float] = Field((0.0, 15.0))
    """Standard deviation in grey levels, weaker ones more often; of Poisson noise at mid-grey."""
    poisson: Probability = 0.0
    """Share of noise whose variance grows with the brightness."""
    grey: Probability = 0.4
    """Share of noise that is equal in all three channels."""


class CompressionConfig(_Range):
    """Saving as a lossy file, its grid of blocks at a random place."""

    probability: Probability = 0.85
    quality: tuple[Annotated[int, Field(ge=1, le=100)], Annotated[int, Field(ge=1, le=100)]] = (
        30,
        95,
    )
    subsampled: Probability = 0.67
    """Share of JPEGs with chroma at half the resolution (4:2:0) instead of 4:4:4."""


class DegradationPass(_Range):
    """Blur, resizing, noise and compression, in this order."""

    probability: Probability = 1.0
    """Of a pass before the last, which always happens."""
    size: tuple[float, float] = (0.4, 1.0)
    """Of a pass before the last: the side it resizes to, as a share of HR's."""
    filters: tuple[ResizeFilter, ...] = Field(
        ("bicubic", "lanczos", "box", "bilinear"), min_length=1
    )
    """Resizing filters, drawn with equal probability; one may be named twice."""
    blur: BlurConfig | None = None
    noise: NoiseConfig | None = None
    webp: CompressionConfig | None = None
    """Instead of JPEG, where it is drawn."""
    jpeg: CompressionConfig | None = None


class DegradationConfig(_Section):
    """How LR is made of HR crops."""

    clean: Probability = 0.1
    """Share of crops whose LR is MATLAB's bicubic alone."""
    passes: tuple[DegradationPass, ...] = Field((DegradationPass(),), min_length=1)
    """What happens one after the other; the last resizes to LR."""


class DataConfig(_Section):
    """Where HR photos come from and how they are cut into batches."""

    source: str = Field("tfds:div2k/bicubic_x4", min_length=1)
    """A folder, `tfds:NAME`, or `samples`."""
    hr_crop: int = Field(96, ge=16)
    """Side of the square HR crops, in pixels."""
    crop_candidates: int = Field(1, ge=1)
    """Crops that are drawn for one that is trained on: the one with the most detail that LR
    shows. A photo's sky teaches little, and a step costs the same."""
    photo_scale: float = Field(1.0, gt=0, le=1)
    """Photos are downscaled by a random factor from this to 1 before they are cropped: sharper
    pixels, without a camera's blur and JPEG's blocks."""
    degradation: DegradationConfig | None = None
    """How LR is made of HR; none: MATLAB's bicubic downscaling, as in the paper."""
    batch_size: int = Field(16, ge=1)
    """Crops in a mini-batch, over all replicas."""
    validation_photos: int = Field(16, ge=1)
    """Photos held out of training to measure PSNR and SSIM on."""
    validation_crop: int = Field(256, ge=32)
    """Side of the central crop of each held-out photo, in HR pixels."""


class VggConfig(_Section):
    """The VGG19 behind the perceptual losses."""

    weights: str = "imagenet"
    """`imagenet`: downloaded by Keras; else the path of a `.weights.h5` without top."""


Losses = Annotated[dict[LossName, Annotated[float, Field(gt=0)]], Field(min_length=1)]


class _StageConfig(_Section):
    steps: int = Field(ge=1)
    """Updates of the generator."""
    start_from: str | None = PREVIOUS
    """Weights to start from: a run folder, a `.keras` file, a released name, or none, for new ones.
    `previous`: of the phase before; of a first phase new ones, for the GAN srresnet-mse."""
    losses: Losses
    """What the generator minimises: weights of the losses in `srgan_tf.losses`, by name."""
    jitter: bool = False
    """Shift HR and SR alike at random, by up to `scale` - 1 pixels, before the VGG losses and the
    discriminator see them: against a grid. Not in the paper."""
    learning_rate: float = Field(1e-4, gt=0)
    """Adam's (β1 0.9), at its highest."""
    schedule: Literal["constant", "drop", "cosine"] = "constant"
    """`drop`: a tenth from the middle on; `cosine`: linear warm-up, then cosine to a hundredth."""
    warmup_steps: int = Field(0, ge=0)
    """Of the cosine schedule."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of the moving average of the generator's weights; 0: no average."""
    bn_statistics: Literal["batch", "moving"] = "batch"
    """`moving`: the generator's batch normalization keeps the statistics it started from and
    is trained as it is used; for weights that are trained already."""

    bn_synchronized: bool = True
    """Of several devices: batch statistics are the whole batch's. False: each device takes its own
    share's, which saves waiting for the others in every layer."""

    @model_validator(mode="after")
    def _fits(self):
        if self.warmup_steps and self.schedule != "cosine":
            raise ValueError("warmup_steps needs schedule: cosine")
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps ({self.warmup_steps}) must be below steps")
        return self


class PretrainConfig(_StageConfig):
    """The generator alone, on content losses (paper, section 3.2: 10⁶ updates at 1e-4)."""

    steps: int = Field(1_000_000, ge=1)
    losses: Losses = {"mse": 1.0}
    l1_steps: int = Field(0, ge=0)
    """First steps that minimise L1 instead of `losses`: at a high rate it learns faster."""

    @model_validator(mode="after")
    def _has_no_discriminator(self):
        if "adversarial" in self.losses:
            raise ValueError("losses.adversarial needs the stage gan")
        return self


class DiscriminatorConfig(_Section):
    """The network that judges the generator's photos."""

    architecture: Literal["srgan", "unet"] = "srgan"
    """`srgan`: one logit a crop, as in the paper; `unet`: one a pixel, with spectral
    normalization, as in Real-ESRGAN."""
    filters: int = Field(64, ge=1)
    """Channels of the first convolution."""


class GanConfig(_StageConfig):
    """Generator and discriminator (paper: 10⁵ updates at 1e-4, then 10⁵ at 1e-5)."""

    steps: int = Field(200_000, ge=1)
    losses: Losses = {"vgg54": 1.0, "adversarial": 1e-3}
    schedule: Literal["constant", "drop", "cosine"] = "drop"
    discriminator: DiscriminatorConfig = DiscriminatorConfig()


@dataclass(frozen=True)
class Phase:
    """A part of a recipe: one run of a stage, from its first step to its last."""

    name: str
    """The stage; where the recipe has several phases of it, with a number: `gan-2`."""
    stage: Stage
    index: int
    """Of the phases of the recipe, from 0."""
    place: int
    """Of the phases of its stage, from 0."""
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
    """A whole recipe: phases of pretraining, then phases of adversarial training."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    """Names the default folders of its phases, `runs/NAME/PHASE`, and its cards."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Of the held-out photos and of new weights; that of a phase's batches is `index` higher."""
    precision: Precision = "float32"
    """`auto`: mixed_bfloat16 on a machine that trains faster in it, else float32. `mixed_float16`,
    with scaled losses, is for GPUs before Ampere, which have no bfloat16."""
    meant_for_gpu: bool = False
    """Without a GPU the recipe takes weeks: training warns where none is found."""
    deterministic: bool = False
    """Only bit-reproducible kernels, at some cost in speed."""
    generator: GeneratorConfig = SRResNetConfig()
    data: DataConfig = DataConfig()
    vgg: VggConfig = VggConfig()
    pretrain: Pretraining | None = None
    """One phase, or a list of phases."""
    gan: Adversarial | None = None
    """One phase, or a list of phases."""
    checkpoint_every: int = Field(500, ge=1)
    """Steps between checkpoints."""
    checkpoints_kept: int = Field(3, ge=1)
    """Newest checkpoints kept."""
    validate_every: int = Field(500, ge=1)
    """Steps between validations."""
    log_every: int = Field(50, ge=1)
    """Steps between those whose losses are shown, logged for TensorBoard and checked."""

    @model_validator(mode="after")
    def _fits_together(self):
        multiple = 16 if self.gan else self.generator.scale
        if self.data.hr_crop % multiple:
            raise ValueError(f"data.hr_crop must be a multiple of {multiple}")
        if self.data.validation_crop % self.generator.scale:
            raise ValueError(f"data.validation_crop must be a multiple of {self.generator.scale}")
        if isinstance(self.generator, _LumaConfig):
            for phase in self.phases():
                self._fits_luma(phase)
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
        """The phases in their order: all, those of a stage, or the one of a name.

        Raises:
            UserError: there is none of this name.
        """
        phases: list[Phase] = []
        for stage in STAGES:
            value = getattr(self, stage)
            sections = [] if value is None else value if isinstance(value, tuple) else [value]
            for place, section in enumerate(sections):
                of_name = f"{stage}-{place + 1}" if len(sections) > 1 else stage
                phases.append(Phase(of_name, stage, len(phases), place, section))
        chosen = [phase for phase in phases if name in (None, phase.name, phase.stage)]
        if phases and not chosen:
            names = [phase.name for phase in phases]
            raise UserError(
                f"the recipe {self.name} has no phase {name}, only {', '.join(names)}: choose "
                f"--stage {names[0]} or another --config"
            )
        return chosen


def read_config(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Reads a recipe and applies `key=value` overrides to it.

    Args:
        path: a YAML file.
        overrides: such as `["pretrain.steps=1000", "vgg.weights=vgg19.weights.h5"]`;
            values are read as YAML, save those of keys that take text, which are
            taken as they are (a folder may be called 2024).

    Raises:
        UserError: no such file, not YAML, an unknown key (with the nearest valid
            one), or a value out of range.
    """
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, *_YAML_ERRORS) as error:
        raise UserError(f"{path}: not a readable YAML file: {error}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: a config is a mapping of keys to values")
    for override in overrides or []:
        _apply(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(error)}") from None


def write_config(config: Config, path: str | Path) -> None:
    """Writes the resolved recipe, so that `read_config` gives an equal one."""
    # A None within a section stays: it may stand against a default, as in start_from.
    tree = {key: value for key, value in config.model_dump().items() if value is not None}
    with atomic_write(Path(path)) as temporary:
        temporary.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")


def _apply(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise UserError(f"--set {override}: write it as key=value")
    *sections, last = key.split(".")
    try:
        value = text if _takes_text(sections, last, text) else _number(yaml.safe_load(text))
    except _YAML_ERRORS:
        raise UserError(f"--set {override}: the value is not YAML") from None
    _assign(tree, [*sections, last], value, override)


def _assign(tree: Any, keys: list[str], value: Any, override: str) -> None:
    """Set a value in a tree; in a list of phases, in each."""
    if isinstance(tree, list):
        for phase in tree:
            _assign(phase, keys, value, override)
        return
    if not isinstance(tree, dict):
        raise UserError(f"--set {override}: there is no such section")
    key, *rest = keys
    stage, number = _numbered(key)
    if number is not None:
        phases = tree.get(stage)
        if not rest or not isinstance(phases, list) or not 1 <= number <= len(phases):
            raise UserError(f"--set {override}: the recipe has no phase {key}")
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
    """The stage and number of a phase's name, such as gan-2; another key and None."""
    match = re.fullmatch(r"(pretrain|gan)-(\d{1,4})", key)
    return (match[1], int(match[2])) if match else (key, None)


def _takes_text(sections: list[str], last: str, text: str) -> bool:
    section = _section(sections)
    if section is None or last not in section.model_fields:
        return False
    annotation = section.model_fields[last].annotation
    return annotation is str or (annotation == (str | None) and text not in ("", "~", "null"))


def _number(value: Any) -> Any:
    # YAML 1.1 reads 1e-4, without a dot, as a string.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
    return value


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        location = _keys(problem["loc"])
        key = ".".join(part for part in location if part not in _GENERATORS)
        if location[-1:] == ["[key]"]:
            name = str(problem["input"])
            near = difflib.get_close_matches(name, LOSSES, n=1, cutoff=0.4)
            section = ".".join(location[:-2])
            hint = f", did you mean {section}.{near[0]}?" if near else ""
            lines.append(f"unknown loss {section}.{name}{hint}; the losses are {', '.join(LOSSES)}")
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
    """The keys to a place in the tree, whose location names the members of unions too."""
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
        if key in _GENERATORS:
            section = _GENERATORS[key]
            continue
        if section is None or key not in section.model_fields:
            return None
        types = _types(section.model_fields[key].annotation)
        sections = [t for t in types if isinstance(t, type) and issubclass(t, BaseModel)]
        section = sections[0] if sections else None  # of the generators', srresnet's
    return section


def _types(annotation: Any) -> list[Any]:
    """The types in a union, also in a union of annotated ones."""
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
