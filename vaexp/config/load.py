"""Load the Config that a name and KEY=VALUE overrides describe."""

import os
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from vaexp.config.complaints import checked
from vaexp.config.document import Location, Source, brief, read_document, read_file, read_stdin
from vaexp.config.experiments import EXPERIMENTS, Config
from vaexp.config.overrides import apply_override, remove_overruled
from vaexp.config.shipped import shipped_configs, shipped_sweeps
from vaexp.errors import UserError
from vaexp.paths import expanded


def load_config(config: str, overrides: Sequence[str] = ()) -> Config:
    """Read CONFIG (a YAML path, a shipped config's name, a run folder or -) and apply overrides.

    Raises UserError with one ``file:line:column: key: message`` line for each thing wrong.
    """
    return read_config(config, overrides)[0]


def load_text(text: str, path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read the text of a run's config, which stands in ``path``. Raises UserError likewise."""
    source = read_document(text, path, quick=True)
    return resolve(source, {apply_override(source, override) for override in overrides})[0]


def read_config(config: str, overrides: Sequence[str] = ()) -> tuple[Config, list[str]]:
    """The config, as ``load_config`` reads it, and notes on what its reader might not expect."""
    if config == "-":
        source, notes = read_stdin(), list[str]()
    else:
        path, notes = find_config(config)
        source = read_file(path)
    settings, more = resolve(source, {apply_override(source, override) for override in overrides})
    return settings, notes + more


def resolve(source: Source, overridden: set[Location]) -> tuple[Config, list[str]]:
    """The config that a document describes, in which the locations ``overridden`` were set last.

    Also returns notes for its reader. Removes from the document what no longer applies then. Raises
    UserError as load_config does.
    """
    notes: list[str] = []
    experiment = _experiment(source)
    for key in [key for key, value in source.data.items() if value is None]:
        if experiment.below(key) is not None:  # a section whose keys are all commented out
            del source.data[key]
    removed = remove_overruled(source.data, overridden, experiment)
    if removed:
        notes.append(f"the overrides leave out what does not apply then: {', '.join(removed)}")
    source.data.setdefault("name", name_from(source.path))
    return checked(experiment, source), notes


def find_config(config: str) -> tuple[Path, list[str]]:
    """The YAML file that CONFIG names, and a note if it could have named another.

    Raises UserError if there is none.
    """
    if not config:
        raise UserError("which config? Its name is empty")
    path = expanded(config)
    shipped = shipped_configs()
    chosen = [f"{config} is the one here, not the shipped config"] if config in shipped else []
    # os.path, as its functions are False where Path's raise, for a name no file system takes
    if os.path.isfile(path / "config.yaml"):
        return path / "config.yaml", chosen
    is_folder = os.path.isdir(path)
    if os.path.exists(path) and not is_folder:
        return path, chosen
    if config in shipped:
        files = [name for name in (f"{config}.yaml", f"{config}.yml") if os.path.isfile(name)]
        return shipped[config], [f"{config} is the shipped config, not ./{name}" for name in files]
    if is_folder:
        raise UserError(f"{config}: is a directory without a config.yaml, not a run folder")
    kinds = dict.fromkeys(shipped_sweeps(), "sweep") | dict.fromkeys(shipped, "config")
    close = get_close_matches(config, kinds, n=1) or get_close_matches(path.stem, kinds, n=1)
    hint = f"; did you mean the shipped {kinds[close[0]]} {close[0]}?" if close else ""
    raise UserError(f"{config}: no such file, run folder or shipped config{hint}")


def _experiment(source: Source) -> type[Config]:
    """The type that the document's model.kind asks for. Raises UserError if it asks for none."""
    model = source.data.get("model", "")
    if model is None:
        model = {}
    if not isinstance(model, dict):
        return EXPERIMENTS["vae"]  # Its validation says what is missing.
    if "kind" not in model:
        place = source.at(("model", "kind"))
        raise UserError(f"{place}: model.kind: this key is required: {', '.join(EXPERIMENTS)}")
    kind = model["kind"]
    if not isinstance(kind, str) or kind not in EXPERIMENTS:
        place, kinds = source.at(("model", "kind")), " or ".join(map(repr, EXPERIMENTS))
        raise UserError(f"{place}: model.kind: should be {kinds}, got {brief(kind)}")
    return EXPERIMENTS[kind]


def name_from(path: Path) -> str:
    """The name of a file as a part of the name of a run folder."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")
    return name[:64] or "run"
