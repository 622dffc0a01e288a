"""Names, aliases, options and plug-ins of providers."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from sardonyx import config
from sardonyx.errors import ProviderError
from sardonyx.providers import registry
from sardonyx.providers.base import Availability, Provider
from sardonyx.providers.reference import ReferenceProvider


class Plugin(ReferenceProvider):
    @property
    def name(self):
        return "plugin"

    @property
    def aliases(self):
        return ("PluginExecutionProvider",)


class Absent(Plugin):
    @property
    def name(self):
        return "absent"

    @property
    def aliases(self):
        return ()

    def availability(self):
        return Availability(False, "no such device", "plug one in")


class NotOne:
    pass


@pytest.fixture
def plugins(monkeypatch):
    """Entry points as another distribution would bring them, one of them broken."""
    found = [
        EntryPoint("plugin", f"{__name__}:Plugin", registry.GROUP),
        EntryPoint("absent", f"{__name__}:Absent", registry.GROUP),
        EntryPoint("broken", "no_such_module:Provider", registry.GROUP),
        EntryPoint("not-one", f"{__name__}:NotOne", registry.GROUP),
        EntryPoint("reference", f"{__name__}:Plugin", registry.GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: found)
    registry._entries.cache_clear()
    yield
    registry._entries.cache_clear()


def test_built_in_without_metadata(monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda group: [])
    registry._entries.cache_clear()
    try:
        assert isinstance(registry.get("reference"), Provider)
        assert {"cpu", "reference"} <= set(registry.names())
    finally:
        registry._entries.cache_clear()


def test_metadata_names_what_the_package_names():
    from importlib.metadata import entry_points

    declared = {entry.name: entry.value for entry in entry_points(group=registry.GROUP)}
    assert registry._BUILT_IN.items() <= declared.items()


def test_aliases(plugins):
    assert registry.get("plugin") is registry.get("PluginExecutionProvider")
    assert registry.get("ReferenceExecutionProvider") is registry.get("reference")


def test_built_in_names_cannot_be_taken_over(plugins):
    assert type(registry.get("reference")) is ReferenceProvider


def test_unknown_name_lists_what_there_is(plugins):
    with pytest.raises(ProviderError) as caught:
        registry.get("plugins")
    for word in ("'plugins'", "reference", "PluginExecutionProvider", "did you mean 'plugin'?"):
        assert word in str(caught.value)


def test_broken_plugins_say_so_and_hide_nothing(plugins):
    with pytest.raises(ProviderError, match="no_such_module"):
        registry.get("broken")
    with pytest.raises(ProviderError, match="is not a provider"):
        registry.get("not-one")
    states = registry.availability()
    assert states["plugin"].available
    assert not states["broken"].available and "no_such_module" in states["broken"].reason
    assert (states["absent"].reason, states["absent"].fix) == ("no such device", "plug one in")
    assert "plugin" in registry.available() and "broken" not in registry.available()


def test_absent_provider_is_an_error_not_a_fallback(plugins):
    with pytest.raises(ProviderError, match=r"'absent' cannot run here: no such device; plug one in"):
        registry.resolve(["absent", "reference"])


def test_resolve_forms(plugins):
    for providers, options in (
        (["plugin", "reference"], None),
        (["PluginExecutionProvider", "reference"], [{"a": 1}, {}]),
        ([("plugin", {"a": 1}), "reference"], None),
    ):
        choices = registry.resolve(providers, options)
        assert [choice.provider.name for choice in choices] == ["plugin", "reference"]
        assert not any(choice.implied for choice in choices)
        if options or isinstance(providers[0], tuple):
            assert choices[0].options == {"a": "1"}


def test_host_steps_bring_their_provider(plugins, monkeypatch):
    monkeypatch.setitem(registry._HOST, "plugin", ("reference",))
    first, second = registry.resolve(["plugin"])
    assert (first.provider.name, first.implied) == ("plugin", False)
    assert (second.provider.name, second.implied) == ("reference", True)
    assert [choice.implied for choice in registry.resolve(["reference", "plugin"])] == [False, False]
    assert len(registry.resolve(["reference"])) == 1


def test_default_is_the_knob(plugins, monkeypatch):
    assert config.PROVIDERS.default() == ("cpu",)
    monkeypatch.setenv("SARDONYX_PROVIDERS", "plugin, reference")
    assert [choice.provider.name for choice in registry.resolve(None)] == ["plugin", "reference"]
    assert [choice.provider.name for choice in registry.resolve([])] == ["plugin", "reference"]


@pytest.mark.parametrize(
    ("providers", "options", "words"),
    [
        ("plugin", None, "must be a list"),
        (5, None, "must be a list"),
        ([5], None, "cannot be read"),
        ([("plugin", 5)], None, "cannot be read"),
        ([("plugin", {}, {})], None, "cannot be read"),
        (["plugin"], [{}, {}], "one mapping for each"),
        ([("plugin", {})], [{"a": 1}], "one mapping for each"),
        (["plugin", "PluginExecutionProvider"], None, "named twice"),
    ],
)
def test_bad_arguments(plugins, providers, options, words):
    with pytest.raises(ProviderError, match=words):
        registry.resolve(providers, options)
