"""From YAML text and KEY=VALUE overrides to a Config, every complaint placed where it belongs."""

import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from vaexp.config.schema import EXPERIMENTS, Config, Section
from vaexp.config.shipped import shipped_configs
from vaexp.errors import UserError

Location = tuple[str | int, ...]

MAX_DEPTH = 16  # no config nests deeper; stops documents that contain themselves
MAX_NODES = 10_000  # nor is any larger; stops aliases of aliases of aliases


@dataclass
class Source:
    """A parsed document and where in it, or on the command line, each key and value stands."""

    path: Path
    data: dict[str, Any]
    keys: dict[Location, str] = field(default_factory=dict)
    values: dict[Location, str] = field(default_factory=dict)

    def at(self, location: Location, *, key: bool = False) -> str:
        """``file:line:column`` (or the override) of a location, or of its nearest parent."""
        while location:
            if key and location in self.keys:
                return self.keys[location]
            if location in self.values:
                return self.values[location]
            location, key = location[:-1], True
        return f"{self.path}:1:1"


def load_config(config: str, overrides: Sequence[str] = ()) -> Config:
    """Read CONFIG (a YAML path, a shipped config's name or a run folder) and apply overrides.

    Raises UserError with one ``file:line:column: key: message`` line for each thing wrong.
    """
    source = _parse(find_config(config))
    overridden = {_apply_override(source, override) for override in overrides}
    experiment = _experiment(source)
    _make_way(source.data, overridden, experiment)
    source.data.setdefault("name", _name_from(source.path))
    try:
        return experiment.model_validate(source.data)
    except ValidationError as error:
        every = error.errors(include_url=False)
        lines = [_explain(source, details, experiment) for details in every]
        raise UserError("\n".join(lines)) from None


def _experiment(source: Source) -> type[Config]:
    """The type that the document's model.kind asks for. Raises UserError if it asks for none."""
    model = source.data.get("model")
    if not isinstance(model, dict):
        return EXPERIMENTS["vae"]  # whose validation says what is missing
    if "kind" not in model:
        place = source.at(("model", "kind"))
        raise UserError(f"{place}: model.kind: this key is required: {', '.join(EXPERIMENTS)}")
    kind = model["kind"]
    if not isinstance(kind, str) or kind not in EXPERIMENTS:
        place, kinds = source.at(("model", "kind")), " or ".join(map(repr, EXPERIMENTS))
        raise UserError(f"{place}: model.kind: should be {kinds}, got {_shown(kind)}")
    return EXPERIMENTS[kind]


def find_config(config: str) -> Path:
    """The YAML file that CONFIG names. Raises UserError if there is none."""
    if not config:
        raise UserError("which config? Its name is empty")
    path = Path(config)
    # os.path, as its functions are False where Path's raise, for a name no file system takes
    if os.path.isfile(path / "config.yaml"):
        return path / "config.yaml"
    shipped = shipped_configs()
    is_folder = os.path.isdir(config)
    if os.path.exists(config) and not is_folder:
        return path
    if config in shipped:
        return shipped[config]
    if is_folder:
        raise UserError(f"{config}: is a directory without a config.yaml, not a run folder")
    close = get_close_matches(path.stem, shipped, n=1)
    hint = f"; did you mean the shipped config {close[0]}?" if close else ""
    raise UserError(f"{config}: no such file, run folder or shipped config{hint}")


def dump(config: Config) -> str:
    """The resolved config as YAML; ``load_config`` reads the same Config back."""
    yaml = YAML()
    yaml.representer.add_representer(
        list,
        lambda representer, items: representer.represent_sequence(
            "tag:yaml.org,2002:seq", items, flow_style=True
        ),
    )
    yaml.representer.add_representer(
        type(None),
        lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null"),
    )
    out = io.StringIO()
    yaml.dump(config.model_dump(), out)
    return out.getvalue()


