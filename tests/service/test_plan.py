"""From one config to another: what is touched, what is not, and what has to wait. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Config, load
from gateway.service.plan import Changes, Plan, applied, plan, without

UPLINK = '[uplinks.cloud]\nbrokers = ["mqtt://b"]\n'
TANK = '[devices.tank]\nadapter = "simulator"\nsignals = { level = {} }\n'
CELLAR = TANK.replace("tank", "cellar")


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """Load a config of these lines, with an outbox of its own."""

    def make(text: str) -> Config:
        file = tmp_path / "gateway.toml"
        outbox = "" if "[outbox]" in text else '[outbox]\npath = "/o.db"\n'
        file.write_text(("" if "[gateway]" in text else '[gateway]\nid = "gw"\n') + outbox + text)
        return load(file)

    return make


CASES = [
    (UPLINK + TANK, UPLINK + TANK, Plan()),
    (UPLINK + TANK, UPLINK + CELLAR, Plan(Changes(added=("cellar",), removed=("tank",)))),
    (UPLINK + TANK, UPLINK + TANK + 'interval = "7s"\n', Plan(Changes(restarted=("tank",)))),
    (UPLINK + TANK, UPLINK + TANK + 'interval = "1s"\n', Plan()),
    (UPLINK + TANK, UPLINK + TANK + "enabled = false\n", Plan(Changes(removed=("tank",)))),
    (UPLINK + TANK + "enabled = false\n", UPLINK + CELLAR + "enabled = false\n", Plan()),
    (UPLINK + TANK + "enabled = false\n", UPLINK + TANK, Plan(Changes(added=("tank",)))),
    (UPLINK + TANK, UPLINK + TANK + 'priority = "high"\n', Plan(Changes(adjusted=("tank",)))),
    (UPLINK + TANK, UPLINK + TANK + "metrics.level.scale = 2.0\n", Plan(Changes(adjusted=("tank",)))),
    (UPLINK + TANK, UPLINK + TANK + 'computed.twice = "level * 2"\n', Plan(Changes(adjusted=("tank",)))),
    (UPLINK + TANK, UPLINK + TANK + 'metrics.level.window = "9s"\n', Plan(Changes(restarted=("tank",)))),
    (
        UPLINK + TANK + 'metrics.level.window = "9s"\n',
        UPLINK + TANK + 'metrics.level = { window = "9s", scale = 2.0 }\n',
        Plan(Changes(adjusted=("tank",))),
    ),
    (UPLINK, UPLINK + "window = 7\n", Plan(uplinks=Changes(restarted=("cloud",)))),
    (UPLINK, UPLINK + 'username = "a"\npassword = { env = "HOME" }\n', Plan(uplinks=Changes(restarted=("cloud",)))),
    (UPLINK, UPLINK.replace("cloud", "x"), Plan(uplinks=Changes(added=("x",), removed=("cloud",)))),
    (UPLINK, UPLINK + "qos = 0\n", Plan(uplinks=Changes(restarted=("cloud",)))),
    (
        UPLINK + TANK,
        UPLINK + 'devices = ["tank"]\nwindow = 7\n' + TANK,
        Plan(restart=("uplinks.cloud.devices", "uplinks.cloud.window"), held=("cloud",)),
    ),
    (UPLINK, UPLINK + "qos = 2\n", Plan(restart=("uplinks.cloud.qos",), held=("cloud",))),
    (
        UPLINK,
        UPLINK + UPLINK.replace("cloud", "x") + "qos = 2\n",
        Plan(restart=("uplinks.x",), held=("x",)),
    ),
    (
        UPLINK + "qos = 2\n",
        UPLINK + "qos = 2\n" + UPLINK.replace("cloud", "x") + "qos = 2\n",
        Plan(uplinks=Changes(added=("x",))),
    ),
    (UPLINK, UPLINK + '[commands]\nmax_age = "7s"\n', Plan(commands=("max_age",))),
    (UPLINK, UPLINK + '[outbox]\npath = "/p.db"\nmax_age = "1d"\n', Plan(restart=("outbox.path", "outbox.max_age"))),
    (UPLINK, '[gateway]\nid = "x"\n' + UPLINK, Plan(restart=("gateway.id",))),
]


@pytest.mark.parametrize(("old", "new", "wanted"), CASES)
def test_a_plan_has_what_differs_and_nothing_else(config: Any, old: str, new: str, wanted: Plan) -> None:
    """What is written in another way is the same; what only a restart applies is named, and left as it was."""
    before, after = config(old), config(new)
    found = plan(before, after)
    assert found == wanted
    now = applied(before, after, found)
    assert plan(now, after) == Plan(restart=wanted.restart, held=wanted.held), "nothing is left but what has to wait"


@given(st.data())
def test_what_is_applied_is_what_a_start_would_have(data: st.DataObject) -> None:
    """Over any number of changes: devices and uplinks are those of the newest config, but for what has to wait."""
    devices = {f"d{n}": f'[devices.d{n}]\nadapter = "simulator"\nsignals = {{ level = {{}} }}\n' for n in range(4)}
    keys = st.sampled_from(["", "enabled = false\n", 'interval = "7s"\n', 'priority = "high"\n'])
    texts = st.dictionaries(st.sampled_from(sorted(devices)), keys, max_size=4)
    running: dict[str, str] = {}
    now: Config | None = None
    for wanted in data.draw(st.lists(texts, min_size=2, max_size=5)):
        new = _loaded(UPLINK + "".join(devices[name] + more for name, more in wanted.items()))
        enabled = {name: more for name, more in wanted.items() if "enabled" not in more}
        if now is not None:
            found = plan(now, new)
            running = {name: more for name, more in running.items() if name not in found.devices.removed}
            changed = (*found.devices.added, *found.devices.restarted, *found.devices.adjusted)
            running |= {name: enabled[name] for name in changed}
            assert running == enabled
            assert len(set(changed)) == len(changed)
            now = applied(now, new, found)
        else:
            now, running = new, enabled


def _loaded(text: str) -> Config:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        file = Path(folder, "gateway.toml")
        file.write_text('[gateway]\nid = "gw"\n[outbox]\npath = "/o.db"\n' + text)
        return load(file)


def test_what_the_outbox_cannot_take_back_has_to_wait() -> None:
    """A plan without it names it instead."""
    found = without(Plan(uplinks=Changes(added=("a", "b"))), ["a"])
    assert found == Plan(uplinks=Changes(added=("b",)), restart=("uplinks.a",), held=("a",))
    assert without(found, []) is found


def test_a_plan_in_words_and_as_an_answer() -> None:
    """Only what there is."""
    assert (str(Plan()), Plan().told()) == ("nothing differs", {})
    full = Plan(
        Changes(("a", "b"), ("c",), ("d",), ("e",)), Changes(("f",)), ("max_age",), ("outbox.path", "uplinks.x"), ("x",)
    )
    assert str(full) == (
        "devices added: a, b; devices removed: c; devices restarted: d; devices adjusted: e; uplinks added: f; "
        "changed: commands.max_age; restart to apply: outbox.path, uplinks.x"
    )
    assert full.told() == {
        "devices": {"added": ["a", "b"], "removed": ["c"], "restarted": ["d"], "adjusted": ["e"]},
        "uplinks": {"added": ["f"]},
        "commands": ["commands.max_age"],
        "restart_to_apply": ["outbox.path", "uplinks.x"],
    }
