"""Read YAML text as values whose places are known, and write values as YAML text.

PyYAML parses the text. What a plain scalar means is decided here, by the core schema of YAML 1.2.
PyYAML itself follows YAML 1.1, in which ``1e-3`` is a string, ``on`` is true and 1:30 is 90.
"""

import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer, ComposerError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError
from yaml.resolver import Resolver

from vaexp.errors import UserError
from vaexp.paths import LINK_INSTEAD

Location = tuple[str | int, ...]

STDIN = Path("<stdin>")

MAX_DEPTH = 16  # No config nests deeper. This stops documents that contain themselves.
MAX_NODES = 2_000  # No config is larger. This stops aliases of aliases of aliases.
MAX_BYTES = 256 * 1024  # Nor is its file. This stops data that were given for a config.
MAX_DIGITS = 400  # Nor is a number in it, and Python takes minutes for one of a million digits.

_TAG = "tag:yaml.org,2002:"
# Each tag with the plain scalars that have it and the characters that these begin with. The first
# tag that fits counts. Beyond YAML 1.2, digits may be grouped by underscores, and 0b11 and -0x1F
# are integers.
_SCALARS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    (
        "int",
        r"[-+]?(0b[01][01_]*|0o[0-7][0-7_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|[0-9][0-9_]*)",
        [*"-+0123456789"],
    ),
    (
        "float",
        r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        [*"-+.0123456789"],
    ),
)


