"""Which commands the head is given for its models. The lab runs them for real."""

import hashlib
import json
from typing import Any

from roles.model_serving import env_file, steps
from roles.model_serving.model import Model
from tests.roles.fake_host import Change, changes

TINY = Model(model_id="tiny-a", accelerator_type="cpu")
BIG = Model(model_id="Org/Big")
MATCH = "Model units match the model list"


def known(model: Model, **differing: Any) -> dict[str, Any]:
    """A model that the head knows, as its overview describes it: deployed and running, but for ``differing``."""
    digest = hashlib.sha256(env_file.render(model).encode()).hexdigest()
    return {model.slug: {"env_sha256": digest, "enabled": True, "step": "none", "ready": True, **differing}}


def matched(models: list[Model], overview: dict[str, Any]) -> Change | None:
    return changes(steps.install, {"model_units overview": json.dumps(overview)}, models=models).get(MATCH)


def test_a_blank_head_gets_an_env_file_for_each_model_and_units_that_match() -> None:
    change = changes(steps.install, {}, models=[TINY, BIG])[MATCH]
    assert change.files == {
        "/etc/rayrack/models/tiny-a.env.new": env_file.render(TINY),
        "/etc/rayrack/models/org-big.env.new": env_file.render(BIG),
    }
    assert change.commands[-1] == "/opt/rayrack/bin/model_units apply tiny-a org-big"


def test_an_env_file_is_never_readable_for_everybody_under_its_own_name() -> None:
    change = changes(steps.install, {}, models=[TINY])[MATCH]
    new = "/etc/rayrack/models/tiny-a.env"
    assert change.commands[0] == f"chown root:rayrack {new}.new && chmod 640 {new}.new && mv {new}.new {new}"


def test_the_head_learns_the_order_of_the_list_before_a_unit_starts() -> None:
    done = changes(steps.install, {}, models=[TINY, BIG])
    assert done["Order in which models start"].files == {"/etc/rayrack/start-order": "tiny-a\norg-big\n"}
    assert list(done).index("Order in which models start") < list(done).index(MATCH)


def test_a_second_run_changes_nothing() -> None:
    assert matched([TINY, BIG], known(TINY) | known(BIG)) is None


def test_of_two_models_only_the_changed_one_gets_a_new_file() -> None:
    changed = TINY.model_copy(update={"dtype": "half"})
    change = matched([changed, BIG], known(TINY) | known(BIG))
    assert change is not None
    assert list(change.files) == ["/etc/rayrack/models/tiny-a.env.new"]


def test_a_model_that_left_the_list_is_not_named_any_more() -> None:
    change = matched([BIG], known(TINY) | known(BIG))
    assert change == Change(("/opt/rayrack/bin/model_units apply org-big",), {})


def test_the_last_model_can_be_removed() -> None:
    assert matched([], known(TINY)) == Change(("/opt/rayrack/bin/model_units apply",), {})


def test_an_interrupted_run_is_finished() -> None:
    for differing in ({"step": "start"}, {"step": "restart"}, {"enabled": False}):
        change = matched([TINY], known(TINY, **differing))
        assert change == Change(("/opt/rayrack/bin/model_units apply tiny-a",), {})


def test_the_unit_and_its_programs_are_put_before_the_units_are_started() -> None:
    done = list(changes(steps.install, {}, models=[TINY]))
    assert done[-1] == MATCH
    assert {"Programs of the models' units", "Unit rayrack-model@.service"} <= set(done)
    assert done.index("systemd reads the models' unit") < done.index(MATCH)


def test_every_node_gets_the_modules_that_engines_import_where_they_look_for_them() -> None:
    import serve_app

    put = [path for change in changes(steps.install_engine_environment, {}).values() for path in change.files]
    assert put == [f"{serve_app.ENGINE_ENVIRONMENT}/{name}.py" for name in ("rayrack_application", "sitecustomize")]
