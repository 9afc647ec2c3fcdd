"""A training recipe: which net, which arithmetic, which slices, which schedule and seed, as a TOML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from netweight import data
from netweight.data import Segmentation, Split
from netweight.errors import SettingsError
from netweight.provenance import sha256_of_json
from netweight.settings import Seed, Settings, parse, read_toml, write_toml
from netweight.train._qat import Qat, from_table, recipe, to_table
from netweight.train._settings import Training


class NetSettings(Settings):
    """``[net]``: one of ``models.nets``."""

    use: str = Field(description="name of the net, such as 'swin'")
    size: str = Field("500k", description="its budget of parameters")
    patch: int | None = Field(None, description="pixels along a side of a transformer's patch; 16 if absent")
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="of cnn, vit and swin: chance of leaving out values in training; the study's if absent",
    )


class Arithmetic(Settings):
    """``[qat]``: how the three products of each layer are rounded while it is trained."""

    use: str = Field(
        "baseline",
        description="name of a row, such as 'nvfp4-2d-rht-sr', or a TOML file with one, beside the recipe or from where we are",
    )
    row: dict[str, Any] | None = Field(None, description="the row itself, where it is not one of the catalogue")
    skip: list[str] | None = Field(
        None, description="patterns of layers that are not quantized; those of the net's study if absent"
    )
    attention: bool = Field(False, description="round both products of attention too, their factors as inputs")

    def qat(self) -> Qat:
        """The row. Raises: UnknownName: the catalogue has none of this name."""
        return recipe(self.use) if self.row is None else from_table(self.row, where="[qat.row]")


class SplitSettings(Settings):
    """``[data.split]``: by patient, always."""

    use: Literal["holdout", "folds", "leave-one-site-out"] = Field("holdout", description="how patients are divided")
    shares: list[float] = Field([0.8, 0.1, 0.1], description="of holdout: patients to train, validate and test with")
    k: int = Field(5, ge=2, description="of folds: how many there are")
    fold: int = Field(0, ge=0, description="of folds: which one")
    site: str = Field("", description="of leave-one-site-out: the site that tests")
    seed: Seed = Field(2026, description="by which patients are dealt out")

    @model_validator(mode="after")
    def _meant(self) -> Self:
        """A setting of another way to divide says that this way is not meant."""
        others = {"shares": "holdout", "k": "folds", "fold": "folds", "site": "leave-one-site-out"}
        for name, use in others.items():
            if use != self.use and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is for use = {use!r}, and use is {self.use!r}")
        return self


class DataSettings(Settings):
    """``[data]``."""

    size: int | None = Field(None, ge=16, description="pixels along a side; as the slices come if absent")
    split: SplitSettings = Field(SplitSettings(), description="who trains, validates and tests")  # pyright: ignore[reportCallIssue]


class _Table(Settings):
    name: str = Field("", description="of the recipe")
    seed: Seed = Field(2026, description="of initial weights, order, augmentation, dropout and rounding")
    net: dict[str, Any] = Field(description="the net")
    qat: dict[str, Any] = Field({}, description="the arithmetic")
    data: dict[str, Any] = Field({}, description="size and split of the slices")
    training: dict[str, Any] = Field({}, description="the schedule")


@dataclass(frozen=True)
class TrainRecipe:
    """Everything that decides a run but the slices themselves and a teacher."""

    name: str
    seed: int
    net: NetSettings
    qat: Arithmetic
    data: DataSettings
    training: Training

    def to_table(self) -> dict[str, Any]:
        parts = {key: getattr(self, key).model_dump(exclude_none=True) for key in ("net", "qat", "data", "training")}
        return {"name": self.name, "seed": self.seed, **parts}

    def to_toml(self) -> str:
        """Complete: every setting with the value used."""
        return write_toml(self.to_table())

    @property
    def title(self) -> str:
        """Its name, or what it makes."""
        return self.name or f"{self.net.use} {self.net.size} {self.qat.qat().name}"

    @property
    def sha256(self) -> str:
        return sha256_of_json({key: value for key, value in self.to_table().items() if key != "name"})


def load_recipe(source: str | Path | dict[str, Any] | TrainRecipe) -> TrainRecipe:
    """A training recipe from a TOML file, a table of the same keys, or one itself.

    Raises: SettingsError: unreadable, an unknown key (nearest offered), a value outside its limits.
    """
    if isinstance(source, TrainRecipe):
        return source
    table = source if isinstance(source, dict) else read_toml(source)
    where = "recipe" if isinstance(source, dict) else Path(source).name
    if "step" in table:
        raise SettingsError(
            f"{where}: it has [[step]] tables, so it is for `netweight compress`; training needs [net] and [training]"
        )
    if "axes" in table:
        raise SettingsError(
            f"{where}: it has [axes], so it is for `netweight study`; training takes one net and one arithmetic"
        )
    read = parse(_Table, table, where)
    beside = None if isinstance(source, dict) else Path(source).parent
    name = read.name or ("" if isinstance(source, dict) else Path(source).stem)
    slices = dict(read.data)
    if isinstance(slices.get("split"), dict):
        slices["split"] = parse(SplitSettings, slices["split"], f"{where}: [data.split]")
    return TrainRecipe(
        name,
        read.seed,
        parse(NetSettings, read.net, f"{where}: [net]"),
        _arithmetic(parse(Arithmetic, read.qat, f"{where}: [qat]"), beside),
        parse(DataSettings, slices, f"{where}: [data]"),
        parse(Training, read.training, f"{where}: [training]"),
    )


def _arithmetic(given: Arithmetic, beside: Path | None) -> Arithmetic:
    """With the row in full where a file or a table holds it: files change, and a recipe is all that decides a run.

    Args:
      beside: the recipe's own folder, where a file is looked for first.
    """
    if given.row is None and not given.use.endswith(".toml"):
        return given
    if given.row is not None and given.use not in ("baseline", given.row.get("name")):
        raise SettingsError(f"[qat] has use = {given.use!r} and a row of its own; leave one of them out")
    file = given.use if beside is None or not (beside / given.use).is_file() else beside / given.use
    qat = recipe(file) if given.row is None else given.qat()
    return given.model_copy(update={"use": qat.name, "row": to_table(qat)})


def divided(slices: Segmentation, settings: SplitSettings) -> Split:
    """The split that the settings ask for. Raises: SettingsError: no such fold or site; DataError: as ``data.folds``."""
    if settings.use == "holdout":
        return data.holdout(slices, tuple(settings.shares), seed=settings.seed)
    if settings.use == "folds":
        if settings.fold >= settings.k:
            raise SettingsError(f"fold = {settings.fold}: folds are numbered 0 to {settings.k - 1}")
        return data.folds(slices, settings.k, seed=settings.seed)[settings.fold]
    sites = sorted({*slices.sites} - {""})
    if not sites:
        raise SettingsError(f"site = {settings.site!r}: these slices name no site; use holdout or folds")
    if settings.site not in sites:
        raise SettingsError(f"site = {settings.site!r}: the slices are from {', '.join(sites)}")
    return data.leave_one_site_out(slices, seed=settings.seed, sites=[settings.site])[0]
