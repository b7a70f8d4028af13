"""The reference pages name what there is, with the defaults that it has, and links that lead somewhere."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import paho.mqtt.client as paho
import pytest

import gateway
from gateway import BlockingClient, Broker, Client, Network, Outcome, Tls, Will
from gateway.client.checks import Number, OneOf
from gateway.client.options import ClientOptions
from gateway.uplink.profiles import PROFILES

ROOT = Path(__file__).resolve().parents[1]
MQTT = (ROOT / "docs" / "reference" / "mqtt.md").read_text()
CLIENT = (ROOT / "docs" / "reference" / "client.md").read_text()
TUTORIAL = (ROOT / "docs" / "tutorial" / "python-client.md").read_text()
KINDS: dict[str, Any] = {"": ClientOptions, "Broker": Broker, "Tls": Tls, "Network": Network, "Will": Will}
ROWS = [
    "MQTT 3.1, 3.1.1, 5.0",
    "last will",
    "TLS",
    "automatic reconnect",
    "offline buffering",
    "message persistence",
    "WebSocket",
    "TCP",
    "blocking API",
    "non-blocking API",
    "high availability",
    "life cycle and events",
    "broker profiles",
    "poison",
]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))


def rows(text: str, head: str) -> list[list[str]]:
    """Return the cells of the table whose head begins so."""
    _, found, table = text.partition(f"| {head} |")
    assert found, head
    lines = table.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def coded(cell: str) -> list[str]:
    """Return what is in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def defaults() -> Iterator[tuple[str, Any]]:
    """Yield each option under the name that it has in the pages, and its default; MISSING where there is none."""
    for kind, made in KINDS.items():
        for one in fields(made):
            default = one.default if one.default_factory is MISSING else one.default_factory()
            yield f"{kind}.{one.name}" if kind else one.name, default


def test_every_row_of_the_matrix_is_there() -> None:
    """The table has a row for each of the matrix, each with a test that exists and is named after it."""
    found = rows(MQTT, "row")
    assert [row[0] for row in found] == ROWS
    for name, meaning, _, shown in found:
        assert meaning, name
        assert "test_" in shown, name


def test_every_option_is_there_with_its_default() -> None:
    """Options in the table exist and have the default that is written; none is left out."""
    known = dict(defaults())
    written = {}
    for _, _, options, _ in rows(MQTT, "row"):
        for option in coded(options):
            name, _, value = option.partition("=")
            assert name in known, option
            assert ast.literal_eval(value) == known[name], option
            assert type(ast.literal_eval(value)) is type(known[name]), option
            written[name] = value
    assert {name for name, default in known.items() if default is not MISSING} == set(written)
    assert all(f"`{name}`" in MQTT for name, default in known.items() if default is MISSING)


def test_every_argument_has_its_default_and_bounds() -> None:
    """The list of arguments is that of both faces, in their order, with the bounds that are checked."""
    hints = get_type_hints(ClientOptions, include_extras=True)
    known = {one.name: one.default for one in fields(ClientOptions)}
    written = [(name, row) for row in rows(CLIENT, "argument") for name in coded(row[0])]
    assert {name for name, _ in written} == set(known)
    for name, (_, default, bounds, _) in written:
        assert default == (f"`{known[name]!r}`".replace("'", '"') if known[name] is not MISSING else ""), name
        check = get_args(hints[name])[1] if get_origin(hints[name]) is Annotated else None
        if isinstance(check, Number) and name != "failback":
            low, high = f"{check.low:g}", check.high
            assert bounds in (f"{low} to {high:.10g}" if high is not None else "", f"from {low}"), name
        if isinstance(check, OneOf) and name != "profile":
            assert bounds == ", ".join(f'"{word}"' for word in check.words), name


def test_methods_outcomes_and_errors_exist() -> None:
    """Every method is one of both faces, every error is what it is said to be, and no outcome is left out."""
    for method, _ in rows(CLIENT, "method"):
        for name in (one.partition("(")[0] for one in coded(method)):
            assert hasattr(Client, name), name
            assert hasattr(BlockingClient, name) or name in ("events", "hold")
    assert [coded(row[0])[0] for row in rows(CLIENT, "outcome")] == list(Outcome)
    for error, parents, _ in rows(CLIENT, "error"):
        made = getattr(gateway, coded(error)[0])
        for parent in coded(parents):
            assert issubclass(made, getattr(gateway, parent, None) or getattr(builtins, parent))


def test_every_profile_is_named() -> None:
    """Whoever looks for a broker finds its profile."""
    assert all(f"`{name}`" in MQTT for name in PROFILES if name != "generic")


def test_what_comes_from_paho_exists_there_and_here() -> None:
    """In the table of equivalents, names on the left are paho-mqtt's, and those on the right are ours."""
    known = {name for name, _ in defaults()} | set(dir(BlockingClient)) | set(gateway.__all__)
    for theirs, ours in rows(TUTORIAL, "paho-mqtt"):
        for name in (re.split(r"\W", one.removeprefix("info."))[0] for one in coded(theirs)):
            assert any(hasattr(kind, name) for kind in (paho.Client, paho.MQTTMessageInfo, paho)), name
        for name in (re.split(r"[^\w]", one)[0] for one in coded(ours)):
            assert name in known | {"with", "for", "delivery", "mqtts", ""}, name


@pytest.mark.parametrize("name", PAGES)
def test_no_link_leads_nowhere(name: str) -> None:
    """Every relative link of a page is a file of the repository, and a heading where it names one."""
    path = ROOT / name
    for target, _, heading in re.findall(r"\]\((?!https?:)([^)#]*)(#([^)]*))?\)", path.read_text()):
        found = path.parent / target if target else path
        assert found.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings], heading