def digest(config: Config) -> str:
    """SHA-256 of the resolved config, whatever the order and layout of the file it came from."""
    text = json.dumps(config.model_dump(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping with dotted keys, the form that overrides are written in."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def differing(settings: Sequence[dict[str, Any]]) -> list[str]:
    """The dotted keys in which flattened configs differ.

    A key that only some have is no difference: the one that decides whether it applies is.
    """
    keys = dict.fromkeys(key for flat in settings for key in flat)
    return [key for key in keys if len({repr(flat[key]) for flat in settings if key in flat}) > 1]


def _name_from(path: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")
    return name[:64] or "run"


def _parse(path: Path) -> Source:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}:1:1: not a text file in UTF-8, so not YAML") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    source = Source(path, {})
    data = _read(text, source)
    if data is None:
        raise UserError(
            f"{path}:1:1: the file is empty; the smallest config is model: {{kind: vae}}"
        )
    if not isinstance(data, dict):
        raise UserError(f"{path}:1:1: expected keys and values, such as model: {{kind: vae}}")
    source.data = data
    return source


def _read(text: str, source: Source) -> Any:
    """The document's value, each part's place noted in ``source``. Raises UserError if not YAML."""
    yaml = YAML(typ="safe", pure=True)
    where = str(source.path)
    try:
        node: Node | None = yaml.compose(text)
        return None if node is None else _build(node, (), source, yaml)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        raise UserError(f"{place}: not valid YAML: {error.problem or error.context}") from None
    except ReaderError as error:
        raise UserError(f"{where}:1:1: not valid YAML: {error.reason}") from None
    except (YAMLError, RecursionError) as error:
        raise UserError(f"{where}:1:1: not valid YAML: {error}") from None


def _build(node: Node, location: Location, source: Source, yaml: YAML) -> Any:
    """The node's value, by the scalar rules of YAML 1.2; raises UserError for a duplicate key."""

    def place(node: Node) -> str:
        return f"{source.path}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"

    source.values[location] = place(node)
    if len(location) > MAX_DEPTH:
        raise UserError(f"{place(node)}: nested too deeply")
    if len(source.values) > MAX_NODES:
        raise UserError(f"{place(node)}: too large for a config, its aliases written out")
    if isinstance(node, MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, ScalarNode):
                raise UserError(f"{place(key_node)}: a key must be a word")
            if key in mapping:
                first = source.keys[(*location, key)]
                raise UserError(f"{place(key_node)}: duplicate key '{key}', first at {first}")
            source.keys[(*location, key)] = place(key_node)
            mapping[key] = _build(value_node, (*location, key), source, yaml)
            if value_node.start_mark.index == value_node.end_mark.index:  # nothing is written there
                source.values[(*location, key)] = place(key_node)
        return mapping
    if isinstance(node, SequenceNode):
        return [_build(item, (*location, i), source, yaml) for i, item in enumerate(node.value)]
    if node.tag == "tag:yaml.org,2002:timestamp":  # YAML 1.2 has none: a string
        return node.value
    try:
        return yaml.constructor.construct_object(node)
    except (YAMLError, ValueError) as error:
        raise UserError(f"{place(node)}: {getattr(error, 'problem', None) or error}") from None


def _make_way(data: dict[str, Any], overridden: set[Location], experiment: type[Config]) -> None:
    """Drop from the file what an override leaves without a meaning, so that it need not be edited.

    Overriding model.likelihood drops the file's sigma_mode, say, train.steps its epochs, and
    model.kind all that the other kind has not; what is itself overridden stays, and is complained
    about.
    """
    another_kind = ("model", "kind") in overridden
    for name, values in list(data.items()):
        section = _section(experiment, name)
        if section is None:
            if name in experiment.model_fields:
                continue
            known_elsewhere = any(name in other.model_fields for other in EXPERIMENTS.values())
            if another_kind and known_elsewhere and not _touches(overridden, (name,)):
                del data[name]
            continue
        if not isinstance(values, dict):
            continue
        for key in list(values):
            unknown = another_kind and key not in section.model_fields
            decider, valid = section.applies.get(key, ("", ()))
            decided = (name, decider) in overridden and values.get(decider) not in valid
            if (unknown or decided) and not _touches(overridden, (name, key)):
                del values[key]
    linear = ("model", "hidden") in overridden and data["model"]["hidden"] == []
    if linear and ("model", "activation") not in overridden:
        data["model"].pop("activation", None)
    closed = ("model", "method") in overridden and data["model"]["method"] == "closed_form"
    if closed and isinstance(data.get("train"), dict):
        data["train"] = {
            key: data["train"][key]
            for (_, key) in sorted(
                known for known in overridden if known[:1] == ("train",) and len(known) == 2
            )
        }
        if not data["train"]:
            del data["train"]
    for key, other in (("steps", "epochs"), ("epochs", "steps")):
        if ("train", key) in overridden and ("train", other) not in overridden:
            data["train"].pop(other, None)


def _section(section: type[Section], name: str) -> type[Section] | None:
    """The type of the section ``name`` below another; None if there is none."""
    field = section.model_fields.get(name)
    annotation = None if field is None else field.annotation
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return None


def _touches(overridden: set[Location], location: Location) -> bool:
    """Whether an override sets this key or one below it."""
    return any(known[: len(location)] == location for known in overridden)


def _apply_override(source: Source, override: str) -> Location:
    """Set one key; returns its location."""
    key, equals, text = override.partition("=")
    where = f"override {override}"
    parts = key.split(".")
    if not equals or not all(parts):
        raise UserError(f"{where}: write it as KEY=VALUE, such as model.beta=4")
    value = text if key == "name" else _read(text, Source(Path(where), {}))
    target = source.data
    for depth, part in enumerate(parts[:-1], start=1):
        if target.get(part) is None:
            target[part] = {}
            created: Location = tuple(parts[:depth])
            source.keys[created] = source.values[created] = where
        target = target[part]
        if not isinstance(target, dict):
            raise UserError(f"{where}: {'.'.join(parts[:depth])} is a value, not a section")
    target[parts[-1]] = value
    location: Location = tuple(parts)
    for places in (source.keys, source.values):
        for stale in [known for known in places if known[: len(location)] == location]:
            del places[stale]
        places[location] = where
    return location


def _explain(source: Source, details: ErrorDetails, experiment: type[Config]) -> str:
    context = details.get("ctx", {})
    location: Location = (*details["loc"], *context.get("key", ()))
    kind = details["type"]
    is_key = kind in ("extra_forbidden", "missing")
    if kind == "extra_forbidden":
        message = _unknown_key(location, experiment)
    elif kind == "missing":
        message = "this key is required"
    elif kind == "config":
        message = details["msg"]
    elif kind in ("model_type", "model_attributes_type"):
        message = f"expected keys and values, got {_shown(details['input'])}"
    else:
        message = details["msg"].replace("Input should", "should", 1)
        message += f", got {_shown(details['input'])}"
    name = ".".join(str(part) for part in location)
    return f"{source.at(location, key=is_key)}: {name}: {message}"


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _unknown_key(location: Location, experiment: type[Config]) -> str:
    *parents, key = map(str, location)
    section: type[Section] = experiment
    for part in parents:
        section = _section(section, part) or section
    known = list(section.model_fields)
    close = get_close_matches(key, known, n=1)
    all_keys = list(_all_keys(experiment))
    elsewhere = [path for path in all_keys if path.endswith(f".{key}")]
    kinds = [
        kind for kind, other in EXPERIMENTS.items() if ".".join([*parents, key]) in _all_keys(other)
    ]
    if kinds:
        this = next(kind for kind, other in EXPERIMENTS.items() if other is experiment)
        return (
            f"does not apply when model.kind is {this}, only when it is {' or '.join(kinds)}; the "
            f"keys that apply here: {', '.join(known)}"
        )
    if close or elsewhere:
        return f"unknown key; did you mean {(close or elsewhere)[0]}?"
    return f"unknown key; the keys here are {', '.join(known)}"


def _all_keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    for name in section.model_fields:
        yield prefix + name
        below = _section(section, name)
        if below is not None:
            yield from _all_keys(below, f"{prefix}{name}.")
