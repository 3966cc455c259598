"""The base of all sections of a config: strict, frozen, and clear on which of its keys apply.

The docstring under each field of a section is its documentation, in ``vaexp schema`` and so in
editors.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from vaexp.config.rules import Rule, as_schema, at_most_one


def problem(message: str, *key: str) -> PydanticCustomError:
    """An error that the loader places at ``key`` below the section that raises it."""
    return PydanticCustomError("config", "{message}", {"message": message, "key": key})


def problems(found: Iterable[PydanticCustomError]) -> ValidationError:
    """Several such errors of one section, for its validator to raise together."""
    return ValidationError.from_exception_data(
        "section", [InitErrorDetails(type=one, input=None) for one in found]
    )


@dataclass(frozen=True)
class Condition:
    """Keys that apply only while another key, their decider, has a value that suits them."""

    keys: tuple[str, ...]
    """The keys that do not always apply."""
    decider: str
    """The other key, with dots where it stands in a section below."""
    suits: Callable[[object], bool]
    """Whether the keys apply at this value of the decider."""
    otherwise: str
    """The text after 'does not apply' in a message, where {value} is the value of the decider."""
    examples: tuple[object, ...] = ()
    """Values that do not suit, of a decider whose possible values are too many to be listed."""


def only_when(keys: tuple[str, ...], decider: str, *values: str) -> Condition:
    """The condition that ``keys`` apply only when ``decider`` has one of ``values``."""
    otherwise = f"when {decider} is {{value}}, only when it is {' or '.join(values)}"
    return Condition(keys, decider, lambda value: value in values, otherwise)


def one_of(table: Mapping[str, object]) -> tuple[AfterValidator, WithJsonSchema]:
    """The annotations of a ``str`` key whose value must be one of the names in ``table``."""

    def check(name: str) -> str:
        if name not in table:
            *most, last = map(repr, table)
            names = f"{', '.join(most)} or {last}" if most else last
            message = f"Input should be {names}"
            raise PydanticCustomError("literal_error", "{message}", {"message": message})
        return name

    return AfterValidator(check), WithJsonSchema({"enum": [*table], "type": "string"})


class Section(BaseModel):
    """A mapping in a config. Unknown keys, conversions of types, NaN and infinity are refused."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    conditions: ClassVar[tuple[Condition, ...]] = ()
    """When which keys apply. Where several conditions name a key, all of them must hold. A key that
    does not apply is an error in a file, and is left out where the section is written."""
    alternatives: ClassVar[tuple[frozenset[str], ...]] = ()
    """Sets of keys of which a config has one. An override of one replaces the others."""

    @classmethod
    def below(cls, key: str) -> "type[Section] | None":
        """The type of the section that stands at ``key``; None if there is none."""
        field = cls.model_fields.get(key)
        annotation = None if field is None else field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            return annotation
        return None

    @classmethod
    def rules(cls) -> list[Rule]:
        """Further conditions between keys that the schema for editors knows.

        The validators of the section check them too, with messages of their own.
        """
        return []

    @classmethod
    def default_at(cls, key: str) -> Any:
        """The default of a dotted key of this section or of one below."""
        first, dot, rest = key.partition(".")
        section = cls.below(first)
        return section.default_at(rest) if dot and section else cls.model_fields[first].default

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The JSON Schema of the section, with the conditions between its keys."""
        reference = handler(core)
        schema = handler.resolve_ref_schema(reference)
        every = cls.rules()
        for condition in cls.conditions:
            decider = schema
            for part in condition.decider.split("."):
                decider = handler.resolve_ref_schema(decider["properties"][part])
            values = [*decider.get("enum", ()), *condition.examples]
            unsuited = [value for value in values if not condition.suits(value)]
            every += [
                Rule(condition.decider, {"enum": unsuited}, key, False) for key in condition.keys
            ]
        defaults = [(cls.default_at(rule.key), cls.default_at(rule.other)) for rule in every]
        found = [as_schema(rule, *pair) for rule, pair in zip(every, defaults, strict=True)]
        for keys in cls.alternatives:
            found += at_most_one({key: cls.default_at(key) for key in keys})
        if found:
            schema["allOf"] = found
        return reference

    @classmethod
    def choices(cls, key: str) -> list[str]:
        """The values of a key as they are written, where its type lists them; else nothing."""
        field = cls.model_fields[key]
        if field.annotation is bool:
            return ["true", "false"]
        listed = [
            one.json_schema["enum"]
            for one in field.metadata
            if isinstance(one, WithJsonSchema) and one.json_schema is not None
        ]
        literal = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        return [str(value) for value in (*literal, *(value for one in listed for value in one))]

    @classmethod
    def dotted_keys(cls) -> Iterator[str]:
        """Every key of this section and of those below it, as overrides write them."""
        for key in cls.model_fields:
            yield key
            section = cls.below(key)
            if section is not None:
                yield from (f"{key}.{inner}" for inner in section.dotted_keys())

    def _inapplicable(self) -> dict[str, str]:
        """The keys that do not apply, and why each of them does not."""
        reasons: dict[str, str] = {}
        for condition in self.conditions:
            value = attrgetter(condition.decider)(self)
            if not condition.suits(value):
                for key in condition.keys:
                    reasons.setdefault(key, condition.otherwise.format(value=value))
        return reasons

    @model_validator(mode="after")
    def _reject_inapplicable(self) -> Self:
        inapplicable = self._inapplicable()
        for key, why in inapplicable.items():
            if key in self.model_fields_set:
                valid = [name for name in type(self).model_fields if name not in inapplicable]
                section = getattr(self, key)
                inner = sorted(section.model_fields_set) if isinstance(section, Section) else []
                raise problem(
                    f"does not apply {why}; the keys that apply here: {', '.join(valid)}",
                    *[key, *inner[:1]],
                )
        return self

    @model_serializer(mode="wrap")
    def _drop_inapplicable(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        inapplicable = self._inapplicable()
        return {key: value for key, value in serialize(self).items() if key not in inapplicable}
