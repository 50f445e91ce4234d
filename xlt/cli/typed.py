"""Functions as commands of typer: each option is a parameter with its type, its help, and perhaps a check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from xlt.cli.output import until_nobody_reads

# What stands for a value in help; a text is called as its option, and of a choice typer lists the names.
IN_WORDS = "Default: "  # in a help text: what an option stands for that is not given
NUMBERS = (int, float, int | None, float | None)
METAVARS: dict[object, str] = {
    **dict.fromkeys((int, int | None), "N"),
    **dict.fromkeys((float, float | None), "X"),
    **dict.fromkeys((Path, Path | None, list[Path] | None), "DIR"),
}
TEXTS = (str, list[str], list[str] | None)


def _common(
    json: Annotated[bool, "Print exactly one JSON document on standard output."] = False,
    debug: Annotated[bool, "Show the traceback of an error."] = False,
) -> None:
    """The options of every command. ``xlt.cli.app`` reads them before typer does: usage errors obey them too."""


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A command as typer wants it: every field of its option groups is an option, and --json and --debug are added."""
    own = _parameters(function)
    groups: dict[str, Any] = {each.name: each.annotation for each in own if is_dataclass(each.annotation)}
    flat = [option for each in own for option in (_parameters(groups[each.name]) if each.name in groups else [each])]
    unsaid = {each.name: each.default for each in flat if _says_zero_in_words(each)}

    @wraps(function)
    def typed(*, json: bool, debug: bool, **values: Any) -> None:
        values |= {name: default for name, default in unsaid.items() if values[name] is None}
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        with until_nobody_reads():
            function(**values)

    # typer looks at the signature alone.
    typed.__signature__ = Signature(list(map(_typer_option, [*flat, *_parameters(_common)])))  # type: ignore[attr-defined]
    return typed


def _parameters(function: Callable[..., Any]) -> list[Parameter]:
    return list(signature(function, eval_str=True).parameters.values())


def _says_zero_in_words(parameter: Parameter) -> bool:
    """Whether an option is zero where it is not given, and its help says in words what that stands for.

    Such a zero is no value to give: ``--limit 0`` would read every row.
    """
    kind, about, *_ = get_args(parameter.annotation)
    return kind in (int, float) and parameter.default == 0 and isinstance(about, str) and IN_WORDS in about


def _above_zero(value: float | None) -> float | None:
    if value == 0:
        raise typer.BadParameter("Input should be greater than 0; left out, it is what the help says.")
    return value


def _typer_option(parameter: Parameter) -> Parameter:
    kind, about, *check = get_args(parameter.annotation)
    if isinstance(about, str):
        default = None if parameter.default is Parameter.empty else parameter.default
        least = 1 if default else 0
        if _says_zero_in_words(parameter):
            parameter, least = parameter.replace(default=None), 1 if kind is int else 0
            kind, check = kind | None, [_above_zero]
        about = typer.Option(
            f"--{parameter.name.replace('_', '-')}",
            help=about,
            metavar=parameter.name.upper() if kind in TEXTS else METAVARS.get(kind),
            min=least if kind in NUMBERS else None,
            show_default=bool(default),  # a default of nothing is told in words
            callback=check[0] if check else None,
        )
    # By keyword only: else no required option could stand after another.
    return parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=Annotated[kind, about])