class _Guarded(Composer):
    """Composes nodes as far as a config may go."""

    peek_event: Any  # of the parser
    nodes = 0
    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """The next node. An anchor may occur again, as in YAML 1.2; then the last one counts."""
        event = self.peek_event()
        if not isinstance(event, yaml.AliasEvent):
            self.anchors.pop(event.anchor, None)
        self.nodes += 1
        self.depth += 1
        if self.nodes > MAX_NODES:
            raise ComposerError(None, None, "too large for a config", event.start_mark)
        if self.depth > 2 * MAX_DEPTH:  # long before PyYAML gets slow
            raise ComposerError(None, None, "nested too deeply", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Loader(_Guarded, yaml.SafeLoader):
    """The parser of PyYAML with the scalars of YAML 1.2. No tag makes it create an object."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    """Writes YAML with quotes around strings that YAML 1.1 or 1.2 would take for other values."""


for _name, _pattern, _first in _SCALARS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _name, re.compile(rf"({_pattern})\Z"), _first)
_Dumper.add_representer(
    list, lambda dumper, items: dumper.represent_sequence(_TAG + "seq", items, flow_style=True)
)


try:
    from yaml._yaml import CParser
except ImportError:  # a PyYAML that was built without libyaml
    _Quick: Any = None
else:

    class _Quick(_Guarded, CParser, Resolver):  # type: ignore[no-redef]
        """The same with the scanner of libyaml, which takes an eighth of the time."""

        yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

        def __init__(self, stream: str) -> None:
            CParser.__init__(self, stream)
            Composer.__init__(self)
            Resolver.__init__(self)


@dataclass
class Source:
    """A parsed document, and the place of each key and value in it or on the command line."""

    path: Path
    data: dict[str, Any]
    keys: dict[Location, str] = field(default_factory=dict)
    values: dict[Location, str] = field(default_factory=dict)
    nodes: int = 0
    """How many nodes were read, each as often as an alias or a merge repeats it."""

    def at(self, location: Location, *, key: bool = False) -> str:
        """``file:line:column`` (or the override) of a location, or of its nearest parent."""
        while location:
            if key and location in self.keys:
                return self.keys[location]
            if location in self.values:
                return self.values[location]
            location, key = location[:-1], True
        return f"{self.path}:1:1"


def read_file(path: Path, *, quick: bool = False) -> Source:
    """The mapping in a YAML file. Raises UserError if there is none or it cannot be read.

    ``quick`` is that of ``read_document``.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    return _read_bytes(content, path, quick=quick)


def read_stdin() -> Source:
    """The mapping in YAML from stdin, which messages call <stdin>. Raises UserError likewise."""
    try:
        content = b"" if sys.stdin is None else sys.stdin.buffer.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{STDIN}: cannot be read: {error.strerror}") from None
    return _read_bytes(content, STDIN)


def _read_bytes(content: bytes, path: Path, *, quick: bool = False) -> Source:
    """The mapping in the bytes of a YAML file. Raises UserError as ``read_file``."""
    if len(content) > MAX_BYTES:
        raise UserError(f"{path}: larger than {MAX_BYTES // 1024} kB, so not a config")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise UserError(f"{path}:1:1: not a text file in UTF-8, so not YAML") from None
    return read_document(text, path, quick=quick)


def read_document(text: str, path: Path, *, quick: bool = False) -> Source:
    """The mapping in the text of a YAML file. Raises UserError if there is none.

    ``quick`` uses libyaml where it is there, for the many configs of a list of runs and for a first
    look at a file.
    """
    source = Source(path, {})
    data = read_text(text, source, quick=quick)
    if data is None:
        raise UserError(
            f"{path}:1:1: the file is empty; the smallest config is model: {{kind: vae}}"
        )
    if not isinstance(data, dict):
        raise UserError(f"{path}:1:1: expected keys and values, such as model: {{kind: vae}}")
    source.data = data
    return source


def read_text(text: str, source: Source, *, quick: bool = False) -> Any:
    """The value of a document, whose places are noted in ``source``. An empty text has None.

    Raises UserError if the text is not one YAML document, has a key twice, nests too deeply, or
    contains itself.
    """
    where = str(source.path)
    try:
        node = _composed(text, quick)
        return None if node is None else _value(node, (), source)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        reason = error.problem or error.context
        if isinstance(error, ComposerError) and error.context:  # half a sentence each
            reason = f"{error.context}, {error.problem}"
        raise UserError(f"{place}: not valid YAML: {reason}") from None
    except ReaderError as error:
        what = f"the character U+{error.character:04X} is not allowed"
        if 0xDC80 <= error.character <= 0xDCFF:  # Python's way to write such a byte of an argument
            what = f"the byte 0x{error.character - 0xDC00:X} is not UTF-8; {LINK_INSTEAD}"
        raise UserError(f"{where}:1:1: not valid YAML: {what}") from None
    except RecursionError:
        raise UserError(f"{where}:1:1: nested too deeply") from None


def _composed(text: str, quick: bool) -> Node | None:
    """The nodes of a document. What libyaml does not take, PyYAML explains better."""
    if quick and _Quick is not None:
        try:
            node: Node | None = yaml.compose(text, Loader=_Quick)
        except (yaml.YAMLError, ValueError, RecursionError):
            pass
        else:
            return node
    return yaml.compose(text, Loader=_Loader)


def read_override(text: str, where: str) -> Any:
    """The value in an override, in which a # begins no comment, as nobody would read it.

    Raises UserError if the text is not YAML, or # would cut off a part of it.
    """
    value = read_text(text, Source(Path(where), {}))
    if "#" not in text:
        return value
    node = yaml.compose(text, Loader=_Loader)
    rest = text if node is None else text[node.end_mark.index :]
    if not rest.strip():
        return value
    if node is None or (isinstance(node, ScalarNode) and node.style is None):
        return text
    raise UserError(f"{where}: what follows # would be lost; leave it out, or quote the whole")


def _value(node: Node, location: Location, source: Source) -> Any:
    """The value of a node: a scalar, list or mapping. Raises UserError for a duplicate key."""
    place = _place(node, source)
    source.values[location] = place
    source.nodes += 1
    if len(location) > MAX_DEPTH:
        raise UserError(f"{place}: nested too deeply")
    if source.nodes > MAX_NODES:
        raise UserError(f"{place}: too large for a config, its aliases written out")
    if isinstance(node, ScalarNode):
        try:
            return _scalar(node)
        except ValueError as error:
            raise UserError(f"{place}: {error}") from None
    if node.tag not in (_TAG + "map", _TAG + "seq"):
        raise UserError(f"{place}: {_unknown_tag(node.tag)}")
    if isinstance(node, SequenceNode):
        return [_value(item, (*location, i), source) for i, item in enumerate(node.value)]
    assert isinstance(node, MappingNode)
    return _mapping(node, location, source)


def _mapping(node: MappingNode, location: Location, source: Source) -> dict[str, Any]:
    """The value of a mapping. Raises UserError for a duplicate key or one that is no word."""
    merged = _merged(node, location, source)
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        place, key = _place(key_node, source), key_node.value
        if not isinstance(key_node, ScalarNode):
            raise UserError(f"{place}: a key must be a word")
        if _is_merge(key_node):
            continue
        if key in mapping:
            first = source.keys[(*location, key)]
            raise UserError(f"{place}: duplicate key '{short_text(key)}', first at {first}")
        source.keys[(*location, key)] = place
        mapping[key] = _value(value_node, (*location, key), source)
        if value_node.start_mark.index == value_node.end_mark.index:  # nothing is written there
            source.values[(*location, key)] = place
    return merged | mapping


def _is_merge(key: Node) -> bool:
    """Whether a key is the merge key of YAML 1.1, and not a word in quotes."""
    return isinstance(key, ScalarNode) and key.value == "<<" and key.style is None


def _merged(node: MappingNode, location: Location, source: Source) -> dict[str, Any]:
    """What the merge key of a mapping takes over from other mappings; the first of them counts.

    The places are those where the values are written. Keys of the mapping itself replace them.
    """
    place, merged = source.values[location], dict[str, Any]()
    merges = [pair for pair in node.value if _is_merge(pair[0])]
    for key, value in merges:
        others = value.value if isinstance(value, SequenceNode) else [value]
        if len(merges) > 1 or not all(isinstance(other, MappingNode) for other in others):
            raise UserError(
                f"{_place(key, source)}: <<: merges a section or a list of sections, and stands "
                "once in a section"
            )
        for other in reversed(others):
            merged |= _value(other, location, source)
    source.values[location] = place
    return merged


def _scalar(node: ScalarNode) -> Any:
    """The value of a scalar. Raises ValueError if a tag that is written out does not suit it."""
    text: str = node.value
    digits = text.replace("_", "").lower()
    kind = node.tag.removeprefix(_TAG)
    match kind:
        case "str":
            return text
        case "null":
            return None
        case "bool" if digits in ("true", "false"):
            return digits == "true"
        case "int" | "float":
            if len(digits) > MAX_DIGITS:
                raise ValueError(f"a number of {len(digits):,} digits is too long")
            try:
                return _number(kind, digits)
            except ValueError:
                raise ValueError(f"'{short_text(text)}' is no {kind}") from None
        case "bool":
            raise ValueError(f"'{short_text(text)}' is neither true nor false")
    raise ValueError(_unknown_tag(node.tag))


def _number(kind: str, digits: str) -> int | float:
    """The number that these digits are. Raises ValueError if they are none of this kind."""
    if kind == "float":
        return float(digits.replace(".inf", "inf").replace(".nan", "nan"))
    has_prefix = digits.lstrip("+-")[1:2].isalpha()
    return int(digits, 0 if has_prefix else 10)


def short_text(text: str) -> str:
    """The text on one line of at most 80 characters, without control characters."""
    return text if text.isprintable() and len(text) <= 80 else brief(text)[1:-1]


def brief(value: Any) -> str:
    """The value as a message shows it: in ASCII, at most 60 characters long."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _unknown_tag(tag: str) -> str:
    return f"the tag {short_text(tag.replace(_TAG, '!!'))} means nothing in a config"


def _place(node: Node, source: Source) -> str:
    """``file:line:column`` of a node."""
    return f"{source.path}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


def write_text(values: dict[str, Any]) -> str:
    """The values as YAML text, which readers of YAML 1.1 and of 1.2 understand alike."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
